"""Pad integers as integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node, Op
from edgec.ops import Dequantize, Pad, Padding, Quantize
from edgec.passes import Exact, Pass, Promise

__all__ = ["PadIntegers"]


@dataclass(frozen=True, slots=True)
class PadIntegers(Pass):
    """Rewrite ``Quantize(Pad(Dequantize(q)))`` as ``Pad(q)`` with the zero point.

    Both grids must be the same and the padding zero, which every grid holds exactly, or taken
    from the value itself. ONNX
    Runtime pads integers but fuses no pair around a pad, which would run in float.

    Exact: the integers are the same.
    """

    name: ClassVar[str] = "pad-integers"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._rewrite(b, node):
                b.copy(node)
        return b.finish()

    def _rewrite(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, Quantize) or node.op.params.axis is not None:
            return False
        pad = b.producer(b.now(node.inputs[0]))
        if pad is None or not isinstance(pad.op, Padding):
            return False
        if isinstance(pad.op, Pad) and pad.op.value != 0:
            return False
        inner = b.producer(pad.inputs[0])
        if inner is None or inner.op != Dequantize(node.op.params, node.op.dtype):
            return False
        op: Op = pad.op
        if isinstance(op, Pad):
            op = replace(op, value=float(node.op.params.zero_point[0]))
        b.add(op, inner.inputs[0], like=node, absorbs=(pad,))
        return True
