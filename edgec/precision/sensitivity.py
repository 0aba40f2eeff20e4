"""What each precision of each layer does to the outputs, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from edgec.cache import Cache
from edgec.compression.keys import key_of, numbers
from edgec.ir import Array, Graph
from edgec.passes import Judge, Pipeline, Precision
from edgec.precision.choices import Choices
from edgec.quantizing import Quantizing

__all__ = ["Sensitivity", "sensitivities"]

_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What the precisions of one layer do.

    Parameters
    ----------
    errors
        For each precision of the layer the squared error of the outputs with only this layer
        quantized, relative to what they are: the noise it adds to a signal of 1.
    """

    choices: Choices
    errors: tuple[float, ...]


def sensitivities(
    way: Quantizing,
    layers: Sequence[Choices],
    cache: Cache,
    progress: Callable[[int, int], None],
) -> tuple[Sensitivity, ...]:
    """Measure every precision of every layer, on the graph as ONNX Runtime runs it.

    All other layers are in float. What was measured once is read from the cache; one that is
    stopped goes on where it was.

    Parameters
    ----------
    progress
        Called with the number of measurements that are done, and of all.
    """
    data = way.data
    feeds = data.calibration() if data.calibration_count else data.proof()
    samples = tuple(islice(feeds, _SAMPLES))
    key = _key(way, samples)
    known = numbers(cache.read(key))
    wanted = [(c, p) for c in layers for p in c.precisions if p != "float32"]
    judge: Judge | None = None
    for done, (layer, precision) in enumerate(wanted, 1):
        name = f"{layer.name} {precision}"
        if name not in known:
            judge = judge or Judge(way.graph, samples, probabilities=True)
            graph = _alone(way, layers, layer, precision)
            known[name] = float(judge.errors(graph).mean(axis=0).sum())
            cache.write(key, known)
        progress(done, len(wanted))
    return tuple(
        Sensitivity(c, tuple(known.get(f"{c.name} {p}", 0.0) for p in c.precisions))
        for c in layers
    )


def _alone(
    way: Quantizing, layers: Sequence[Choices], layer: Choices, precision: Precision
) -> Graph:
    """Return the graph with one layer in a precision, and all others in float."""
    others: dict[str, Precision] = {c.name: "float32" for c in layers}
    if precision == layer.precisions[0]:
        del others[layer.name]
    else:
        others[layer.name] = precision
    return Pipeline(way.passes(others, "fast")).run(way.graph)[0]


def _key(way: Quantizing, samples: Sequence[Mapping[str, Array]]) -> str:
    """Return a name for all that the measurements depend on."""
    seen: list[object] = [way.target, way.options.keep_float]
    if way.calibration is not None:  # it saw more samples than these
        seen.append(sorted(way.calibration.ranges.items()))
        if way.calibration.report is not None:
            seen.append([t.seen for t in way.calibration.report.tensors])
    return key_of(way.graph, samples, f"sensitivity {seen!r}")
