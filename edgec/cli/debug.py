"""``edgec debug``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli.options import (
    calibration_options,
    json_option,
    parse_shapes,
    quantization_options,
    shape_option,
)

__all__ = ["command"]

_EXAMPLE = """\b
Examples:
  edgec debug net.onnx --calibration calib.npz
  edgec debug net.onnx --calibration calib.npz --bisect --min-sqnr 20
"""


@click.command(
    "debug", epilog=_EXAMPLE, short_help="Say which layers of MODEL quantization hurts."
)
@click.argument("model", type=click.Path(path_type=Path))
@calibration_options
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Samples to measure on, at most; they are held out of the calibration.",
)
@click.option(
    "--order",
    type=click.Choice(["alone", "accumulated", "model"]),
    default="alone",
    show_default=True,
    help="What the table begins with: the layers that are worst alone, those that are worst "
    "after all before them, or the first of the model.",
)
@click.option(
    "--recipe",
    type=click.Choice(["static_wi8_ai8", "static_wi4_ai8", "static_wi8_ai16"]),
    default="static_wi8_ai8",
    show_default=True,
    help="How to quantize, as in edgec compile.",
)
@quantization_options
@click.option(
    "--bisect",
    is_flag=True,
    help="Search the fewest layers to keep in float so that the goal below holds.",
)
@click.option(
    "--min-sqnr",
    type=float,
    metavar="DB",
    help="Goal: the signal-to-noise ratio of the worst output.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Goal: the share of samples with the first class of the float model, such as 0.99.",
)
@shape_option
@json_option("what was found")
def command(
    model: Path,
    shapes: tuple[str, ...],
    samples: int,
    order: str,
    bisect: bool,
    min_sqnr: float | None,
    min_agreement: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which layers quantization hurts, and which to keep in float.

    For each layer of MODEL, an ONNX file: how far integers are from float with that layer alone
    quantized, and in the quantized model as it is, the worst first. Nothing is written.
    """
    from edgec.bisection import Required
    from edgec.cli.building import check_inputs
    from edgec.cli.progress import progress
    from edgec.cli.render_debug import print_debug
    from edgec.compiler import CompileOptions
    from edgec.debugging import DebugOptions, debug_model
    from edgec.files import json_bytes

    target = options.pop("target")
    settings = CompileOptions(**options, targets=(target,), shapes=parse_shapes(shapes))
    check_inputs(model, settings)
    debug = DebugOptions(samples, bisect, Required(min_sqnr, min_agreement))
    with progress(quiet=as_json) as tell:
        found = debug_model(model, settings, debug, tell)
    if order != "model":
        found["layers"].sort(key=lambda layer: layer[order]["sqnr_db"])
    if as_json:
        click.echo(json_bytes(found), nl=False)
    else:
        print_debug(found)
