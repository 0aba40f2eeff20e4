"""``edgec inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.options import json_option, parse_shapes, shape_option

__all__ = ["command"]


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@shape_option
@json_option("what was found")
def command(model: Path, shapes: tuple[str, ...], as_json: bool) -> None:
    """Say what is in MODEL, an ONNX or TFLite file."""
    from edgec.cli.inspection import inspect_model, inspect_tflite
    from edgec.files import json_bytes

    lite = model.suffix == ".tflite"
    found = inspect_tflite(model) if lite else inspect_model(model, parse_shapes(shapes))
    if as_json:
        click.echo(json_bytes(found), nl=False)
        return
    from edgec.cli.render_inspection import print_inspection, print_tflite

    (print_tflite if lite else print_inspection)(found)
