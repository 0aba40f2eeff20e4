"""``edgec demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli.options import json_option

__all__ = ["command"]

_RECIPES = {"float": None, "int8": "static_wi8_ai8"}


@click.command("demo", short_help="Compile the model that ships with edgec.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=Path("edgec-demo"),
    show_default=True,
    help="Folder for what is made.",
)
@json_option("both reports")
def command(output: Path, as_json: bool) -> None:
    """Compile the model that ships with edgec, in float and in int8."""
    from edgec.cli.building import build
    from edgec.compiler import CompileOptions
    from edgec.demo import CALIBRATION, MODEL, TEST
    from edgec.files import json_bytes

    reports: dict[str, dict[str, Any]] = {}
    for kind, recipe in _RECIPES.items():
        options = CompileOptions(
            targets=("tflite", "onnxruntime"),
            recipe=recipe,
            calibration=CALIBRATION,
            evaluation=TEST,
        )
        result = build(MODEL, options, output / kind, quiet=as_json)
        reports[kind] = dict(result.report)
        if not as_json:
            from edgec.cli.render import console, print_report

            console().print(f"{'' if kind == 'float' else chr(10)}{kind}\n")
            print_report(result.report, folder=output / kind)
    if as_json:
        click.echo(json_bytes(reports), nl=False)
        return
    from edgec.cli.render_demo import print_summary

    print_summary(reports, output)
