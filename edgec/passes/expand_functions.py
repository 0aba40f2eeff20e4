"""Write operators that the standard defines by others in terms of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.frontend.functions import expand
from edgec.ir import Builder, Graph
from edgec.ops import Opaque
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.eliminate_identities import EliminateIdentities
from edgec.passes.fold_constants import FoldConstants

__all__ = ["ExpandFunctions"]


@dataclass(frozen=True, slots=True)
class ExpandFunctions(Pass):
    """Replace operators without a class of their own by the body the ONNX standard gives them.

    Such a body computes with simpler operators, many of which a target has; an attention, say,
    is two matrix products around a softmax. Bodies may call functions again: repeated until
    none is left. Constants are folded between, since bodies compute shapes in the graph.

    A function whose body has subgraphs stays; so does one of another domain.
    Within rounding: a runtime may have computed the operator in another order.
    """

    name: ClassVar[str] = "expand-functions"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        while True:
            b = Builder(graph)
            for node in graph.nodes:
                if not (isinstance(node.op, Opaque) and expand(b, node)):
                    b.copy(node)
            after = b.finish()
            if after is graph:
                return graph
            graph = EliminateIdentities().run(FoldConstants().run(after))
