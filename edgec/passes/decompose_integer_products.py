"""Products of 8-bit integers, in floats that hold every sum exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import ABSENT, Array, Builder, DType, Graph, Node, Op, Value
from edgec.ops import (
    Add,
    Cast,
    Conv,
    ConvInteger,
    GroupedConv,
    MatMul,
    Mul,
    ReduceSum,
    Reshape,
    Slice,
    Sub,
)
from edgec.ops.integers import IntegerProduct
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["DecomposeIntegerProducts"]

_WHOLE = 2**24
"""Up to this magnitude float32 holds every integer."""


@dataclass(frozen=True, slots=True)
class DecomposeIntegerProducts(Pass):
    """Write ``MatMulInteger`` and ``ConvInteger`` as products of float32, cast to int32.

    ``y = int32(float(x - x_zero) @ float(w - w_zero))``. The inner axis is cut into parts whose
    sums stay within ``2 ** 24`` whatever ``x`` holds, and the parts are added as int32. A
    convolution in groups is not cut; neither is a single input channel.

    `MatMul` of integers of 32 or 64 bits is the sum of the products of all pairs, up to `pairs`
    of these: runtimes multiply matrices of floats only.

    Exact: every partial sum is an integer that float32 holds, or is computed as an integer.
    """

    name: ClassVar[str] = "decompose-integer-products"
    promise: ClassVar[Promise] = Exact()
    pairs: int = 1 << 24

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            match node.op:
                case IntegerProduct():
                    done = _decompose(b, node, node.op)
                case MatMul():
                    done = _all_pairs(b, node, self.pairs)
                case _:
                    done = False
            if not done:
                b.copy(node)
        return b.finish()


def _all_pairs(b: Builder, node: Node, most: int) -> bool:
    """Write ``sum(x[..., M, K, 1] * y[..., 1, K, N])`` over K."""
    x, y = map(b.now, node.inputs)
    if x.type.dtype not in (DType.INT32, DType.INT64):
        return False
    if not x.type.is_static or not y.type.is_static:
        return False
    left = x.type.ints if x.type.rank > 1 else (1, *x.type.ints)
    right = y.type.ints if y.type.rank > 1 else (*y.type.ints, 1)
    shape = (*np.broadcast_shapes(left[:-2], right[:-2]), *left[-2:], right[-1])
    if math.prod(shape) > most:
        return False
    rows = b.step(Reshape((*left, 1)), x, of=node, near=x.name)
    columns = b.step(Reshape((*right[:-2], 1, *right[-2:])), y, of=node, near=y.name)
    pairs = b.step(Mul(), rows, columns, of=node)
    sums = b.step(ReduceSum((len(shape) - 2,), keepdims=False), pairs, of=node)
    b.add(Reshape(node.output.type.ints), sums, like=node)
    return True


def _decompose(b: Builder, node: Node, op: IntegerProduct) -> bool:
    x, w = node.inputs[:2]
    if not x.type.is_static or not w.type.is_static:
        return False
    convolution = isinstance(op, ConvInteger)
    axes = (1, 1) if convolution else (x.type.rank - 1, max(w.type.rank - 2, 0))
    cuts = _cuts(b, node, axes[1])
    if not cuts or (len(cuts) > 2 and isinstance(op, ConvInteger) and op.groups > 1):
        return False
    left, right = (_centred(b, node, operand) for operand in (0, 1))
    totals: list[Value] = []
    for start, end in pairwise(cuts):
        parts = [left, right]
        if len(cuts) > 2:
            parts = [
                b.step(Slice((start,), (end,), (axis,), (1,)), value, of=node)
                for value, axis in zip(parts, axes, strict=True)
            ]
        product = b.step(_product(op), *parts, of=node)
        if len(cuts) == 2:
            b.add(Cast(DType.INT32), product, like=node)
            return True
        totals.append(b.step(Cast(DType.INT32), product, of=node))
    while len(totals) > 2:
        totals = [b.step(Add(), totals[0], totals[1], of=node), *totals[2:]]
    b.add(Add(), *totals, like=node)
    return True


def _product(op: IntegerProduct) -> Op:
    if not isinstance(op, ConvInteger):
        return MatMul()
    if op.groups > 1:
        return GroupedConv(op.stride, op.pad, op.dilation, groups=op.groups)
    return Conv(op.stride, op.pad, op.dilation)


def _cuts(b: Builder, node: Node, axis: int) -> list[int]:
    """Return where to cut the inner axis, from 0 to its length; nothing if that is no help."""
    reach = _reaches(b, node, axis) * _reach(b, node, 0)
    cuts, total = [0], np.zeros(reach.shape[1])
    for k, row in enumerate(reach):
        if row.max() > _WHOLE:
            return []
        total = total + row
        if total.max() > _WHOLE:
            cuts.append(k)
            total = row
    return [*cuts, len(reach)]


def _reaches(b: Builder, node: Node, axis: int) -> Array:
    """Return the magnitudes of the weights, by inner index and output."""
    w = node.inputs[1]
    array, zero = b.array(b.now(w)), _zero(b, node, 1)
    length = w.type.ints[axis]
    kernel = math.prod(w.type.ints[2:]) if isinstance(node.op, ConvInteger) else 1
    if array is None or zero is None:
        return np.full((length, 1), kernel * _reach(b, node, 1), np.float64)
    real = np.abs(array - zero)
    if isinstance(node.op, ConvInteger):
        return np.asarray(real.reshape(*w.type.ints[:2], -1).sum(2).T)
    return np.asarray(np.moveaxis(real, axis, 0).reshape(length, -1))


def _reach(b: Builder, node: Node, operand: int) -> float:
    """Return the largest magnitude that an operand less its zero point can have."""
    least, most = node.inputs[operand].type.dtype.limits
    zero = _zero(b, node, operand)
    if zero is None:
        return float(most - least)
    return float(max((zero - least).max(), (most - zero).max()))


def _zero(b: Builder, node: Node, operand: int) -> Array | None:
    """Return the zero point of an operand, broadcasting to it; ``None`` if it is computed."""
    value = node.inputs[2 + operand] if len(node.inputs) > 2 + operand else ABSENT
    if value.is_absent:
        return np.zeros(())
    array = b.array(b.now(value))
    if array is None:
        return None
    return array.astype(np.float64).reshape(_aligned(node, operand))


def _aligned(node: Node, operand: int) -> tuple[int, ...]:
    """Return the shape in which a zero point broadcasts to its operand."""
    zero, rank = node.inputs[2 + operand].type, node.inputs[operand].type.rank
    if zero.size == 1:
        return ()
    if isinstance(node.op, ConvInteger):
        return (zero.size, *(1,) * (rank - 1))  # one an output channel
    return (*zero.ints, 1) if operand == 0 and zero.rank == 1 else zero.ints


def _centred(b: Builder, node: Node, operand: int) -> Value:
    """Return an operand less its zero point, in float32."""
    x = node.inputs[operand]
    real = b.step(Cast(), b.now(x), of=node, near=x.name)
    if len(node.inputs) <= 2 + operand or node.inputs[2 + operand].is_absent:
        return real
    value = node.inputs[2 + operand]
    zero = b.step(Cast(), b.now(value), of=node, near=value.name)
    if zero.type.ints != _aligned(node, operand):
        zero = b.step(Reshape(_aligned(node, operand)), zero, of=node, near=value.name)
    return b.step(Sub(), real, zero, of=node, near=x.name)
