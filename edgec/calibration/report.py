"""What calibration has to say for itself: figures of every tensor, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgec.calibration.observe import Observer
from edgec.calibration.ranges import METHODS, Percentile, RangeMethod

__all__ = ["CalibrationReport", "Tensor", "Warned", "tensor"]

_SHOWN_BINS = 32
_LEVELS = 255
_BULK_PERCENT = 99.9


@dataclass(frozen=True, slots=True)
class Warned:
    """Something about the samples that looks wrong.

    Parameters
    ----------
    kind
        One word for it: few, constant, flat, scale, layout, collapse, halves or channels.
    where
        The input, output or layer it shows at, by the user's name.
    hint
        A way out.
    """

    kind: str
    where: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """One value whose range was found.

    Parameters
    ----------
    layer
        The layer that yields it, by its name in the user's model; an input's own name.
    range
        The range that is quantized, by the method chosen.
    seen
        Lowest and highest number there was.
    histogram
        Counts of the elements that are not zero, in equal bins between `bins`.
    methods
        What every method makes of the same samples.
    disagreement
        Width of the widest of these over that of the narrowest.
    outliers
        Width of `seen` over that of what holds 99.9 % of the elements.
    halves_steps
        How far the ends of the range are apart that each half of the samples alone would
        give, in steps of 8 bits.
    halves_outside
        Share of the elements of one half that lie beyond the range of the other.
    """

    name: str
    layer: str
    range: tuple[float, float]
    seen: tuple[float, float]
    bins: tuple[float, float]
    histogram: tuple[int, ...]
    methods: Mapping[str, tuple[float, float]]
    disagreement: float
    outliers: float
    halves_steps: float
    halves_outside: float
    elements: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values of JSON, to six digits."""
        return {k: _plain(v) for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What the samples showed.

    Parameters
    ----------
    facts
        Further figures that warnings rest on, by name.
    """

    samples: int
    method: str
    tensors: tuple[Tensor, ...]
    warnings: tuple[Warned, ...]
    facts: Mapping[str, Any]

    def joined(self, other: CalibrationReport | None) -> CalibrationReport:
        """Return this report with what another adds on further tensors, of the same samples."""
        if other is None:
            return self
        names = {t.name for t in self.tensors}
        told = {(w.kind, w.where) for w in self.warnings}
        return replace(
            self,
            tensors=(*self.tensors, *(t for t in other.tensors if t.name not in names)),
            warnings=(
                *self.warnings,
                *(w for w in other.warnings if (w.kind, w.where) not in told),
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values of JSON."""
        return {
            "samples": self.samples,
            "method": self.method,
            "warnings": [asdict(w) for w in self.warnings],
            **{k: _plain(v) for k, v in self.facts.items()},
            "tensors": [t.to_dict() for t in self.tensors],
        }


def tensor(name: str, layer: str, seen: Observer, method: RangeMethod) -> Tensor:
    """Return the figures of one value."""
    low, high = method.range(seen)
    methods = {key: make().range(seen) for key, make in METHODS.items()}
    methods[method.name] = low, high  # with the user's own percentile
    widths = [b - a for a, b in methods.values()]
    bulk = _width(Percentile(_BULK_PERCENT).range(seen))
    steps, outside = _halves(seen, method, (high - low) / _LEVELS)
    histogram = seen.histogram
    if histogram is None or not histogram.counts.sum():
        bins, counts = (low, high), list[int]()
    else:
        bins = histogram.low, histogram.high
        counts = [int(c) for c in histogram.counts.reshape(_SHOWN_BINS, -1).sum(axis=1)]
    ends = (seen.low, seen.high) if seen.low <= seen.high else (0.0, 0.0)  # an empty value
    return Tensor(
        name=name,
        layer=layer,
        range=(low, high),
        seen=ends,
        bins=bins,
        histogram=tuple(counts),
        methods=methods,
        disagreement=max(widths) / min(widths) if min(widths) > 0 else 1.0,
        outliers=_width((min(ends[0], 0.0), max(ends[1], 0.0))) / bulk if bulk > 0 else 1.0,
        halves_steps=steps,
        halves_outside=outside,
        elements=sum(counts),
    )


def _halves(seen: Observer, method: RangeMethod, step: float) -> tuple[float, float]:
    """Return how far the halves of the samples disagree: in steps, and in elements."""
    if seen.samples < 2 or step <= 0:
        return 0.0, 0.0
    parts = [seen.half(0), seen.half(1)]
    a, b = (method.range(part) for part in parts)
    steps = max(abs(a[0] - b[0]), abs(a[1] - b[1])) / step
    outside = max(_beyond(parts[0], b, step), _beyond(parts[1], a, step))
    return steps, outside


def _beyond(part: Observer, ends: tuple[float, float], step: float) -> float:
    """Return the share of the elements more than a step outside of a range."""
    if part.histogram is None:
        return 0.0
    counts, x = part.histogram.counts, part.histogram.centres
    total = int(counts.sum())
    out = (x < ends[0] - step) | (x > ends[1] + step)
    return float(counts[out].sum() / total) if total else 0.0


def _width(ends: tuple[float, float]) -> float:
    return ends[1] - ends[0]


def _plain(value: Any) -> Any:
    """Return a value for JSON, with floats to six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
