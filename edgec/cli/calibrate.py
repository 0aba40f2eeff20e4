"""``edgec calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli.options import calibration_options, json_option, parse_shapes, shape_option

__all__ = ["command"]


@click.command("calibrate")
@click.argument("model", type=click.Path(path_type=Path))
@calibration_options
@click.option(
    "--eval",
    "evaluation",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Samples with an array 'labels', which tell whether red and blue are swapped.",
)
@click.option(
    "--label-offset",
    type=int,
    default=0,
    show_default=True,
    help="Added to each label before it is compared with a class.",
)
@shape_option
@json_option("what was found")
def command(model: Path, shapes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Say what samples show of MODEL, and whether they look right.

    Runs MODEL, an ONNX file, on the calibration samples and writes nothing: ranges and
    histograms of all activations, outliers, where the range methods disagree, whether more
    samples would change the ranges, and what looks wrong with the samples.
    """
    from edgec.cli.building import check_inputs
    from edgec.cli.progress import progress
    from edgec.cli.render_calibration import print_calibration
    from edgec.compiler import CompileOptions
    from edgec.files import json_bytes
    from edgec.preparation import calibration_report

    target = options.pop("target")
    settings = CompileOptions(
        **options, targets=(target,), recipe="static_wi8_ai8", shapes=parse_shapes(shapes)
    )
    check_inputs(model, settings)
    with progress(quiet=as_json) as tell:
        found = calibration_report(model, settings, tell)
    if as_json:
        click.echo(json_bytes(found), nl=False)
    else:
        print_calibration(found)
