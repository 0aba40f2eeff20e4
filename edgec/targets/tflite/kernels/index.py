"""Operators that pick elements by index."""

from __future__ import annotations

import numpy as np

from edgec.errors import InternalError
from edgec.ir import DType, Graph, Node
from edgec.ops import Gather
from edgec.targets.tflite.kernels.kernel import FLOAT, Constraint, Kernel
from edgec.targets.tflite.lower import Lowering, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _gather(b: Lowering, node: Node, op: Gather) -> None:
    x, indices = node.inputs
    array = b.graph.constant(indices)
    if array is None:
        raise InternalError(f"{node.layer} has computed indices, which the check overlooked")
    length = x.type.ints[op.axis]
    picked = np.where(array < 0, array + length, array).astype(np.int32)
    perm = b.perm_of(x) if array.ndim < 2 else None
    perm = perm or identity(x.type.rank)
    source = b.get(x, perm)
    where = b.constant(f"{b.layer}/indices", picked)
    kept = perm if array.ndim == 1 else identity(node.output.type.rank)
    if array.ndim == 0:  # the axis is gone, the order of the others stays
        kept = tuple(a - (a > op.axis) for a in perm if a != op.axis)
    axis = perm.index(op.axis)
    b.operator("GATHER", [source, where], [b.put(node, kept)], "Gather", axis=axis)


def _constant_indices(graph: Graph, node: Node) -> str | None:
    """Indices are constants."""
    indices = node.inputs[1]
    return None if graph.constant(indices) is not None else f"{indices} is computed"


LOWERINGS = {Gather: Kernel(_gather, FLOAT | {DType.INT32, DType.INT64})}

CONSTRAINTS = (Constraint((Gather,), _constant_indices, "store the indices in the model"),)
