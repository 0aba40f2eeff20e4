"""Channel shuffles, folded into the order of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph
from edgec.ops import Gather, Slice, Split, Transpose
from edgec.passes.base import Pass, Promise, Within

__all__ = ["FoldChannelShuffles"]


@dataclass(frozen=True, slots=True)
class FoldChannelShuffles(Pass):
    """Store channels in the order in which layers read them, instead of moving them there.

    A convolution can make its channels in any order, and take them in any: rows and columns
    of its weights change places. Depthwise layers, activations, poolings, resizes and affine
    nodes pass an order on, with their constants in that order. So where reshapes,
    transposes, slices, splits, gathers and concatenations only bring channels together anew
    (the shuffles of ShuffleNet, mostly written as reshape, transpose, reshape), each reader
    gets what it reads as one part of each layer that makes it, and often the whole of one.

    What is read by something that needs the order itself (an output, a sum with a value in
    another order, a grouped convolution) stays as it is. So does a group of moves that would
    move as many bytes, or be more nodes, afterwards. Sums run in another order: within
    rounding.
    """

    name: ClassVar[str] = "fold-channel-shuffles"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        # Without one of these, nothing is in an order that could be another.
        if not any(isinstance(n.op, Transpose | Gather | Slice | Split) for n in graph.nodes):
            return graph
        from edgec.passes.channel_rewriting import folded  # most models have no such node

        return folded(graph)
