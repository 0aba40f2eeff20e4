"""Operators that pick elements by index."""

from __future__ import annotations

import numpy as np

from edgec.ir import Node, Value
from edgec.ops import Gather
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel
from edgec.targets.tflite.lower import Lowering, identity

__all__ = ["CONSTRAINTS", "LOWERINGS", "wrapped"]


def _gather(b: Lowering, node: Node, op: Gather) -> None:
    x, indices = node.inputs
    perm = b.perm_of(x) if indices.type.rank < 2 else None
    perm = perm or identity(x.type.rank)
    source = b.get(x, perm)
    where = wrapped(b, indices, x.type.ints[op.axis])
    kept = perm if indices.type.rank == 1 else identity(node.output.type.rank)
    if indices.type.rank == 0:  # the axis is gone, the order of the others stays
        kept = tuple(a - (a > op.axis) for a in perm if a != op.axis)
    axis = perm.index(op.axis)
    b.operator("GATHER", [source, where], [b.put(node, kept)], "Gather", axis=axis)


def wrapped(b: Lowering, indices: Value, length: int) -> int:
    """Return indices of an axis counted from the front, in row-major order.

    The kernels refuse negative ones.
    """
    array = b.graph.constant(indices)
    if array is not None:
        return b.ints("indices", np.where(array < 0, array + length, array))
    given = b.get(indices, identity(indices.type.rank))
    info = b.info(given)
    by = b.constant(f"{b.layer}/length", np.array(length, info.dtype.numpy))
    out = b.tensor(f"{b.layer}/counted", info.dtype, info.shape)
    b.operator("FLOOR_MOD", [given, by], [out], "FloorMod")
    return out


LOWERINGS = {Gather: Kernel(_gather, ANY, axes=8)}

CONSTRAINTS: tuple[Constraint, ...] = ()
