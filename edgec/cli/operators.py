"""``edgec operators``."""

from __future__ import annotations

import click

from edgec.cli.options import json_option

__all__ = ["command"]


@click.command(
    "operators", short_help="List ONNX operators, and what each target makes of them."
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table as Markdown.")
@json_option("the table")
def command(as_markdown: bool, as_json: bool) -> None:
    """List the operators of ONNX, and what each target makes of them."""
    from dataclasses import asdict

    from edgec.files import json_bytes
    from edgec.operators import entries, markdown

    found = entries()
    if as_json:
        click.echo(json_bytes([asdict(e) for e in found]), nl=False)
        return
    if as_markdown:
        click.echo(markdown(found), nl=False)
        return
    from edgec.cli.render import console, table

    made = table("operator", "read as", "tflite", "tflite int8", "onnxruntime int8", text=3)
    for e in found:
        made.add_row(
            e.name,
            e.read_as or "untyped",
            e.tflite,
            "yes" if e.tflite_int8 else "-",
            "yes" if e.onnxruntime_int8 else "-",
        )
    console().print(made)
