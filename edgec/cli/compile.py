"""``edgec compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli.options import (
    goal_options,
    json_option,
    parse_shapes,
    quantization_options,
    range_options,
    shape_option,
)

__all__ = ["command"]

_PATH = click.Path(path_type=Path)

_RECIPES = (
    "static_wi8_ai8",
    "static_wi4_ai8",
    "static_wi8_ai16",
    "dynamic_wi8_afp32",
    "weight_only_wi8_afp32",
    "weight_only_wi4_afp32",
    "fp16",
)

_DEVICES = (
    "auto",
    *("x86-64-vnni", "x86-64", "arm64"),
    *("xnnpack", "ethos-u55", "ethos-u65", "ethos-u85"),
    *("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m33", "cortex-m4", "cortex-m55"),
    "cortex-m7",
)

_EXAMPLE = """\b
Example:
  edgec compile net.onnx -t tflite --recipe static_wi8_ai8 \\
      --calibration calib.npz --eval test.npz -o out
"""


@click.command("compile", epilog=_EXAMPLE)
@click.argument("model", type=_PATH)
@click.option(
    "-t",
    "--target",
    "targets",
    type=click.Choice(["tflite", "onnxruntime", "microcontroller"]),
    multiple=True,
    required=True,
    help="What to compile for; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=_PATH,
    metavar="DIR",
    required=True,
    help="Folder for the artifacts and report.json; made if it does not exist.",
)
@click.option(
    "--recipe",
    type=click.Choice(_RECIPES),
    help="How to quantize: integers of so many bits as weights (w) and activations (a). "
    "Without it all stays float32.",
)
@click.option(
    "--require-speedup",
    type=float,
    is_flag=False,
    flag_value=1.0,
    metavar="[TIMES]",
    help="Fail (exit code 3) unless every quantized artifact is so many times as fast as the "
    "float one on this machine; once if no number is given.",
)
@click.option(
    "--no-speed",
    is_flag=True,
    help="Do not time quantized artifacts beside float ones.",
)
@click.option(
    "--calibration",
    type=_PATH,
    metavar="PATH",
    help="Samples that show the ranges of activations: .npz, .npy, or a folder of those or of "
    "images.",
)
@click.option(
    "--eval",
    "evaluation",
    type=_PATH,
    metavar="PATH",
    help="Samples with an array 'labels' to measure the accuracy on.",
)
@range_options
@quantization_options
@goal_options
@shape_option
@click.option(
    "--io-dtype",
    type=click.Choice(["float32", "int8", "uint8", "int16"]),
    default="float32",
    show_default=True,
    help="Element type of the artifact's inputs and outputs.",
)
@click.option(
    "--io-layout",
    type=click.Choice(["keep", "nhwc"]),
    default="keep",
    show_default=True,
    help="Whether images keep the model's layout or come channels last.",
)
@click.option(
    "--metric",
    metavar="MODULE:FUNCTION",
    help="A Python function that scores the outputs instead of the accuracy.",
)
@click.option(
    "--label-offset",
    type=int,
    default=0,
    show_default=True,
    help="Added to each label before it is compared with a class.",
)
@click.option(
    "--device",
    type=click.Choice(_DEVICES),
    help="What the artifact is for: a kind of CPU for onnxruntime; for tflite xnnpack, a CPU, "
    "or an NPU of the family ethos-u; for microcontroller a core, cortex-m4 if none is named. "
    "Only the target that has it heeds it; auto is the CPU here.",
)
@click.option(
    "--recover",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=600,
    metavar="[STEPS]",
    help="Train the smaller or quantized model towards the original on the calibration "
    "samples, without labels; 600 steps if no number is given. Takes minutes, and needs "
    "PyTorch: pip install 'edgec[recover]'.",
)
@click.option(
    "--no-verify",
    is_flag=True,
    help="Do not check after each pass that the model computes the same.",
)
@click.option(
    "--no-proof",
    is_flag=True,
    help="Do not run the artifacts and compare them with the model; no golden file is written.",
)
@click.option(
    "--max-float-error",
    type=click.FloatRange(0),
    default=1e-3,
    show_default=True,
    help="Largest error of a float artifact, relative to the range of the output.",
)
@click.option(
    "--min-sqnr",
    "min_sqnr_db",
    type=float,
    default=5.0,
    show_default=True,
    help="Least signal-to-noise ratio of a quantized artifact, in dB.",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="Largest loss of an artifact: of accuracy with labels in --eval, in units of "
    "the metric with --metric, else of agreement with the float model. Layers get more bits, "
    "the cheapest first, or more of the structure stays, until it holds; exit code 6 with the "
    "best found if it never does.",
)
@click.option(
    "--max-ram",
    metavar="BYTES",
    help="The most RAM that target microcontroller may take, arena, variables and stack, such "
    "as 48k; exit code 5 with what it takes if that is more.",
)
@click.option(
    "--max-flash",
    metavar="BYTES",
    help="The most flash that target microcontroller may take, constants and code.",
)
@click.option(
    "--project",
    type=click.Choice(["plain", "arduino", "zephyr", "tflm"]),
    help="Make a folder that builds: with a Makefile and CMakeLists.txt, or a library for "
    "Arduino or Zephyr; and a self-test for the board, with one sample and its golden output. "
    "tflm packs the model for those who run TFLite Micro instead: as an array, with the "
    "operators it needs and the least arena that it runs in.",
)
@click.option(
    "--share-weights",
    metavar="VALUES",
    help="Let the int8 weights of each layer take so few values, such as 16, or of each output "
    "channel with 16/channel. The file has the same size and runs as fast, but it compresses "
    "better: in a package, and on devices that read compressed weights. It costs accuracy, "
    "which the report tells.",
)
@click.option(
    "--prune-weights",
    metavar="SHARE",
    help="Set so many weights to zero, such as 0.5 of all, or 2:4 for two of every four "
    "along the input channels; what is left makes up for it. For the size of packages only: "
    "zeros compress, and nothing runs faster. It costs accuracy, and needs --calibration.",
)
@json_option("the report, and nothing else,")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but problems.")
def command(
    model: Path,
    output: Path,
    shapes: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    no_verify: bool,
    no_proof: bool,
    no_speed: bool,
    **options: Any,
) -> None:
    """Compile MODEL, an ONNX file, for one or more targets.

    Every artifact is run and compared with the model before it is written, unless
    --no-proof says otherwise.
    """
    from edgec.cli.building import build
    from edgec.compiler import CompileOptions

    settings = CompileOptions(
        **{**options, "targets": tuple(dict.fromkeys(options["targets"]))},
        shapes=parse_shapes(shapes),
        verify=not no_verify,
        prove=not no_proof,
        compare_speed=not no_speed,
    )
    result = build(model, settings, output, quiet=quiet or as_json)
    if as_json:
        from edgec.cli.boundary import print_json

        print_json(result.report, result.refused)
        return
    from edgec.cli.render import print_report

    print_report(result.report, folder=output, quiet=quiet)
    if result.refused is not None:
        raise result.refused
