"""Drop nodes that change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, Graph, Node
from edgec.ops import (
    Cast,
    Clip,
    Concat,
    Expand,
    Identity,
    Opaque,
    Padding,
    Reshape,
    Slice,
    Transpose,
)
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["EliminateIdentities"]


@dataclass(frozen=True, slots=True)
class EliminateIdentities(Pass):
    """Drop nodes whose result is their operand.

    Identity (and Dropout, which import writes so), Clip without bounds, Pad by nothing, Slice
    of everything, Concat of one, Cast to the same type, Reshape and Expand to the same shape,
    and Transpose that keeps the order.

    A node between two ends of the graph's interface stays: both names must exist.
    Exact: no number is touched.
    """

    name: ClassVar[str] = "eliminate-identities"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._drop(b, node):
                b.copy(node)
        after = b.finish()
        return after if after is graph else self.run(after)

    def _drop(self, b: Builder, node: Node) -> bool:
        if len(node.outputs) != 1 or not _is_identity(node):
            return False
        x = b.now(node.inputs[0])
        if not x.type.refines(node.output.type):
            return False  # the node's own type says more
        if node.output not in b.source.outputs:
            b.replace(node.output, x)
            return True
        # The output's name must live on: give it to the producer, if that may lose its own.
        old = node.inputs[0]
        if (
            b.producer(x) is None
            or not b.source.is_only_read_by(old, node)
            or old.name != x.name
        ):
            return False
        b.rename(x, node.output)
        return True


def _is_identity(node: Node) -> bool:
    x = node.inputs[0].type if node.inputs else None
    match node.op:
        case Identity():
            return True
        case Clip(low, high):
            return bool(np.isinf(low) and np.isinf(high))
        case Padding(pads):
            return not any(pads)
        case Concat():
            return len(node.inputs) == 1
        case Transpose(perm):
            return perm == tuple(range(len(perm)))
        case Reshape() | Expand():
            return x is not None and x.is_static and x == node.output.type
        case Slice(steps=steps):
            forward = all(step == 1 for step in steps)
            return forward and x is not None and x.is_static and x == node.output.type
        case Cast() | Opaque(op_type="Cast", domain=""):
            return x is not None and x.dtype is node.output.type.dtype
    return False
