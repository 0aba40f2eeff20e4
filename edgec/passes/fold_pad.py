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

    Only zeros, only along spatial axes. Other readers of the padded value keep the `Pad`.
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
        absorbed: list[Node] = []
        pads, axes = node.op.pad, len(node.op.stride)
        while (pad := b.producer(x)) is not None and isinstance(pad.op, Pad):
            before, after = pad.op.pads[: axes + 2], pad.op.pads[axes + 2 :]
            outer, inner = (*before[:2], *after[:2]), (*before[2:], *after[2:])
            if pad.op.value != 0 or any(outer) or min(inner) < 0:
                break
            pads = tuple(map(sum, zip(pads, inner, strict=True)))
            x, absorbed = pad.inputs[0], [pad, *absorbed]
        if absorbed:
            op = replace(node.op, pad=pads)
            b.add(op, x, *rest, like=node, absorbs=absorbed)
        return bool(absorbed)
