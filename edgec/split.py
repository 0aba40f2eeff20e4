"""The samples of a compilation: those that calibrate, and those that prove."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgec.data import InputSpec, Samples
from edgec.errors import DataError, Diagnostic, OptionError
from edgec.frontend import Loaded
from edgec.ir import Array, ContainerType, DType, Graph, TensorType

__all__ = ["Source", "Split", "open_for"]

Source = Path | Mapping[str, Array]

_HELD_OUT_FROM = 8  # samples; with fewer, every one is needed for calibration
_HELD_OUT_MOST = 64


def open_for(
    loaded: Loaded, source: Source, preprocess: str | None, extras: tuple[str, ...] = ()
) -> Samples:
    """Open a data set for the inputs of a model.

    Parameters
    ----------
    preprocess
        How images in a folder become the input; not used for arrays.
    extras
        Names of arrays beside the inputs, such as labels.

    Raises
    ------
    DataError, OptionError
        If the data do not fit the model.
    """
    from edgec.data import Preprocessing, open_samples  # they take long to load

    for value in loaded.graph.inputs:
        if isinstance(value.type, ContainerType):
            raise OptionError(
                f"input {value.name} is {value.type}, and samples can be given for tensors only"
            )
    specs = [
        InputSpec(v.name, v.type.dtype.numpy, v.type.bound().ints, v.name in loaded.batched)
        for v in loaded.graph.inputs
    ]
    is_folder = isinstance(source, Path) and source.is_dir()
    text = preprocess if is_folder else None
    preprocessing = None if text is None else Preprocessing.parse(text)
    return open_samples(source, specs, preprocessing=preprocessing, extras=extras)


class Split:
    """Calibration samples in two parts; a random input where there are none.

    The last quarter, at most 64, is held out of calibration to prove artifacts on; with
    fewer than 8 samples none is, and all are used for both.

    Parameters
    ----------
    calibrates
        Whether the samples are calibrated on at all.
    """

    def __init__(
        self,
        loaded: Loaded,
        source: Source | None,
        preprocess: str | None,
        *,
        calibrates: bool,
    ) -> None:
        self._graph = loaded.graph
        self._samples: Samples | None = None
        self._first: dict[str, Array] | None = None
        self.notes: tuple[Diagnostic, ...] = ()
        if source is None:
            message = "no samples are given: passes and artifacts are proven on a random input"
            self.notes = (Diagnostic(message, hint="give --calibration"),)
            return
        self._samples = open_for(loaded, source, preprocess)
        self.notes = self._samples.notes
        count = self._samples.count
        held = min(count // 4, _HELD_OUT_MOST) if count >= _HELD_OUT_FROM else 0
        self._calibrated = count - held
        self._proof = range(self._calibrated if held else 0, count)
        if not held and calibrates:
            message = (
                f"with {count} samples none is held out: artifacts are proven on those they "
                "were calibrated on"
            )
            hint = f"give at least {_HELD_OUT_FROM} samples, better a few hundred"
            self.notes += (Diagnostic(message, "calibration", hint),)

    @property
    def calibration_count(self) -> int:
        """Number of samples that are calibrated on."""
        return 0 if self._samples is None else self._calibrated

    @property
    def proof_count(self) -> int:
        """Number of samples that artifacts are proven on."""
        return 1 if self._samples is None else len(self._proof)

    def calibration(self) -> Iterator[Mapping[str, Array]]:
        """Yield the samples to calibrate on, one at a time."""
        if self._samples is None:
            raise DataError("there are no calibration samples")
        return self._samples.feeds(range(self._calibrated))

    def proof(self) -> Iterator[Mapping[str, Array]]:
        """Yield the samples to prove artifacts on, one at a time."""
        if self._samples is None:
            return iter([self.first()])
        return self._samples.feeds(self._proof)

    def first(self) -> dict[str, Array]:
        """Return the sample that passes are verified on: the first of the proof."""
        if self._first is None:
            if self._samples is None:
                self._first = _random_feed(self._graph)
            else:
                self._first = next(self._samples.feeds(self._proof[:1]))
        return self._first

    def summary(self) -> dict[str, Any] | None:
        """Return what the report says of the samples."""
        if self._samples is None:
            return None
        return {
            "samples": self._calibrated,
            "held_out": self._samples.count - self._calibrated,
            "sha256": self._samples.digest(),
        }


def _random_feed(graph: Graph) -> dict[str, Array]:
    """Return an input that is the same every time: floats in [0, 1), small integers."""
    rng = np.random.default_rng(0)
    return {value.name: _random(value.type, rng) for value in graph.inputs}


def _random(t: TensorType, rng: np.random.Generator) -> Any:
    if isinstance(t, ContainerType):
        element = _random(t.element, rng)
        return [element] if t.kind == "seq" else element
    # Only what is in a container can be of a rank that is not known.
    shape = tuple(1 if isinstance(d, str) else d for d in t.dims or ())
    if t.dtype is DType.BOOL:
        return np.ones(shape, bool)
    if t.dtype.is_float:
        return np.asarray(rng.random(shape)).astype(t.dtype.numpy)
    if t.dtype is DType.STRING:
        return np.full(shape, "", object)
    return np.asarray(rng.integers(0, 2, shape)).astype(t.dtype.numpy)
