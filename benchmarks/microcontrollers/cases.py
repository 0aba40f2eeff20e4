"""The models, what they are fed, and what others take for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.models import DATA, Array, loader
from edgec.program import Program
from edgec.program.passes import LOSSLESS, RemoveConstantChannels, run_passes
from edgec.program.reading import read_program
from edgec.targets.microcontroller.emulation.inputs import random_inputs

__all__ = ["CASES", "CMSIS_NN", "GATED", "Case", "bound", "kind_of", "named"]

_MLPERF = DATA / "models" / "mlperf_tiny"
_MICRO = DATA / "models" / "tflite_micro"


@dataclass(frozen=True)
class Case:
    """A model.

    Parameters
    ----------
    name
        As the commands and tables say it.
    real
        Returns real inputs as real numbers; ``None`` where there are none here.
    """

    name: str
    path: Path
    real: Callable[[int], Array] | None = None

    @cached_property
    def program(self) -> Program:
        """What the file says."""
        return read_program(self.path)

    def prepared(self, removing: bool = False) -> Program:
        """Return the program after lossless passes.

        Parameters
        ----------
        removing
            Whether channels that are constant are left out, too.
        """
        passes = (p for p in LOSSLESS if removing or not isinstance(p, RemoveConstantChannels))
        return run_passes(self.program, passes).program

    @cached_property
    def data(self) -> bytes:
        """The file."""
        return self.path.read_bytes()

    def samples(self, count: int) -> list[list[Array]]:
        """Return real inputs where there are some, else random ones of a fixed seed."""
        tensors = [self.program.tensors[k] for k in self.program.inputs]
        if self.real is None:
            return [list(row) for row in random_inputs(tensors, count)]
        (tensor,) = tensors
        steps = np.round(self.real(count) / tensor.scale) + tensor.zero_point
        numbers = np.clip(steps, -128, 127).astype(np.int8)
        return [[row.reshape(tensor.shape)] for row in numbers]


def _keywords(count: int) -> Array:
    inputs: Array = loader().keywords()[0][:count]
    return inputs


def _cifar(count: int) -> Array:
    images: Array = loader().cifar10("test")[0][:count]
    return images.astype(np.float64)


def _images(count: int) -> Array:
    images: Array = loader().imagenet(96)[0][:count]
    return images / 255.0


def _grey(count: int) -> Array:
    """Return greys between -1 and 1, as person_detect takes them."""
    grey: Array = _images(count) @ np.array([0.299, 0.587, 0.114])
    return grey[..., np.newaxis] * 2 - 1


CASES = {
    case.name: case
    for case in (
        Case("AD", _MLPERF / "ad01_int8.tflite"),
        Case("KWS", _MLPERF / "kws_ds_cnn_int8.tflite", _keywords),
        Case("IC", _MLPERF / "resnet8_cifar10_int8.tflite", _cifar),
        Case("VWW", _MLPERF / "vww_96_int8.tflite", _images),
        Case("wakeword", _MLPERF / "streaming_wakeword_int8.tflite"),
        Case("hello_world", _MICRO / "hello_world_int8.tflite"),
        Case("micro_speech", _MICRO / "micro_speech_int8.tflite"),
        Case("person_detect", _MICRO / "person_detect_int8.tflite", _grey),
    )
}
"""By name."""

GATED = ("AD", "KWS", "IC", "VWW")
"""Those that bounds are set for."""

CMSIS_NN = {
    "cortex-m4": {"AD": 582_924, "KWS": 7_699_880, "IC": 29_863_358, "VWW": 24_102_022},
    "cortex-m33": {"AD": 583_391, "KWS": 7_682_172, "IC": 29_962_249, "VWW": 24_046_830},
    "cortex-m55": {"AD": 285_538, "KWS": 1_816_431, "IC": 4_912_194, "VWW": 6_558_828},
}
"""Instructions of TFLite Micro with CMSIS-NN (August 2026, GCC 12.2 -O2), one inference."""

_KINDS = {
    "depthwise": "7.8-8.1",
    "1x1": "2.1-2.35",
    "1x1 strided": "3.8",
    "3x3": "2.2",
    "first layer": "6.1",
    "10x4": "3.5",
    "dense": "2.2-3.4",
}


def kind_of(program: Program, layer: int) -> tuple[str, str]:
    """Return what kind a layer is, and CMSIS-NN's instructions for each MAC of such on M4."""
    view = program.layer(program.steps[layer])
    if view.op.code == "DEPTHWISE_CONV_2D":
        return "depthwise", _KINDS["depthwise"]
    if view.op.code == "FULLY_CONNECTED":
        return "dense", _KINDS["dense"]
    if view.op.code != "CONV_2D":
        return view.op.code.lower(), "-"
    _, height, width, channels = view.input(1).shape
    kind = "first layer" if channels == 3 else f"{height}x{width}"
    if kind == "1x1" and view.output.shape[1] < view.input(0).shape[1]:
        kind = "1x1 strided"
    return kind, _KINDS.get(kind, "-")


def bound(text: str, found: float, most: float) -> int:
    """Print whether a bound holds; return 1 if it does not."""
    holds = found <= most
    print(f"    {text}: {found:,} of {most:,}: {'holds' if holds else 'FAIL'}", flush=True)
    return int(not holds)


def named(names: Sequence[str]) -> list[Case]:
    """Return models by name."""
    return [CASES[name] for name in names]
