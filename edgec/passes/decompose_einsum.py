"""Sums over named axes as products of matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from typing_extensions import override

from edgec.ir import Builder, Graph, Node, Op, Value
from edgec.ops import Einsum, Identity, MatMul, Mul, ReduceSum, Reshape, Slice, Transpose
from edgec.passes.base import Pass, Promise, Within

__all__ = ["DecomposeEinsum"]


@dataclass(frozen=True, slots=True)
class DecomposeEinsum(Pass):
    """Write `Einsum` with `Transpose`, `Reshape`, `MatMul`, `Mul`, `ReduceSum` and `Slice`.

    A letter that one operand has twice is a diagonal: every ``n + 1``-th element of the two
    axes in one. A letter that only one operand has is summed first. Operands are then joined
    from left to right: letters that both have and nothing else needs are the inner axis of a
    `MatMul`, the others that both have are its batch; with no inner axis it is a `Mul`.

    All shapes must be known. Within rounding: the sums are in another order.
    """

    name: ClassVar[str] = "decompose-einsum"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if isinstance(node.op, Einsum) and all(v.type.is_static for v in node.inputs):
                _Sum(b, node, node.op).write()
            else:
                b.copy(node)
        return b.finish()


class _Factor(NamedTuple):
    """A value with names for its axes, no two alike."""

    value: Value
    axes: tuple[str, ...]


class _Sum:
    """Writes one sum; dropped afterwards."""

    def __init__(self, b: Builder, node: Node, op: Einsum) -> None:
        self.b, self.node = b, node
        self.inputs = list(map(b.now, node.inputs))
        types = [v.type for v in self.inputs]
        self.terms = op.terms([t.rank for t in types])
        self.lengths = {k: n for k, n in op.lengths(*types).items() if isinstance(n, int)}

    def write(self) -> None:
        factors = [
            self.diagonal(v, axes)
            for v, axes in zip(self.inputs, self.terms.operands, strict=True)
        ]
        total = self.summed(factors[0], self.needed(factors[1:]))
        for k, factor in enumerate(factors[1:], 2):
            later = self.needed(factors[k:])
            other = self.summed(factor, later | set(total.axes))
            total = self.joined(self.summed(total, later | set(other.axes)), other, later)
        last = self.ordered(total, self.terms.result)
        self.b.add(Identity(), last.value, like=self.node)

    def needed(self, factors: list[_Factor]) -> set[str]:
        """Return the axes that the result or one of the factors has."""
        return {axis for f in factors for axis in f.axes}.union(self.terms.result)

    def add(self, op: Op, *inputs: Value) -> Value:
        return self.b.step(op, *inputs, of=self.node)

    def ordered(self, x: _Factor, axes: tuple[str, ...]) -> _Factor:
        if x.axes == axes:
            return x
        perm = tuple(x.axes.index(axis) for axis in axes)
        return _Factor(self.add(Transpose(perm), x.value), axes)

    def reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        return value if value.type.ints == shape else self.add(Reshape(shape), value)

    def diagonal(self, value: Value, axes: tuple[str, ...]) -> _Factor:
        """Return an operand with one axis for each name."""
        while (twice := next((a for a in axes if axes.count(a) > 1), None)) is not None:
            first = axes.index(twice)
            second = axes.index(twice, first + 1)
            rest = [k for k in range(len(axes)) if k not in (first, second)]
            value = self.add(Transpose((*rest, first, second)), value)
            n, outer = value.type.ints[-1], value.type.ints[:-2]
            value = self.reshaped(value, (*outer, n * n))
            cut = Slice((0,), (n * n,), (len(outer),), (n + 1,))
            value, axes = self.add(cut, value), (*(axes[k] for k in rest), twice)
        return _Factor(value, axes)

    def summed(self, x: _Factor, needed: set[str]) -> _Factor:
        """Return the sum over axes that nothing needs."""
        gone = tuple(k for k, axis in enumerate(x.axes) if axis not in needed)
        if not gone:
            return x
        axes = tuple(axis for axis in x.axes if axis in needed)
        return _Factor(self.add(ReduceSum(gone, keepdims=False), x.value), axes)

    def joined(self, x: _Factor, y: _Factor, later: set[str]) -> _Factor:
        """Return the product of two factors, summed over what both have and nothing needs."""
        both = [axis for axis in x.axes if axis in y.axes]
        batch = tuple(axis for axis in both if axis in later)
        inner = tuple(axis for axis in both if axis not in later)
        left = tuple(axis for axis in x.axes if axis not in both)
        right = tuple(axis for axis in y.axes if axis not in both)
        short = [a for a in inner if x.value.type.ints[x.axes.index(a)] !=
                 y.value.type.ints[y.axes.index(a)]]  # fmt: skip
        if not inner or short:  # an axis of length 1 that is broadcast is no inner axis
            product = self.multiplied(x, y, (*batch, *inner, *left, *right))
            return self.summed(product, later)
        if self.terms.result == (*batch, *right, *left):
            x, y, left, right = y, x, right, left
        x, y = (
            self.ordered(x, (*batch, *left, *inner)),
            self.ordered(y, (*batch, *inner, *right)),
        )
        k = math.prod(self.lengths[axis] for axis in inner)
        rows, columns = self.shape(left), self.shape(right)
        if batch:
            rows = (math.prod(rows),)
        a = self.reshaped(x.value, (*x.value.type.ints[: len(batch)], *rows, k))
        outer = (*y.value.type.ints[: len(batch)], k)
        c = self.reshaped(y.value, (*outer, math.prod(columns)) if right or batch else outer)
        axes = (*batch, *left, *right)
        return _Factor(self.reshaped(self.add(MatMul(), a, c), self.shape(axes)), axes)

    def shape(self, axes: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self.lengths[axis] for axis in axes)

    def multiplied(self, x: _Factor, y: _Factor, axes: tuple[str, ...]) -> _Factor:
        """Return the product element by element, with the axes in this order."""
        operands: list[Value] = []
        for f in (x, y):
            mine = self.ordered(f, tuple(axis for axis in axes if axis in f.axes))
            lengths = iter(mine.value.type.ints)
            spread = tuple(next(lengths) if axis in mine.axes else 1 for axis in axes)
            operands.append(self.reshaped(mine.value, spread))
        return _Factor(self.add(Mul(), *operands), axes)
