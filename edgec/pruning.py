"""Single weights that become zero, as the compiler asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgec.errors import InternalError
from edgec.ir import Array, Graph
from edgec.options import CompileOptions, pruning_asked
from edgec.passes import PruneWeights
from edgec.passes.divergence import Divergence
from edgec.passes.judging import held_out
from edgec.passes.knapsack import Allocator, Offer
from edgec.passes.layer_statistics import ExchangeRates, LayerStatistics, statistics
from edgec.passes.prune_weights import sparse_weights
from edgec.passes.sparse_weights import Sparsity
from edgec.recovery import walked_samples
from edgec.split import Split

__all__ = ["allotted", "pruning"]

_AWAY = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)
"""How far the share of one layer may be from that of the whole."""

_MOST = 0.95
_TURNS = 40


def pruning(graph: Graph, data: Split, options: CompileOptions) -> PruneWeights:
    """Return the pass that sets weights of a float graph to zero, as many as are asked for.

    Of a share of all weights each layer gets the share that it loses least with; a pattern is
    the same for all.
    """
    asked = pruning_asked(options)
    if asked is None:
        raise InternalError("no weights are to be pruned")
    samples = walked_samples("full", graph, data)
    even = PruneWeights(samples, asked)
    if asked.pattern is not None or even.run(graph) is graph:
        return even
    return PruneWeights(samples, asked, allotted(graph, samples, asked.share))


def allotted(
    graph: Graph, samples: Sequence[Mapping[str, Array]], share: float
) -> dict[str, Sparsity]:
    """Return the share of zeros of each layer, so that the outputs lose least in all.

    What each share costs is the squared error of the layer's results, fitted, on samples held
    out, times the nats that noise in these results was measured to cost. The shares come from
    an exact knapsack over these costs.
    """
    names = PruneWeights(samples, Sparsity(share)).pruned_layers(graph)
    found = statistics(graph, samples, names=names)
    held = [s for s, is_held in zip(samples, held_out(len(samples)), strict=True) if is_held]
    rates = ExchangeRates(graph, found, Divergence(graph, held))
    levels = sorted({round(min(max(share + away, 0.0), _MOST), 6) for away in _AWAY})
    offers = [
        _offers(each, levels, max(rates.of(name), 0.0)) for name, each in found.layers.items()
    ]
    most = (1 - share) * sum(each.layer.weight.size for each in found.layers.values())
    picked = _least_error(offers, most)
    return {name: Sparsity(levels[k]) for name, k in zip(found.layers, picked, strict=True)}


def _offers(found: LayerStatistics, levels: Sequence[float], rate: float) -> list[Offer]:
    """Return how many weights are left and what that costs, for each share of zeros."""
    offers: list[Offer] = []
    for level in levels:
        cost = 0.0
        if level:
            weight, bias = sparse_weights(found, Sparsity(level), fit=False)
            cost = rate * found.error(weight, bias)
        offers.append(Offer((1 - level) * found.layer.weight.size, cost))
    return offers


def _least_error(offers: Sequence[Sequence[Offer]], most: float) -> tuple[int, ...]:
    """Return the offers with the least error whose costs are no more than a limit."""
    allocator = Allocator(offers)
    high = sum(max(o.error for o in each) for each in offers)
    low = high * 1e-9
    best = allocator.within(high)
    for _ in range(_TURNS):
        middle = float(np.sqrt(low * high))
        picked = allocator.within(middle)
        cost = np.inf
        if picked is not None:
            cost = sum(each[k].cost for each, k in zip(offers, picked, strict=True))
        if cost <= most * (1 + 1e-9):
            best, high = picked, middle
        else:
            low = middle
    if best is None:
        raise InternalError("an allocator has no offers for its own errors")
    return best
