"""Move transposes to where they vanish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph
from edgec.ops import Transpose
from edgec.passes.base import Exact, Pass, Promise
from edgec.passes.place_views import place
from edgec.passes.views import Permuted

__all__ = ["MoveTransposes"]


@dataclass(frozen=True, slots=True)
class MoveTransposes(Pass):
    """Move transposes through what computes the same on transposed values, and cancel them.

    That is whatever acts on each element alone, with constant operands transposed beforehand;
    concatenations, splits, slices, paddings, repetitions; reductions, softmax and its kin, on
    another axis; quantization. For each order of axes that occurs, the values that are best
    kept in that order are found all at once, as a minimum cut: there are fewer transposes
    afterwards, or as many that move fewer bytes, or nothing changes.

    Inputs and outputs of the graph keep their order. Exact: the same numbers are computed, in
    another order.
    """

    name: ClassVar[str] = "move-transposes"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        before = None
        while before is not graph:
            before = graph
            perms = (n.op.perm for n in graph.nodes if isinstance(n.op, Transpose))
            for perm in dict.fromkeys(perms):
                graph = place(graph, Permuted(perm))
        return graph
