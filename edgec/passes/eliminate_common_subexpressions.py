"""Compute once what is computed twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node, Value
from edgec.ops import Add, Equal, Max, Min, Mul, Opaque
from edgec.ops.logic import Logic
from edgec.passes.base import Exact, Pass, Promise
from edgec.passes.determinism import is_function

__all__ = ["EliminateCommonSubexpressions"]

_EITHER_WAY = (Add, Mul, Max, Min, Logic, Equal)
"""The same with their operands in another order. Not `Sum`: three numbers round differently."""


@dataclass(frozen=True, slots=True)
class EliminateCommonSubexpressions(Pass):
    """Let nodes with the same operator, attributes and operands be one.

    The operands of sums, products, extremes, logic and equality may be in either order. Where
    one of the nodes makes an output of the graph, that one stays; two that make outputs both
    stay, since both names must exist.

    Random operators, nodes with subgraphs and operators of unknown domains stay as they are.
    Exact: no number is touched.
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        groups = _groups(graph)
        if not groups:
            return graph
        b = Builder(graph)
        done: set[tuple[str, ...]] = set()
        for node in graph.nodes:
            if node.output_names in done:
                continue
            if node.output_names not in groups:
                b.copy(node)
                continue
            kept, *others = groups[node.output_names]
            b.add(kept.op, *map(b.now, node.inputs), like=kept, absorbs=others)
            for other in others:
                for old, new in zip(other.outputs, kept.outputs, strict=True):
                    b.replace(old, b.now(new))
            done.update(n.output_names for n in (kept, *others))
        return b.finish()


def _groups(graph: Graph) -> dict[tuple[str, ...], list[Node]]:
    """Return, for each node that is to be merged, the one that stays and those that go."""
    first: dict[Value, Value] = {}
    alike: dict[object, list[Node]] = {}
    for node in graph.nodes:
        if not is_function(node.op):
            continue
        group = alike.setdefault(_key(node, first), [])
        group.append(node)
        first.update(zip(node.outputs, group[0].outputs, strict=True))
    found: dict[tuple[str, ...], list[Node]] = {}
    for group in alike.values():
        named = [n for n in group if not set(n.outputs).isdisjoint(graph.outputs)]
        kept = (named or group)[0]
        others = [n for n in group if n is not kept and n not in named]
        if others:
            found.update((n.output_names, [kept, *others]) for n in (kept, *others))
    return found


def _key(node: Node, first: dict[Value, Value]) -> object:
    """Return what nodes that compute the same have in common."""
    inputs = [first.get(v, v).name for v in node.inputs]
    if isinstance(node.op, _EITHER_WAY):
        inputs.sort()
    # The text of an operator tells 0.0 from -0.0, which compare as equal.
    text = "" if isinstance(node.op, Opaque) else repr(node.op)
    return node.op, text, tuple(inputs), len(node.outputs)
