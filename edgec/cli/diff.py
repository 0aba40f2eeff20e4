"""``edgec diff``."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.options import json_option, parse_shapes, shape_option

__all__ = ["command"]


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@shape_option
@json_option("the difference")
def command(a: Path, b: Path, shapes: tuple[str, ...], as_json: bool) -> None:
    """Say how two models differ: A and B are ONNX or TFLite files.

    Operators added, removed and changed, with parameters, multiply-accumulates and bytes.
    Between an ONNX and a TFLite file only counts and sizes are compared.
    """
    from edgec.files import json_bytes
    from edgec.structure import compared, structure_of

    given = parse_shapes(shapes)
    found = compared(structure_of(a, given), structure_of(b, given))
    if as_json:
        click.echo(json_bytes(found), nl=False)
        return
    from edgec.cli.render_diff import print_difference

    print_difference(found)
