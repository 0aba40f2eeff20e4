"""From statistics of a value to the range that its integers cover."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.calibration.observe import Observer
from edgec.ir import Array

__all__ = ["DEFAULT", "METHODS", "Entropy", "MinMax", "Mse", "Percentile", "RangeMethod"]

Range = tuple[float, float]

_LEVELS = 256


@dataclass(frozen=True, slots=True)
class MinMax:
    """All that was seen: nothing is clipped, outliers cost resolution."""

    name: ClassVar[str] = "minmax"
    needs_histogram: ClassVar[bool] = False

    def range(self, seen: Observer) -> Range:
        """Return the range for a value."""
        return _with_zero(seen.low, seen.high)


@dataclass(frozen=True, slots=True)
class Percentile:
    """What is left when the same share of non-zero elements is cut off at both ends.

    Parameters
    ----------
    percentile
        Share of the elements kept, in percent.
    """

    name: ClassVar[str] = "percentile"
    needs_histogram: ClassVar[bool] = True
    percentile: float = 99.99

    def range(self, seen: Observer) -> Range:
        """Return the range for a value."""
        low, high = _with_zero(seen.low, seen.high)
        histogram = seen.histogram
        if histogram is None or not histogram.counts.sum():
            return low, high
        share = np.cumsum(histogram.counts) / histogram.counts.sum()
        cut = (1 - self.percentile / 100) / 2
        edges = np.linspace(histogram.low, histogram.high, len(share) + 1)
        first = int(np.searchsorted(share, cut, side="right"))
        last = int(np.searchsorted(share, 1 - cut, side="left"))
        return _with_zero(max(low, float(edges[first])), min(high, float(edges[last + 1])))


@dataclass(frozen=True, slots=True)
class Mse:
    """The range with the least squared error of the quantized value.

    Each end is shrunk in turn towards zero, over a grid of factors that is refined once
    around its best point; the error of a bin is that of its centre.
    """

    name: ClassVar[str] = "mse"
    needs_histogram: ClassVar[bool] = True
    steps: int = 40

    def range(self, seen: Observer) -> Range:
        """Return the range for a value."""
        low, high = _with_zero(seen.low, seen.high)
        histogram = seen.histogram
        if histogram is None or low == high:
            return low, high
        kept = histogram.counts > 0
        counts, centres = histogram.counts[kept].astype(np.float64), histogram.centres[kept]
        centres = np.clip(centres, low, high)
        a = b = 1.0
        for _ in range(2):
            b = self._best((a * low, high), counts, centres, moves=1)
            a = self._best((low, b * high), counts, centres, moves=0)
        return a * low, b * high

    def _best(self, ends: Range, counts: Array, centres: Array, *, moves: int) -> float:
        """Return the best factor for one end, with the other left where it is."""
        factors = np.linspace(0.2, 1.0, self.steps)
        best = 1.0
        for _ in range(2):
            low, high = (
                end * factors if side == moves else np.full(factors.shape, end)
                for side, end in enumerate(ends)
            )
            errors = _squared_error(low, high, counts, centres)
            # Of equal errors the widest range, which is the last.
            best = float(factors[len(errors) - 1 - int(np.argmin(errors[::-1]))])
            step = factors[1] - factors[0]
            factors = np.linspace(best - step, min(best + step, 1.0), self.steps // 2)
        return best


def _squared_error(low: Array, high: Array, counts: Array, centres: Array) -> Array:
    """Return the weighted squared error for each of several ranges."""
    scale = np.maximum(high - low, 1e-30) / (_LEVELS - 1)
    zero = np.rint(-low / scale)
    x = centres[None, :]
    steps = np.clip(np.rint(x / scale[:, None]) + zero[:, None], 0, _LEVELS - 1)
    error = (steps - zero[:, None]) * scale[:, None] - x
    return np.asarray((error * error) @ counts)


@dataclass(frozen=True, slots=True)
class Entropy:
    """The clipping at which the quantized distribution tells most about the original one.

    For thresholds on the magnitude, the clipped histogram ``P`` is compared with ``Q``, its
    merge into as many levels as quantization has; the least ``KL(P || Q)`` wins.

    References
    ----------
    S. Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """

    name: ClassVar[str] = "entropy"
    needs_histogram: ClassVar[bool] = True
    candidates: int = 64

    def range(self, seen: Observer) -> Range:
        """Return the range for a value."""
        low, high = _with_zero(seen.low, seen.high)
        histogram = seen.histogram
        if histogram is None or low == high:
            return low, high
        reach = max(-low, high)
        magnitudes = _folded(histogram.centres, histogram.counts, reach)
        levels = _LEVELS if low == 0 or high == 0 else _LEVELS // 2
        first = min(levels, len(magnitudes))
        tops = np.unique(np.linspace(first, len(magnitudes), self.candidates).astype(int))
        divergences = [_divergence(magnitudes, int(top), levels) for top in tops]
        # Of equal divergences the widest range.
        at = len(divergences) - 1 - int(np.argmin(divergences[::-1]))
        limit = reach * int(tops[at]) / len(magnitudes)
        return max(low, -limit), min(high, limit)


def _folded(centres: Array, counts: Array, reach: float) -> Array:
    """Return the histogram of magnitudes up to `reach`."""
    bins = np.minimum((np.abs(centres) / reach * len(counts)).astype(int), len(counts) - 1)
    return np.bincount(bins, weights=counts, minlength=len(counts))


def _divergence(magnitudes: Array, top: int, levels: int) -> float:
    """Return ``KL(P || Q)`` of clipping at bin `top` and merging into `levels`."""
    kept = magnitudes[:top].astype(np.float64)
    p = kept.copy()
    p[-1] += magnitudes[top:].sum()
    total = p.sum()
    if total == 0:
        return 0.0
    group = np.arange(top) * levels // top
    filled = kept > 0
    sums = np.bincount(group, weights=kept, minlength=levels)
    members = np.bincount(group, weights=filled, minlength=levels)
    q = np.where(filled, (sums / np.maximum(members, 1))[group], 0.0)
    seen = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum() / total
    p, q = p / total, q / max(q.sum(), 1e-30)
    # Mass that Q has no place for would be infinitely surprising; a large number orders it.
    return float((p[seen] * np.log(p[seen] / q[seen])).sum() + 20.0 * lost)


def _with_zero(low: float, high: float) -> Range:
    """Return the smallest range around another that holds zero, as every quantized one must."""
    return min(low, 0.0), max(high, 0.0)


RangeMethod = MinMax | Percentile | Entropy | Mse

DEFAULT = "percentile"
"""Of the four, the one with the best fidelity over the labelled models of the benchmarks."""

METHODS: Mapping[str, Callable[[], RangeMethod]] = {
    "minmax": MinMax,
    "percentile": Percentile,
    "entropy": Entropy,
    "mse": Mse,
}
