"""Options that several commands share, and the reading of what the user wrote in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "calibration_options",
    "channel_multiple_option",
    "goal_options",
    "json_option",
    "parse_shapes",
    "quantization_options",
    "range_options",
    "shape_option",
    "technique_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(what: str) -> Callable[[_Command], _Command]:
    """Return the ``--json`` option."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON.")


def calibration_options(command: _Command) -> _Command:
    """Add the options of commands that quantize for one target without compiling."""
    options = (
        click.option(
            "--calibration",
            type=click.Path(path_type=Path),
            metavar="PATH",
            required=True,
            help="Samples: .npz, .npy, or a folder of those or of images.",
        ),
        click.option(
            "-t",
            "--target",
            type=click.Choice(["tflite", "onnxruntime"]),
            default="tflite",
            show_default=True,
            help="What the model is quantized for.",
        ),
        range_options,
    )
    return _with(command, options)


def range_options(command: _Command) -> _Command:
    """Add the options that say how samples are read, and what follows from them."""
    options = (
        click.option(
            "--ranges",
            type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
            help="How activation ranges follow from the samples.",
        ),
        click.option(
            "--percentile",
            type=click.FloatRange(50, 100, min_open=True),
            metavar="PERCENT",
            help="Share of the values that --ranges percentile keeps, for instance 99.99.",
        ),
        click.option(
            "--preprocess",
            metavar="TEXT",
            help="How images become inputs, for instance 'size=224,layout=nchw,scale=1/255'.",
        ),
    )
    return _with(command, options)


def quantization_options(command: _Command) -> _Command:
    """Add the options that say what becomes of layers that are quantized."""
    options = (
        click.option(
            "--scheme",
            metavar="WORDS",
            help="How integers are stored, in words with commas between, such as "
            "'symmetric,power-of-two'; the target chooses what is not said. Activations: int8 "
            "or uint8; asymmetric, or symmetric with zero in the middle. Weights: per-channel "
            "or per-tensor scales. All scales: any-scale or power-of-two.",
        ),
        click.option(
            "--effort",
            type=click.Choice(["fast", "default", "full", "max"]),
            default="default",
            show_default=True,
            help="What is done to keep the accuracy of a quantized model: fast finds ranges "
            "only; default chooses ranges, rounds weights and sets biases by what the float "
            "model computes; full does so on more of the samples; max then lets gradients "
            "round the weights, for minutes or hours, and says how long before it starts.",
        ),
        click.option(
            "--keep-float",
            metavar="LAYER",
            multiple=True,
            help="A layer that is not quantized, by its name in the model; may be repeated.",
        ),
    )
    return _with(command, options)


def technique_option(command: _Command) -> _Command:
    """Add the ``--technique`` option."""
    option = click.option(
        "--technique",
        "techniques",
        type=click.Choice(_TECHNIQUES),
        multiple=True,
        help="What may be done to the structure; may be repeated. By default what makes the "
        "target faster, as far as its kernels are known.",
    )
    return option(command)


def channel_multiple_option(command: _Command) -> _Command:
    """Add the ``--channel-multiple`` option."""
    option = click.option(
        "--channel-multiple",
        type=click.IntRange(1),
        metavar="N",
        help="Layers keep a multiple of so many channels; by default what the target's "
        "kernels compute at a time.",
    )
    return option(command)


def goal_options(command: _Command) -> _Command:
    """Add the options that say how much of a model may be left."""
    shares = {
        "macs": "Multiply-accumulates that may be left, such as 0.67x or 30M: structure is "
        "taken out where the outputs lose least, and what is left makes up for it. Needs "
        "--calibration, no labels and no training. One goal at a time; exit code 5 with the "
        "least that was found if it cannot be reached.",
        "size": "Likewise the size of the artifact: a share of the model's file, or 300kB.",
        "latency": "Likewise the time of one inference on this machine, measured: a share of "
        "what the artifact takes with all of its structure, or '12 ms'.",
        "ram": "Likewise the activations alive at once: 0.5x, or 64kB.",
    }
    options = [
        *(
            click.option(f"--target-{name}", metavar="MOST", help=text)
            for name, text in shares.items()
        ),
        technique_option,
        channel_multiple_option,
    ]
    return _with(command, options)


_TECHNIQUES = ("prune-channels", "factorize-separable", "factorize-low-rank")


def _with(command: _Command, options: Sequence[Callable[[Any], Any]]) -> _Command:
    """Add options to a command, in the order in which its help is to show them."""
    for option in reversed(options):
        command = option(command)
    return command


def shape_option(command: _Command) -> _Command:
    """Add the ``--shape`` option."""
    option = click.option(
        "--shape",
        "shapes",
        metavar="NAME=1,3,224,224",
        multiple=True,
        help="Shape of an input that the model leaves open; may be repeated. "
        "An open batch is 1 unless given.",
    )
    return option(command)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
    """Return the shapes by input.

    Raises
    ------
    click.BadParameter
        If one is malformed or given twice.
    """
    shapes: dict[str, tuple[int | str, ...]] = {}
    for text in texts:
        # Names of inputs may hold anything, so the last sign is the one that divides.
        name, equals, lengths = text.rpartition("=")
        dims = tuple(_length(part.strip()) for part in lengths.split(",")) if lengths else ()
        if not equals or not name or not dims or any(d is None for d in dims):
            raise click.BadParameter(
                f"{text!r} is not NAME=1,3,224,224: an input, '=', and positive lengths",
                param_hint="--shape",
            )
        if name in shapes:
            raise click.BadParameter(f"{name!r} is given twice", param_hint="--shape")
        shapes[name] = tuple(d for d in dims if d is not None)
    return shapes


def _length(text: str) -> int | str | None:
    if text.isascii() and text.isdigit():
        return int(text) or None
    return text if text.isidentifier() else None
