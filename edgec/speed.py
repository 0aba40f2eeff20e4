"""Whether a quantized artifact pays: timed beside the float one, in the same run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.errors import Diagnostic, GateError, InconclusiveError
from edgec.hotspots import Hotspot
from edgec.ir import Array
from edgec.targets import Runner

__all__ = ["Speed", "check_speed", "compared"]

_LEAST_ROUNDS, _MOST_ROUNDS = 20, 100
_SECONDS = 0.6
_TRIFLE = 0.02
"""A difference that nobody would change a model for."""
_NOTCH = 1.57
"""Half a notch is so many quartile distances by the root of n (McGill et al., 1978)."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Latency of an artifact beside that of the same model in float32.

    Parameters
    ----------
    latency_ms, float_latency_ms
        Medians of single runs, on one thread.
    speedup
        Median of the ratios of neighbouring runs; above 1 is faster than float.
    noise
        Half the width of the interval that holds the true median 95 times of 100.
    size_bytes, float_size_bytes
        Of the files.
    hotspots
        The layers that cost time, worst first, where the artifact is not as fast as it should.
    """

    latency_ms: float
    float_latency_ms: float
    speedup: float
    noise: float
    rounds: int
    size_bytes: int
    float_size_bytes: int
    hotspots: tuple[Hotspot, ...] = ()

    @property
    def is_slower(self) -> bool:
        """Whether the artifact is slower than float, beyond noise and by more than a trifle."""
        return self.speedup + self.noise < 1 - _TRIFLE

    @property
    def is_faster(self) -> bool:
        """Whether the artifact is faster than float, beyond noise."""
        return self.speedup - self.noise > 1

    def reaches(self, speedup: float) -> bool:
        """Whether the artifact is so much faster than float, within noise."""
        return self.speedup + self.noise >= speedup


def compared(made: Runner, plain: Runner, feeds: Mapping[str, Array]) -> Speed:
    """Run both artifacts in turn, and compare each run with its neighbour."""
    feeds_of = [(runner, runner.encode(feeds)) for runner in (made, plain)]
    for runner, stored in feeds_of:
        runner.raw(stored)  # kernels are chosen and weights packed on the first run
    rounds: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(rounds) < _MOST_ROUNDS:
        if len(rounds) >= _LEAST_ROUNDS and time.perf_counter() - start > _SECONDS:
            break
        # Which of two like files runs first makes one of them faster by up to two percent.
        order = (0, 1) if len(rounds) % 2 else (1, 0)
        took = {k: _seconds(*feeds_of[k]) for k in order}
        rounds.append((took[0], took[1]))
    seconds = np.array(rounds)
    ratios = seconds[:, 1] / seconds[:, 0]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    latency, plain_latency = 1e3 * np.median(seconds, axis=0)
    return Speed(
        round(float(latency), 4),
        round(float(plain_latency), 4),
        round(float(middle), 3),
        round(float(_NOTCH * (high - low) / np.sqrt(len(ratios))), 3),
        len(ratios),
        made.artifact.size_bytes,
        plain.artifact.size_bytes,
    )


def check_speed(found: Mapping[str, Speed], targets: Sequence[str], required: float) -> None:
    """Raise unless the artifact of every target is so many times as fast as the float one.

    Raises
    ------
    GateError
        If one is slower.
    InconclusiveError
        If one was not timed: it is for another machine, or too large.
    """
    missing = [name for name in targets if name not in found]
    if missing:
        raise InconclusiveError(
            f"the artifact for {' and '.join(missing)} was not timed: it is for another "
            "machine, not quantized, or larger than edgec makes a float twin of"
        )
    slow: list[Diagnostic] = []
    for name, s in found.items():
        if s.reaches(required):
            continue
        text = (
            f"is {s.speedup:.2f} times as fast as float32 ({s.latency_ms:g} ms, "
            f"{s.float_latency_ms:g} ms), {required:g} times is required"
        )
        slow += [Diagnostic(text, name), *_named(s.hotspots)]
    if slow:
        raise GateError("a quantized artifact is not as fast as required", slow)


_NAMED = 3


def _named(hotspots: Sequence[Hotspot]) -> Iterator[Diagnostic]:
    """Yield the worst of the layers that cost time."""
    for spot in hotspots[:_NAMED]:
        kinds = ", ".join(dict.fromkeys(spot.operators))
        took = "" if spot.ms is None else f" ({spot.ms:g} ms, {spot.float_ms:g} ms in float)"
        yield Diagnostic(f"{kinds} costs time: {spot.why}{took}", spot.layer)
    more = len(hotspots) - _NAMED
    if more > 0:
        hint = "without --require-speedup, report.json lists them"
        yield Diagnostic(
            f"{more} more layer{'s cost' if more > 1 else ' costs'} time", hint=hint
        )


def _seconds(runner: Runner, stored: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    runner.raw(stored)
    return time.perf_counter() - start
