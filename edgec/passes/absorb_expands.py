"""Leave repetition to operators that repeat their operands themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node, Value
from edgec.ops import Broadcasting, Expand, PRelu
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["AbsorbExpands"]


@dataclass(frozen=True, slots=True)
class AbsorbExpands(Pass):
    """Let what broadcasts its operands read the operand of an ``Expand`` instead.

    That is arithmetic, comparison, logic, ``Where`` and the slope of ``PRelu``, wherever the
    result has the same shape without. The ``Expand`` goes if nothing else reads it.

    Exact: the same numbers are computed.
    """

    name: ClassVar[str] = "absorb-expands"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._absorb(b, node):
                b.copy(node)
        return b.finish()

    def _absorb(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, Broadcasting | PRelu):
            return False
        inputs = list(map(b.now, node.inputs))
        absorbed: list[Node] = []
        for i, value in enumerate(inputs):
            maker = b.producer(value)
            if maker is None or not isinstance(maker.op, Expand):
                continue
            without = [*inputs[:i], maker.inputs[0], *inputs[i + 1 :]]
            if _fits(node, without):
                inputs = without
                absorbed.append(maker)
        if absorbed:
            b.add(node.op, *inputs, like=node, absorbs=absorbed)
        return bool(absorbed)


def _fits(node: Node, inputs: list[Value]) -> bool:
    """Whether a node computes the same shape of other operands."""
    try:
        return node.op.infer(*(v.type for v in inputs)) == (node.output.type,)
    except ValueError:
        return False
