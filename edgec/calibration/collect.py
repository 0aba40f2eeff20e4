"""Run a graph on samples and remember what its values are like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgec.calibration.observe import Histogram, Observer
from edgec.calibration.ranges import MinMax, RangeMethod
from edgec.errors import DataError, Diagnostic
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, Value

__all__ = ["Calibration", "calibrate"]


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
    """

    ranges: Mapping[str, tuple[float, float]]
    method: str
    samples: int


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
    wanted = [v for v in values if v not in graph.inputs]
    seen = {v.name: _observer(method) for v in values}
    evaluator = Evaluator(graph, wanted, optimize=True) if wanted else None
    count = 0
    for feed in feeds:
        arrays = {name: array for name, array in feed.items() if name in seen}
        if evaluator is not None:
            arrays |= evaluator.run(feed)
        for name, array in arrays.items():
            try:
                seen[name].add(array)
            except ValueError as error:
                problem = Diagnostic(f"%{name} {error}", f"calibration sample {count}")
                raise DataError(
                    "the model computes infinities or NaN on the calibration data", [problem]
                ) from error
        count += 1
        if progress is not None:
            progress(count)
    if not count:
        raise DataError("there are no calibration samples")
    ranges = {name: method.range(observer) for name, observer in seen.items()}
    return Calibration(MappingProxyType(ranges), method.name, count)


def _observer(method: RangeMethod) -> Observer:
    return Observer(histogram=Histogram() if method.needs_histogram else None)
