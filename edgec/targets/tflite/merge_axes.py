"""Merge axes until there are few enough for a kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node, Value
from edgec.ops import Broadcasting, Identity, Reduction, Reshape, Unary
from edgec.passes import Exact, Pass, Promise

__all__ = ["MergeAxes"]

_MOST = 5
"""What all of LiteRT's kernels for such operators take; broadcasting ones take no more."""


@dataclass(frozen=True, slots=True)
class MergeAxes(Pass):
    """Give functions of each element, and reductions, at most five axes.

    Axes that lie side by side and take part in the same way are one: those that every operand
    has in full, or has with length 1; those that a reduction sums over, or keeps. The operands
    are reshaped before, the result after. Where more than five are left nothing changes.

    Exact: elements stay where they are.
    """

    name: ClassVar[str] = "merge-axes"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._rewrite(b, node):
                b.copy(node)
        return b.finish()

    def _rewrite(self, b: Builder, node: Node) -> bool:
        inputs = [b.now(v) for v in node.inputs]
        elementwise = isinstance(node.op, Unary | Broadcasting)
        if not elementwise and not isinstance(node.op, Reduction):
            return False
        if isinstance(node.op, Identity) or not all(v.type.is_static for v in inputs):
            return False
        rank = max(v.type.rank for v in inputs)
        if rank <= _MOST or any(0 in v.type.ints for v in inputs):
            return False
        shapes = [(1,) * (rank - v.type.rank) + v.type.ints for v in inputs]
        op = node.op
        if isinstance(op, Reduction):
            groups = _groups([tuple(axis in op.axes for axis in range(rank))])
            kept = tuple(g for g, axes in enumerate(groups) if axes[0] in op.axes)
            op = type(op)(kept, op.keepdims)
        else:
            alone = len(shapes) == 1
            groups = _groups([tuple(d == 1 and not alone for d in s) for s in shapes])
        if len(groups) > _MOST:
            return False
        merged = [
            _reshaped(b, node, value, [math.prod(shape[a] for a in axes) for axes in groups])
            for value, shape in zip(inputs, shapes, strict=True)
        ]
        name = b.fresh(f"{node.output.name}/merged")
        (result,) = b.add(op, *merged, names=[name], absorbs=(node,))
        b.add(Reshape(node.output.type.ints), result, like=node)
        return True


def _groups(patterns: list[tuple[bool, ...]]) -> list[list[int]]:
    """Return runs of axes at which none of the patterns changes."""
    groups: list[list[int]] = []
    for axis, column in enumerate(zip(*patterns, strict=True)):
        if groups and column == tuple(p[groups[-1][-1]] for p in patterns):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _reshaped(b: Builder, node: Node, value: Value, shape: list[int]) -> Value:
    array = b.array(value)
    if array is not None:
        return b.constant(array.reshape(shape), near=value.name)
    name = b.fresh(f"{value.name}/merged")
    (found,) = b.add(Reshape(tuple(shape)), value, names=[name], absorbs=(node,))
    return found
