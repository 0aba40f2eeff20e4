"""Clip once what is clipped twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node
from edgec.ops import Clip, Identity, Relu
from edgec.passes.base import Exact, Pass, Promise
from edgec.passes.bounds import bounds, own_bounds

__all__ = ["MergeClips"]


@dataclass(frozen=True, slots=True)
class MergeClips(Pass):
    """Write two ``Clip`` or ``Relu`` in a row as one, and drop those that clip nothing.

    One clips nothing where its operand lies within its bounds anyhow: behind a narrower clip,
    a sigmoid or a softmax, also with reshapes, pools and the like between. Two in a row are
    one with the narrower bounds, if nothing else reads the first and the bounds overlap.

    Exact: the same numbers come out.
    """

    name: ClassVar[str] = "merge-clips"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not (isinstance(node.op, Clip | Relu) and self._merge(b, node)):
                b.copy(node)
        return b.finish()

    def _merge(self, b: Builder, node: Node) -> bool:
        x = b.now(node.inputs[0])
        if _is_odd(node):
            return False
        low, high = own_bounds(node)
        least, largest = bounds(x, b.producer)
        if low <= least and largest <= high:
            b.add(Identity(), x, like=node)
            return True
        inner = b.producer(x)
        if inner is None or not isinstance(inner.op, Clip | Relu) or _is_odd(inner):
            return False
        least, largest = own_bounds(inner)
        low, high = max(low, least), min(high, largest)
        if low > high or not b.source.is_only_read_by(node.inputs[0], node):
            return False
        op = Relu() if (low, high) == (0, float("inf")) else Clip(low, high)
        b.add(op, inner.inputs[0], like=node, absorbs=(inner,))
        return True


def _is_odd(node: Node) -> bool:
    """Whether the bounds are the wrong way round: all results are the upper one then."""
    return isinstance(node.op, Clip) and node.op.low > node.op.high
