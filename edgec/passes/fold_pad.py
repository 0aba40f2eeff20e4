"""Fold padding into the layer behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node
from edgec.ops import Convolution, Pad
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["FoldPad"]


@dataclass(frozen=True, slots=True)
class FoldPad(Pass):
    """Rewrite ``Conv(Pad(x))`` as one convolution with larger pads.

    Only zeros, only along H and W. Other readers of the padded value keep the `Pad`.
    Exact: the same zeros are multiplied.
    """

    name: ClassVar[str] = "fold-pad"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._fold(b, node):
                b.copy(node)
        return b.finish()

    def _fold(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, Convolution):
            return False
        x, *rest = map(b.now, node.inputs)
        pad = b.producer(x)
        if pad is None or not isinstance(pad.op, Pad) or pad.op.value != 0:
            return False
        n0, c0, top, left, n1, c1, bottom, right = pad.op.pads
        if n0 or c0 or n1 or c1:
            return False
        t, le, bo, r = node.op.pad
        op = replace(node.op, pad=(t + top, le + left, bo + bottom, r + right))
        b.add(op, pad.inputs[0], *rest, like=node, absorbs=(pad,))
        return True
