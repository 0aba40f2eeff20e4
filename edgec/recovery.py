"""How much is done to keep the accuracy of a quantized model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from edgec.cost import cost
from edgec.ir import Array, Graph
from edgec.passes import (
    OptimizeRounding,
    Pass,
    QuantizeGraph,
    Recover,
    RefineRanges,
    RoundWeights,
)
from edgec.passes.optimize_rounding import optimizing_seconds
from edgec.split import Split

__all__ = ["forewarning", "recovery", "walked_samples"]


class _Share(NamedTuple):
    """Samples to walk through a model, in how much memory; ranges to refine, on how many."""

    samples: int
    bytes: int
    most_values: int
    most_samples: int


_SHARES = {
    "default": _Share(32, 512 << 20, 16, 8),
    "full": _Share(128, 1 << 30, 128, 16),
    "max": _Share(256, 2 << 30, 128, 16),
}
_LEAST_SAMPLES = 8
_TRAINED_SAMPLES = 512


def recovery(
    effort: str,
    step: QuantizeGraph,
    graph: Graph,
    data: Split,
    *,
    ranges: bool,
    train: int | None = None,
) -> tuple[Pass, ...]:
    """Return what is done to a quantized graph to bring it near to its float model.

    Of large models fewer samples are taken: what a layer yields is held for all of them.

    :class:`~edgec.passes.CorrectScales` is not among them: behind :class:`RoundWeights`, which
    sets biases too, it brought none of ten models and recipes nearer.

    Parameters
    ----------
    effort
        One of :data:`edgec.options.EFFORTS`.
    step
        The quantization that makes the graph from `graph`.
    ranges
        Whether its ranges may change.
    train
        For how many steps all of it is trained at last, if it is.
    """
    last: tuple[Pass, ...] = ()
    if train is not None:
        every = tuple(islice(data.calibration(), _TRAINED_SAMPLES))
        last = (Recover(graph, every, steps=train),)
    if effort == "fast":
        return last
    share = _SHARES[effort]
    samples = walked_samples(effort, graph, data)
    few, values = share.most_samples, share.most_values
    refined = RefineRanges(step, graph, samples, most_samples=few, most_values=values)
    steps = (*((refined,) if ranges else ()), RoundWeights(graph, samples))
    if effort == "max":
        steps = (*steps, OptimizeRounding(graph, samples))
    return (*steps, *last)


def walked_samples(effort: str, graph: Graph, data: Split) -> tuple[Mapping[str, Array], ...]:
    """Return the samples that a graph is walked through with, as many as there is room for."""
    share = _SHARES[effort]
    room = share.bytes // max(2 * cost(graph).peak_activation_bytes, 1)
    count = max(_LEAST_SAMPLES, min(share.samples, room))
    return tuple(islice(data.calibration(), count))


def forewarning(graph: Graph) -> str:
    """Return how long the greatest effort will take for a float graph on this machine."""
    seconds, layers = optimizing_seconds(graph)
    return f"max: about {_duration(seconds)} for {layers} layers on this machine"


def _duration(seconds: float) -> str:
    """Return a time as people say it, with no digit that is not known."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{max(round(seconds / 10), 1) * 10} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60 // 10 * 10} min"
