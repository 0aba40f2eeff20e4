"""Run a graph on samples and remember what its values are like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from edgec.calibration.observe import Histogram, Observer
from edgec.calibration.ranges import MinMax, RangeMethod
from edgec.calibration.report import CalibrationReport, Tensor, Warned, tensor
from edgec.calibration.scale import ScaleProbe
from edgec.calibration.watch import InputWatch, OutputWatch
from edgec.errors import DataError, Diagnostic
from edgec.evaluate import Evaluator
from edgec.ir import Array, ContainerType, Graph, Value

__all__ = ["Calibration", "calibrate"]

_FEW = 8


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibration found: a value, handed to the passes that need it.

    Parameters
    ----------
    ranges
        Lowest and highest real number of each value, by name; always around zero.
    method
        Name of the range method.
    samples
        How many samples were seen.
    report
        What else the samples showed.
    """

    ranges: Mapping[str, tuple[float, float]]
    method: str
    samples: int
    report: CalibrationReport | None = None


def calibrate(
    graph: Graph,
    values: Sequence[Value],
    feeds: Iterable[Mapping[str, Array]],
    method: RangeMethod | None = None,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Return the range of every value over all samples.

    Samples are taken one at a time, and of each sample only running statistics are kept, so
    memory does not grow with their number. One thread computes: the result is the same on
    every machine that runs the same kernels.

    Raises
    ------
    DataError
        If there is no sample, or a value is not a finite number on one.
    """
    method = method or MinMax()
    seen = {v.name: Observer(histogram=Histogram()) for v in values}
    watch = _Watch(graph)
    wanted = dict.fromkeys((*(v for v in values if v not in graph.inputs), *watch.outputs))
    evaluator = Evaluator(graph, tuple(wanted), optimize=True) if wanted else None
    count = 0
    for feed in feeds:
        computed = evaluator.run(feed) if evaluator is not None else {}
        for name, observer in seen.items():
            try:
                observer.add(computed[name] if name in computed else feed[name])
            except ValueError as error:
                problem = Diagnostic(f"%{name} {error}", f"calibration sample {count}")
                raise DataError(
                    "the model computes infinities or NaN on the calibration data", [problem]
                ) from error
        watch.add(feed, computed)
        count += 1
        if progress is not None:
            progress(count)
    if not count:
        raise DataError("there are no calibration samples")
    made = {v.name: node.layer for v, node in graph.producers.items()}
    tensors = tuple(tensor(k, made.get(k, k), seen_of, method) for k, seen_of in seen.items())
    warnings = (*watch.warnings(count), *_unsettled(tensors))
    report = CalibrationReport(count, method.name, tensors, warnings, watch.facts())
    ranges = MappingProxyType({t.name: t.range for t in tensors})
    return Calibration(ranges, method.name, count, report)


class _Watch:
    """What shows whether the samples are what the model was made for."""

    def __init__(self, graph: Graph) -> None:
        tensors = [v for v in graph.inputs if not isinstance(v.type, ContainerType)]
        self._inputs = [InputWatch(v) for v in tensors]
        computed = [v for v in graph.outputs if v in graph.producers]
        watches = {v: OutputWatch(v, tuple(tensors)) for v in computed}
        self._outputs = {v.name: w for v, w in watches.items() if w.watched}
        self.outputs = tuple(v for v, w in watches.items() if w.watched)
        self._scale = ScaleProbe(graph)

    def add(self, feed: Mapping[str, Array], computed: Mapping[str, Array]) -> None:
        for given in self._inputs:
            given.add(np.asarray(feed[given.name]))
        for name, output in self._outputs.items():
            output.add(computed[name])
        self._scale.add(feed)

    def warnings(self, count: int) -> Iterator[Warned]:
        if count < _FEW:
            yield Warned(
                "few",
                "calibration",
                f"ranges come from {count} sample{'' if count == 1 else 's'} only, and others "
                "may lie outside of them",
                "give at least 32 samples, better a few hundred",
            )
        alone = all(given.is_constant for given in self._inputs)
        for given in self._inputs:
            yield from given.warnings(alone=alone)
        yield from self._scale.warnings({w.name: (w.low, w.high) for w in self._inputs})
        for output in self._outputs.values():
            yield from output.warnings()

    def facts(self) -> dict[str, Any]:
        """Return the figures behind the warnings."""
        return {
            "inputs": [
                {"name": w.name, "range": [w.low, w.high], "roughness": w.roughness}
                for w in self._inputs
                if w.low <= w.high
            ],
            "outputs": [
                {"name": w.name, "classes": len(w.classes)} for w in self._outputs.values()
            ],
            "first_layers": [
                {"layer": layer, "spread": ratio}
                for layer, ratio in self._scale.ratios().items()
            ],
        }


_OUTSIDE = 0.06
"""A right set of 24 samples stays below 0.055 on the labelled models, with chance taken off."""


def _unsettled(tensors: Sequence[Tensor]) -> Iterator[Warned]:
    """Yield a warning if half of the samples would have given other ranges than all."""

    def surely_outside(t: Tensor) -> float:
        elements = t.elements / 2
        count = t.halves_outside * elements
        return float((count - 2 * np.sqrt(count)) / elements) if elements else 0.0

    moved = sorted(tensors, key=surely_outside, reverse=True)
    moved = [t for t in moved if surely_outside(t) > _OUTSIDE]
    if moved:
        worst = moved[0]
        others = f" and those of {len(moved) - 1} others" if len(moved) > 1 else ""
        yield Warned(
            "halves",
            worst.layer,
            f"more samples would change its range{others}: {100 * worst.halves_outside:.1f} % "
            "of what half of the samples make lies outside of what the other half makes",
            "give more samples, drawn at random",
        )
