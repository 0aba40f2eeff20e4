"""``edgec check``."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.options import json_option, parse_shapes, shape_option

__all__ = ["command"]


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target", "-t", default="tflite", show_default=True, help="What to compile for."
)
@click.option(
    "--delegate",
    "delegates",
    multiple=True,
    default=("xnnpack",),
    show_default=True,
    help="Delegate of TFLite files to ask: xnnpack, gpu, ethos-u55, ethos-u65 or ethos-u85; "
    "may be repeated.",
)
@shape_option
@json_option("what was found")
def command(
    model: Path,
    target: str,
    delegates: tuple[str, ...],
    shapes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what a target or its delegates do not take of MODEL.

    Every layer that the target refuses, with the reason and a way out; exit code 5 if there is
    one. If there is none: every operator that a delegate would leave to the runtime's own
    kernels. MODEL is an ONNX file, or a TFLite file, of which the delegates are asked only.
    """
    from edgec.cli.render_check import print_support
    from edgec.errors import UnsupportedError
    from edgec.files import json_bytes
    from edgec.support import check_support

    found = check_support(model, target, delegates, parse_shapes(shapes))
    if as_json:
        click.echo(json_bytes(found), nl=False)
    else:
        print_support(found)
    if found["refused"]:
        raise click.exceptions.Exit(UnsupportedError.exit_code)
