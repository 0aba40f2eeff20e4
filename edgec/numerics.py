"""How far two sets of numbers are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array

__all__ = ["EXACT_DB", "Agreement", "relative_error", "sqnr"]

EXACT_DB = 200.0
"""The signal-to-noise ratio reported where there is no noise at all."""


def sqnr(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)``, at most `EXACT_DB`; energies, not amplitudes."""
    if noise == 0:
        return EXACT_DB
    if signal == 0 or not math.isfinite(noise):
        return -EXACT_DB
    return float(min(EXACT_DB, max(-EXACT_DB, 10 * math.log10(signal / noise))))


def relative_error(want: Mapping[str, Array], got: Mapping[str, Array]) -> float:
    """Return the largest error of any output, relative to the largest value of that output.

    Infinite where an output is not a number and should be, or has another shape.
    """
    worst = 0.0
    for name, w in want.items():
        g = got[name]
        if w.shape != g.shape:
            return math.inf
        if w.dtype.kind not in "fiu":
            worst = max(worst, 0.0 if np.array_equal(w, g) else math.inf)
            continue
        a, b = w.astype(np.float64), g.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if same.all():
            continue
        scale = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
        error = float(np.max(np.abs(a[~same] - b[~same])))
        worst = max(worst, error / scale if scale else math.inf)
        if math.isnan(error):
            return math.inf
    return worst


@dataclass(slots=True)
class _Output:
    """Running sums over one output."""

    signal: float = 0.0
    noise: float = 0.0
    max_error: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    finite: bool = True
    low_got: float = math.inf
    high_got: float = -math.inf
    agreed: int = 0
    judged: int = 0
    first: tuple[Array, Array] | None = None
    change: float = 0.0
    varies_got: bool = False

    def see(self, want: Array, got: Array) -> None:
        """Note how far the output is from what it was on the first sample."""
        if self.first is None:
            self.first = want.copy(), got.copy()
            return
        moved = np.abs(want.astype(np.float64) - self.first[0])
        self.change = max(self.change, float(np.max(moved, initial=0, where=moved == moved)))
        self.varies_got = self.varies_got or not np.array_equal(got, self.first[1])


class Agreement:
    """Running comparison of an artifact with the reference, sample by sample.

    Energies are summed over all samples before the ratio is taken, as in
    ``SQNR = 10 log10(sum ref^2 / sum err^2)``.
    """

    def __init__(self) -> None:
        self._outputs: dict[str, _Output] = {}
        self.samples = 0

    def add(self, want: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        """Compare one sample: one array for each output, in the reference's shapes."""
        self.samples += 1
        for name, w in want.items():
            o = self._outputs.setdefault(name, _Output())
            o.see(w, got[name])
            a = w.astype(np.float64).ravel()
            b = got[name].astype(np.float64).ravel()
            judged = np.isfinite(a)  # where the reference is no number, nothing is wrong
            a, b = a[judged], b[judged]
            if not np.isfinite(b).all():
                o.finite = False
                b = np.nan_to_num(b, posinf=0.0, neginf=0.0)
            if not a.size:
                continue
            error = b - a
            o.signal += float(a @ a)
            o.noise += float(error @ error)
            o.max_error = max(o.max_error, float(np.abs(error).max()))
            o.low, o.high = min(o.low, float(a.min())), max(o.high, float(a.max()))
            o.low_got = min(o.low_got, float(b.min()))
            o.high_got = max(o.high_got, float(b.max()))
            if w.ndim == 2 and w.shape[1] > 1 and w.dtype.kind == "f":
                o.judged += len(w)
                o.agreed += _agreed(w, got[name])

    @property
    def sqnr_db(self) -> float:
        """Of the worst output."""
        return min((sqnr(o.signal, o.noise) for o in self._outputs.values()), default=EXACT_DB)

    @property
    def max_error(self) -> float:
        """The largest absolute error of any output."""
        return max((o.max_error for o in self._outputs.values()), default=0.0)

    @property
    def max_relative_error(self) -> float:
        """The largest error, relative to the range of its output in the reference."""
        return max(
            (
                o.max_error / (o.high - o.low) if o.high > o.low else o.max_error
                for o in self._outputs.values()
            ),
            default=0.0,
        )

    @property
    def top1(self) -> float | None:
        """Share of rows with the same largest class; ``None`` if no output is [N, classes]."""
        judged = sum(o.judged for o in self._outputs.values())
        agreed = sum(o.agreed for o in self._outputs.values())
        return agreed / judged if judged else None

    def not_finite(self) -> tuple[str, ...]:
        """Names of the outputs that were not finite numbers somewhere."""
        return tuple(name for name, o in self._outputs.items() if not o.finite)

    def constant(self) -> tuple[str, ...]:
        """Names of the outputs that never vary although the reference does.

        Within a sample, or from one sample to the next; there by at least a tenth of its
        range, since small changes are below what 8 bits resolve.
        """
        return tuple(
            name
            for name, o in self._outputs.items()
            if (o.low_got == o.high_got and o.low < o.high)
            or (o.change > (o.high - o.low) / 10 and not o.varies_got)
        )


def _agreed(want: Array, got: Array) -> int:
    """Count rows whose largest class in `want` is among the largest in `got`: ties agree."""
    got = got.reshape(want.shape)
    chosen = np.take_along_axis(got, want.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    return int(np.count_nonzero(chosen >= got.max(axis=1)))
