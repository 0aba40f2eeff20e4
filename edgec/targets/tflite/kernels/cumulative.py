"""Sums and products of all elements up to each; the mask of a dropout."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, Node
from edgec.ops import CumProd, CumSum, Dropout
from edgec.targets.tflite.kernels.formula import Formula
from edgec.targets.tflite.kernels.kernel import ANY, FLOAT, Constraint, Kernel
from edgec.targets.tflite.lower import Lowering, Stored, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]

_TAKEN = FLOAT | {DType.INT32, DType.INT64}


def _cum_sum(b: Lowering, node: Node, op: CumSum) -> None:
    f = Formula.of(b, node)
    axis = b.ints("axis", f.perm.index(op.axis))
    flags = {"exclusive": op.exclusive, "reverse": op.reverse}
    b.operator("CUMSUM", [f.x, axis], [b.put(node, f.perm)], "Cumsum", None, **flags)


def _cum_prod(b: Lowering, node: Node, op: CumProd) -> None:
    """Each step multiplies by the products of twice as many elements before."""
    f = Formula.of(b, node)
    axis = f.perm.index(op.axis)
    length = b.info(f.x).shape[axis]
    total = _moved(f, f.x, axis, 1, op) if op.exclusive else f.x
    step = 1
    while step < length:
        total = f.mul(total, _moved(f, total, axis, step, op))
        step *= 2
    if total == f.x:  # of one element
        total = f.mul(total, 1.0)
    f.done(node, total)


def _moved(f: Formula, tensor: int, axis: int, by: int, op: CumProd) -> int:
    """Move elements along a stored axis, away from where it begins; ones come after them."""
    b = f.b
    shape = b.info(tensor).shape
    count = shape[axis] - by
    begin = [by if op.reverse and k == axis else 0 for k in range(len(shape))]
    size = [count if k == axis else n for k, n in enumerate(shape)]
    operands = [tensor, b.ints("begin", begin), b.ints("size", size)]
    rest = f("SLICE", *operands, options="Slice", shape=size)
    sides = (0, by) if op.reverse else (by, 0)
    pads = b.ints("pads", [sides if k == axis else (0, 0) for k in range(len(shape))])
    return f("PADV2", rest, pads, f.number(1.0), options="PadV2", shape=shape)


def _dropout(b: Lowering, node: Node, op: Dropout) -> None:
    x, mask = node.inputs[0], node.outputs[1]
    perm = b.order_of(x)
    b.stored[node.outputs[0]] = Stored(b.get(x), perm)
    kept = b.constant(mask.name, np.ones(mask.type.ints, bool))
    b.stored[mask] = Stored(kept, identity(mask.type.rank))


LOWERINGS = {
    CumProd: Kernel(_cum_prod, _TAKEN, axes=5),
    CumSum: Kernel(_cum_sum, _TAKEN),
    Dropout: Kernel(_dropout, ANY),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
