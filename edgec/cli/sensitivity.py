"""``edgec sensitivity``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli.options import (
    channel_multiple_option,
    json_option,
    parse_shapes,
    shape_option,
    technique_option,
)

__all__ = ["command"]

_EXAMPLE = """\b
Example:
  edgec sensitivity net.onnx --calibration calib.npz --recipe static_wi8_ai8
"""


@click.command(
    "sensitivity",
    epilog=_EXAMPLE,
    short_help="Say what making MODEL smaller would cost, layer by layer.",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="PATH",
    required=True,
    help="Samples without labels: .npz, .npy, or a folder of those or of images.",
)
@click.option(
    "-t",
    "--target",
    type=click.Choice(["tflite", "onnxruntime"]),
    default="tflite",
    show_default=True,
    help="What the model is to be compiled for.",
)
@click.option(
    "--recipe",
    type=click.Choice(["static_wi8_ai8", "static_wi4_ai8", "static_wi8_ai16"]),
    help="How the model is to be quantized: what that costs each layer is measured too.",
)
@technique_option
@channel_multiple_option
@click.option(
    "--options",
    "most",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Lines for each place, evenly spread over what can be done to it; --json has all.",
)
@click.option(
    "--preprocess",
    metavar="TEXT",
    help="How images become inputs, for instance 'size=224,layout=nchw,scale=1/255'.",
)
@shape_option
@json_option("what was measured")
def command(
    model: Path,
    target: str,
    shapes: tuple[str, ...],
    most: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what each way to make MODEL smaller would cost and save, layer by layer.

    The cost is what the outputs lose with that alone, in nats for each sample, on samples held
    out; no labels are needed. Measurements are kept: a run that is stopped goes on where it
    was. Nothing is written beside.
    """
    from edgec.cli.building import check_inputs
    from edgec.cli.progress import progress
    from edgec.cli.render_sensitivity import print_sensitivity
    from edgec.compiler import CompileOptions
    from edgec.files import json_bytes
    from edgec.sensitivity import sensitivity_report

    settings = CompileOptions(**options, targets=(target,), shapes=parse_shapes(shapes))
    check_inputs(model, settings)
    with progress(quiet=as_json) as tell:
        found = sensitivity_report(model, settings, tell)
    if as_json:
        click.echo(json_bytes(found), nl=False)
    else:
        print_sensitivity(found, most)
