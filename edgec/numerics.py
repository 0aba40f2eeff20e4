"""How far two sets of numbers are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array

__all__ = ["EXACT_DB", "Agreement", "arrays_of", "relative_error", "sqnr"]

EXACT_DB = 200.0
"""The signal-to-noise ratio reported where there is no noise at all."""


def sqnr(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)``, at most `EXACT_DB`; energies, not amplitudes."""
    if noise == 0:
        return EXACT_DB
    if signal == 0 or not math.isfinite(noise):
        return -EXACT_DB
    return float(min(EXACT_DB, max(-EXACT_DB, 10 * math.log10(signal / noise))))


def arrays_of(values: Mapping[str, object]) -> dict[str, Array]:
    """Return the arrays in a model's inputs or outputs, which may be sequences or maps.

    Element 2 of sequence ``s`` is called ``s[2]``, and how many there are ``s.length``.
    """
    return {k: a for name, value in values.items() for k, a in _arrays(name, value)}


def _arrays(name: str, value: object) -> Iterator[tuple[str, Array]]:
    if isinstance(value, dict):
        # Keys and lengths are compared as texts: they agree or they do not.
        yield f"{name}.keys", np.array([str(key) for key in value])
        yield f"{name}.values", np.array(list(value.values()))
    elif isinstance(value, list):
        yield f"{name}.length", np.array(str(len(value)))
        for i, item in enumerate(value):
            yield from _arrays(f"{name}[{i}]", item)
    else:  # an optional that is not there is None, an array of no numbers
        yield name, np.asarray(value)


def relative_error(want: Mapping[str, Array], got: Mapping[str, Array]) -> float:
    """Return the largest error of any output, relative to the largest value of that output.

    Infinite where an output is not a number and should be, or has another shape.
    """
    worst = 0.0
    got = arrays_of(got)
    for name, w in arrays_of(want).items():
        g = got.get(name)
        if g is None or w.shape != g.shape:
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
        # An output that is zero everywhere has no scale; its errors stand for themselves.
        worst = max(worst, error / (scale or 1.0))
        if math.isnan(error):
            return math.inf
    return worst


@dataclass(slots=True)
class _Output:
    """Running sums over one output."""

    signal: float = 0.0
    noise: float = 0.0
    max_error: float = 0.0
    largest: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    low_got: float = math.inf
    high_got: float = -math.inf
    finite: bool = True
    same_kind: bool = True
    empty: bool = True
    numbers: int = 0
    agreed: int = 0
    rows: int = 0
    first: tuple[Array, Array] | None = None
    change: float = 0.0
    varies_got: bool = False
    least: float = 1e-30

    def add(self, want: Array, got: Array | None) -> None:
        """Take up one sample; ``None`` for one that is missing."""
        if got is None:
            self.same_kind = self.empty = False
            return
        numbers = want.dtype.kind in "fiub" or want.dtype.name == "bfloat16"
        if want.shape != got.shape or not numbers:
            self.same_kind &= want.shape == got.shape and np.array_equal(want, got)
            self.empty = False
            return
        if want.dtype == np.float16:  # what is smaller has lost its digits
            self.least = float(np.finfo(np.float16).tiny)
        a, b = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        self.empty &= not a.size
        # Where the model itself yields no number, the artifact must not yield one either.
        judged = np.isfinite(a)
        alike = (a == b) | (np.isnan(a) & np.isnan(b))
        self.finite &= bool(np.isfinite(b[judged]).all() and alike[~judged].all())
        self._sum(a[judged], np.nan_to_num(b[judged], posinf=0.0, neginf=0.0))
        self._follow(a, b)
        if want.ndim == 2 and want.shape[1] > 1 and want.dtype.kind == "f":
            self.rows += len(want)
            self.agreed += _agreed(want, got)

    def _sum(self, a: Array, b: Array) -> None:
        if not a.size:
            return
        error = b - a
        self.numbers += a.size
        self.signal += float(a @ a)
        self.noise += float(error @ error)
        self.max_error = max(self.max_error, float(np.abs(error).max()))
        self.largest = max(self.largest, float(np.abs(a).max()))
        self.low, self.high = min(self.low, float(a.min())), max(self.high, float(a.max()))
        self.low_got = min(self.low_got, float(b.min()))
        self.high_got = max(self.high_got, float(b.max()))

    def _follow(self, a: Array, b: Array) -> None:
        """Note how far the output is from what it was on the first sample."""
        if self.first is None:
            self.first = a, b
            return
        if a.size != self.first[0].size:  # the shape depends on the data
            self.varies_got = True
            return
        moved = np.abs(a - self.first[0])
        known = np.isfinite(moved)
        self.change = max(self.change, float(np.max(moved, initial=0, where=known)))
        self.varies_got = self.varies_got or not np.array_equal(b, self.first[1])

    @property
    def range(self) -> float:
        """What errors are compared with: the range, or a thousandth of the magnitude.

        An output that hardly varies on the samples has no range to speak of, but rounding
        still moves it in proportion to its magnitude. One number alone cannot vary: its
        magnitude is all there is to compare with.
        """
        if self.numbers == 1:
            return max(self.largest, self.least)
        spread = self.high - self.low if self.high > self.low else 0.0
        return max(spread, self.largest / 1000, self.least)

    @property
    def is_stuck(self) -> bool:
        """Whether it never varies although the reference does, beyond rounding."""
        varies = self.high - self.low > 1e-6 * self.largest
        return (varies and self.low_got == self.high_got) or (
            self.change > self.range / 10 and not self.varies_got
        )


class Agreement:
    """Running comparison of an artifact with the reference, sample by sample.

    Energies are summed over all samples before the ratio is taken, as in
    ``SQNR = 10 log10(sum ref^2 / sum err^2)``.
    """

    def __init__(self) -> None:
        self._outputs: dict[str, _Output] = {}
        self.samples = 0

    def add(self, want: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        """Compare one sample: one array for each output."""
        self.samples += 1
        got = arrays_of(got)
        for name, array in arrays_of(want).items():
            self._outputs.setdefault(name, _Output()).add(array, got.get(name))

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
        return max((o.max_error / o.range for o in self._outputs.values()), default=0.0)

    @property
    def top1(self) -> float | None:
        """Share of rows with the same largest class; ``None`` if no output is [N, classes]."""
        agreed = sum(o.agreed for o in self._outputs.values())
        return agreed / self.rows if self.rows else None

    @property
    def rows(self) -> int:
        """Number of rows of all outputs [N, classes]."""
        return sum(o.rows for o in self._outputs.values())

    def not_finite(self) -> tuple[str, ...]:
        """Names of the outputs that were not finite where the reference is, or otherwise."""
        return tuple(name for name, o in self._outputs.items() if not o.finite)

    def constant(self) -> tuple[str, ...]:
        """Names of the outputs that never vary although the reference does.

        Within a sample, or from one sample to the next; there by at least a tenth of its
        range, since small changes are below what 8 bits resolve.
        """
        return tuple(name for name, o in self._outputs.items() if o.is_stuck)

    def different(self) -> tuple[str, ...]:
        """Names of the outputs of another shape, or that are no numbers and differ."""
        return tuple(name for name, o in self._outputs.items() if not o.same_kind)

    def unjudged(self) -> tuple[str, ...]:
        """Names of the outputs of which the reference never was a finite number."""
        return tuple(
            name
            for name, o in self._outputs.items()
            if o.same_kind and o.first is not None and not o.empty and o.low > o.high
        )


def _agreed(want: Array, got: Array) -> int:
    """Count rows whose largest classes have one in common: ties agree."""
    best = (want == want.max(axis=1, keepdims=True)) & (got == got.max(axis=1, keepdims=True))
    return int(np.count_nonzero(best.any(axis=1)))
