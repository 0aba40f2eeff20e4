"""How much is done to keep the accuracy of a quantized model."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from edgec.cost import cost
from edgec.ir import Graph
from edgec.passes import Pass, QuantizeGraph, RefineRanges, RoundWeights
from edgec.split import Split

__all__ = ["recovery"]


class _Share(NamedTuple):
    """Samples to walk through a model, in how much memory; ranges to refine, on how many."""

    samples: int
    bytes: int
    most_values: int
    most_samples: int


_SHARES = {
    "default": _Share(32, 512 << 20, 16, 8),
    "full": _Share(128, 1 << 30, 128, 16),
}
_LEAST_SAMPLES = 8


def recovery(
    effort: str, step: QuantizeGraph, graph: Graph, data: Split, *, ranges: bool
) -> tuple[Pass, ...]:
    """Return what is done to a quantized graph to bring it near to its float model.

    Of large models fewer samples are taken: what a layer yields is held for all of them.

    Parameters
    ----------
    effort
        "fast", "default" or "full".
    step
        The quantization that makes the graph from `graph`.
    ranges
        Whether its ranges may change.
    """
    if effort == "fast":
        return ()
    share = _SHARES[effort]
    room = share.bytes // max(2 * cost(graph).peak_activation_bytes, 1)
    count = max(_LEAST_SAMPLES, min(share.samples, room))
    samples = tuple(islice(data.calibration(), count))
    few, values = share.most_samples, share.most_values
    refined = RefineRanges(step, graph, samples, most_samples=few, most_values=values)
    return (*((refined,) if ranges else ()), RoundWeights(graph, samples))
