"""Running statistics of values, in memory that does not grow with the samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edgec.ir import Array

__all__ = ["BINS", "Histogram", "Observer"]

BINS = 2048
"""Bins of a histogram. Quantization has 256 steps, so a step is several bins wide."""

_SAMPLED = 1 << 16
"""Elements of one value in one sample that enter its histogram; extremes use all of them."""


@dataclass(slots=True)
class Histogram:
    """Counts over a range that doubles when a value falls outside of it.

    Zeros are not counted: every range of a quantized value holds zero exactly, so they add
    no error, and after a ReLU they would drown the rest.
    """

    low: float = 0.0
    high: float = 0.0
    halves: Array = field(default_factory=lambda: np.zeros((2, BINS), np.int64))
    """One histogram each of every other sample: they differ as another set of samples would."""

    @property
    def counts(self) -> Array:
        """How many elements fell into each bin."""
        return np.asarray(self.halves.sum(axis=0))

    @property
    def centres(self) -> Array:
        """The middle of every bin, float64."""
        width = (self.high - self.low) / BINS
        return self.low + width * (np.arange(BINS) + 0.5)

    def add(self, x: Array, low: float, high: float, half: int = 0) -> None:
        """Count the elements of `x`, all of which lie between `low` and `high`."""
        if low == high == 0:
            return
        if self.low == self.high:
            pad = 0.0 if low < high else abs(low) / 2
            self.low, self.high = low - pad, high + pad
        while low < self.low:
            self._double(down=True)
        while high > self.high:
            self._double(down=False)
        self.halves[half] += np.bincount(self._bins(x), minlength=BINS)
        zeros = x.size - np.count_nonzero(x)
        if zeros:
            self.halves[half, self._bins(np.zeros(1, x.dtype))] -= zeros

    def _bins(self, x: Array) -> Array:
        width = self.high - self.low
        # float32 is faster, but its own ends do not leave room for the arithmetic.
        real = np.float32 if 1e-30 < width < 1e38 else np.float64
        bins = ((x - real(self.low)) * real(BINS / width)).astype(np.int32)
        return np.clip(bins, 0, BINS - 1, out=bins)

    def _double(self, *, down: bool) -> None:
        pairs = self.halves.reshape(2, -1, 2).sum(axis=2)
        empty = np.zeros((2, BINS // 2), np.int64)
        self.halves = np.concatenate((empty, pairs) if down else (pairs, empty), axis=1)
        width = self.high - self.low
        if down:
            self.low -= width
        else:
            self.high += width


@dataclass(slots=True)
class Observer:
    """What calibration remembers of one value."""

    low: float = math.inf
    high: float = -math.inf
    histogram: Histogram | None = None
    ends: list[tuple[float, float]] = field(
        default_factory=lambda: [(math.inf, -math.inf), (math.inf, -math.inf)]
    )
    """Lowest and highest number of every other sample, and of those between."""
    samples: int = 0

    def add(self, x: Array) -> None:
        """Take up one sample of the value; raise ``ValueError`` if it is not finite."""
        half = self.samples % 2
        self.samples += 1
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("is not a finite number")
        self.low, self.high = min(self.low, low), max(self.high, high)
        a, b = self.ends[half]
        self.ends[half] = min(a, low), max(b, high)
        if self.histogram is not None:
            flat = x.reshape(-1)
            # An odd stride visits all channels in turn, whichever axis runs fastest.
            stride = 1 if flat.size <= _SAMPLED else (flat.size // _SAMPLED) | 1
            self.histogram.add(flat[::stride], low, high, half)

    def half(self, which: int) -> Observer:
        """Return what half of the samples would have shown."""
        low, high = self.ends[which]
        if self.histogram is None:
            return Observer(low, high)
        halves = np.zeros_like(self.histogram.halves)
        halves[0] = self.histogram.halves[which]
        return Observer(low, high, Histogram(self.histogram.low, self.histogram.high, halves))
