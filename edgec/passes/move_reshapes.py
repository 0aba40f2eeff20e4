"""Move reshapes to where they vanish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph
from edgec.ops import Reshape
from edgec.passes.base import Exact, Pass, Promise
from edgec.passes.place_views import place
from edgec.passes.views import Reshaped

__all__ = ["MoveReshapes"]


@dataclass(frozen=True, slots=True)
class MoveReshapes(Pass):
    """Move reshapes through what computes the same on reshaped values, and cancel them.

    That is whatever acts on each element alone, with constant operands reshaped beforehand
    where they repeat along whole groups of joined axes only; softmax and its kin and
    normalisations along an axis that the reshape leaves as it is; quantization. Reshapes at
    the borders join those that are there. For each pair of shapes, the values that are best
    kept in the other shape are found all at once, as a minimum cut: there are fewer reshapes
    afterwards, or nothing changes.

    Shapes must be known. Inputs and outputs of the graph keep theirs. Exact: no number is
    touched.
    """

    name: ClassVar[str] = "move-reshapes"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        before = None
        while before is not graph:
            before = graph
            pairs = (
                (n.inputs[0].type, n.output.type)
                for n in graph.nodes
                if isinstance(n.op, Reshape)
            )
            known = (
                (x.ints, y.ints) for x, y in pairs if x.is_static and y.is_static and y.size
            )
            for one, other in dict.fromkeys(known):
                if one != other:
                    graph = place(graph, Reshaped(one, other))
        return graph
