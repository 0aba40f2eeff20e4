"""How close an artifact is to the float model, and whether one is closer than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.ir import DType
from edgec.targets.tflite.model import Model

__all__ = [
    "Interval",
    "agrees",
    "decibels",
    "is_right",
    "mean_difference",
    "packed_share",
    "sqnr_difference",
]

Array = NDArray[Any]

DRAWS = 2000
_LEAST_NOISE = 1e-20
"""Of the signal: where there is no noise at all, this stands for it."""


def agrees(a: Array, b: Array) -> Array:
    """Return for each row whether both have a largest class in common.

    Integers often tie: any of the classes that share the largest number counts.
    """
    best = (a == a.max(axis=1, keepdims=True)) & (b == b.max(axis=1, keepdims=True))
    found: Array = best.any(axis=1)
    return found


def is_right(scores: Array, labels: Array) -> Array:
    """Return for each row whether its largest class, the first if they tie, is the label."""
    found: Array = scores.argmax(axis=1) == labels
    return found


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two energies in decibels, at most 200."""
    return float(10 * np.log10(signal / max(noise, _LEAST_NOISE * signal)))


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference with the 95 % of the bootstrap around it; positive where we are better."""

    value: float
    low: float
    high: float

    @property
    def is_worse(self) -> bool:
        """Whether we are worse beyond noise."""
        return self.high < 0

    @property
    def is_better(self) -> bool:
        """Whether we are better beyond noise."""
        return self.low > 0

    def __str__(self) -> str:
        return f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def mean_difference(ours: Array, theirs: Array, seed: int = 0) -> Interval:
    """Return the difference of two means over the same samples, in hundredths."""
    each = ours.astype(np.float64) - theirs.astype(np.float64)
    drawn = np.array([100 * each[rows].mean() for rows in _draws(len(each), seed)])
    return _interval(100 * float(each.mean()), drawn)


def sqnr_difference(ours: Array, theirs: Array, seed: int = 0) -> Interval:
    """Return the difference of two signal-to-noise ratios over the same samples, in decibels.

    Parameters
    ----------
    ours, theirs
        Energy of the noise in each sample; the signal is that of the float model in both.
    """

    def ratio(rows: Any) -> float:
        mine, others = float(ours[rows].sum()), float(theirs[rows].sum())
        least = 1e-20 * max(mine, others) or 1.0
        return float(10 * np.log10(max(others, least) / max(mine, least)))

    drawn = np.array([ratio(rows) for rows in _draws(len(ours), seed)])
    return _interval(ratio(slice(None)), drawn)


def _draws(count: int, seed: int) -> list[Array]:
    """Return samples drawn with replacement: the same ones for every pair of artifacts."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, count, count) for _ in range(DRAWS)]


def _interval(value: float, drawn: Array) -> Interval:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, float(low), float(high))


_PACKED = ("CONV_2D", "FULLY_CONNECTED")
"""What LiteRT has kernels for whose weights have 4 bits."""


def packed_share(model: Model) -> float:
    """Return the share of weights in 4 bits among the layers that have a kernel for them."""
    bits = {DType.INT4: 0, DType.INT8: 0}
    seen: set[int] = set()
    for op in model.operators:
        if op.code not in _PACKED or op.inputs[1] in seen:
            continue
        seen.add(op.inputs[1])
        weight = model.tensors[op.inputs[1]]
        if weight.data is not None:
            # Weights that stay float count as those in 8 bits: they could have had 4.
            packed = DType.INT4 if weight.dtype is DType.INT4 else DType.INT8
            bits[packed] += int(np.prod(weight.shape))
    return bits[DType.INT4] / max(sum(bits.values()), 1)
