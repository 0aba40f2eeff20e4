"""Convert once what is converted twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node
from edgec.ops import Cast
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["MergeCasts"]


@dataclass(frozen=True, slots=True)
class MergeCasts(Pass):
    """Write ``Cast`` of ``Cast`` as one, where the type in between holds every number.

    So it does for the operand's own type, and for wider ones of its kind: integers with the
    same sign or one, floats with more bits; also for integers in floats that are wide enough
    to count that far, if the last type is wide enough too. ``Cast`` back to the first type is
    none at all.

    Exact: the same numbers come out.
    """

    name: ClassVar[str] = "merge-casts"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._merge(b, node):
                b.copy(node)
        return b.finish()

    def _merge(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, Cast):
            return False
        inner = b.producer(b.now(node.inputs[0]))
        if inner is None or not isinstance(inner.op, Cast):
            return False
        first, between, last = inner.inputs[0].type.dtype, inner.op.to, node.op.to
        if not holds(between, first):
            return False
        # What a number too large for the last type becomes depends on the type it comes from.
        kinds = {first.is_float, between.is_float}
        if not (holds(last, first) or kinds == {False} or kinds == {last.is_float}):
            return False
        b.add(Cast(last), inner.inputs[0], like=node, absorbs=(inner,))
        return True


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of one plain type is one of another."""
    if wide is narrow:
        return True
    if DType.BOOL in (wide, narrow):
        return narrow is DType.BOOL
    if narrow.is_float:
        return (wide, narrow) in _WIDER_FLOATS
    low, high = _range(narrow)
    if wide.is_float:
        exact: int = 2 ** _DIGITS[wide]
        return -exact <= low and high <= exact
    return _range(wide)[0] <= low and high <= _range(wide)[1]


_DIGITS = {DType.BFLOAT16: 8, DType.FLOAT16: 11, DType.FLOAT32: 24, DType.FLOAT64: 53}

_WIDER_FLOATS = {
    (DType.FLOAT32, DType.FLOAT16),
    (DType.FLOAT32, DType.BFLOAT16),
    (DType.FLOAT64, DType.FLOAT16),
    (DType.FLOAT64, DType.BFLOAT16),
    (DType.FLOAT64, DType.FLOAT32),
}


def _range(dtype: DType) -> tuple[int, int]:
    limits = np.iinfo(dtype.name.lower())
    return int(limits.min), int(limits.max)
