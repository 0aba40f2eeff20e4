"""Mish, which exporters write as a product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph, Node
from edgec.ops import Mish
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.patterns import Call, Reader, kind, recognize

__all__ = ["RecognizeMish"]


@dataclass(frozen=True, slots=True)
class RecognizeMish(Pass):
    """Rewrite ``x * Tanh(Softplus(x))`` as ``Mish``.

    ``log(1 + exp(x))`` is not taken for a ``Softplus``: it overflows where that does not, and
    ONNX Runtime is several times faster at it. Within rounding.
    """

    name: ClassVar[str] = "recognize-mish"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        return recognize(graph, (_mish,), ("Softplus",))


def _mish(r: Reader, node: Node) -> Call | None:
    for x, curve in r.sides(node) if kind(node) == "Mul" else ():
        inner = r.operand(curve, "Tanh")
        if inner is not None and r.operand(inner, "Softplus") == x:
            return Call.of(Mish(), x)
    return None
