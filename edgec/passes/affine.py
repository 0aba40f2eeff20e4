"""Operators that compute ``k * x + d`` with constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import Array, Builder, Node, Value
from edgec.ops import Add, BatchNorm, Div, Mul, Neg, Sub

__all__ = ["Affine", "affine_of", "along"]


@dataclass(frozen=True, slots=True)
class Affine:
    """``k * x + d``; both are float64 and broadcast to ``x``."""

    x: Value
    k: Array
    d: Array


def affine_of(b: Builder, node: Node) -> Affine | None:
    """Return what a node of the source computes, if that is of this form.

    Any activation aside. ``x`` is a value of the source, and not repeated by the node.
    """
    if isinstance(node.op, BatchNorm):
        return _normalised(b, node, node.op)
    one, zero = np.ones(()), np.zeros(())
    if isinstance(node.op, Neg):
        return Affine(node.inputs[0], -one, zero)
    if not isinstance(node.op, Add | Sub | Mul | Div) or not node.output.type.dtype.is_float:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        array = b.array(b.now(other))
        if array is None or x.type.dims != node.output.type.dims:
            continue
        c = np.asarray(array).astype(np.float64)
        comes_first = x == node.inputs[0]
        match node.op:
            case Add():
                return Affine(x, one, c)
            case Sub():
                return Affine(x, one, -c) if comes_first else Affine(x, -one, c)
            case Mul():
                return Affine(x, c, zero)
            case Div() if comes_first and (c != 0).all():
                return Affine(x, 1 / c, zero)
    return None


def _normalised(b: Builder, node: Node, op: BatchNorm) -> Affine | None:
    arrays = [b.array(b.now(v)) for v in node.inputs[1:]]
    if any(a is None for a in arrays):
        return None
    gamma, beta, mean, var = (a.astype(np.float64) for a in arrays if a is not None)
    k = gamma / np.sqrt(var + op.epsilon)
    shape = (-1, *(1,) * (node.output.type.rank - 2))
    return Affine(node.inputs[0], k.reshape(shape), (beta - k * mean).reshape(shape))


def along(array: Array, rank: int, axis: int, length: int) -> Array | None:
    """Return a factor or offset as one number for each index of an axis.

    ``None`` if it differs along another axis too, or repeats the values it is applied to.
    """
    if array.size == 1:
        return np.broadcast_to(array.reshape(()), (length,))
    if array.ndim > rank:
        return None
    aligned = (1,) * (rank - array.ndim) + array.shape
    if any(n != 1 for i, n in enumerate(aligned) if i != axis):
        return None
    return array.reshape(-1) if aligned[axis] == length else None
