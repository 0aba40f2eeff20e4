"""Factors behind operators that keep each channel to itself, or move channels about."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from edgec.ir import Array, Node
from edgec.ops import (
    Abs,
    AveragePool,
    Expand,
    GlobalAveragePool,
    GlobalLpPool,
    GlobalMaxPool,
    Identity,
    LeakyRelu,
    LpPool,
    MaxPool,
    Neg,
    Pad,
    ReduceL1,
    ReduceL2,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Relu,
    Reshape,
    Resize,
    Slice,
    Split,
    Transpose,
)
from edgec.passes.axis_groups import axis_groups
from edgec.passes.factors import Factors

__all__ = ["MOVES", "collapsed", "is_single", "moved", "ranked"]

_ELEMENTWISE = (Identity, Relu, LeakyRelu, Abs, Neg)
_POOLS = (MaxPool, AveragePool, LpPool, GlobalAveragePool, GlobalLpPool, GlobalMaxPool)
_REDUCTIONS = (ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceL1, ReduceL2)

MOVES = (
    *(_ELEMENTWISE + _POOLS + _REDUCTIONS),
    *(Expand, Pad, Reshape, Resize, Slice, Split, Transpose),
)
"""Operators with one value to read that are homogeneous in each element or channel."""


def moved(node: Node, numbers: Array, factors: Factors) -> list[Array] | None:
    """Return the numbers of what one of `MOVES` makes, or ``None`` if it mixes channels.

    Parameters
    ----------
    numbers
        Of what it reads.
    """
    x, op = node.inputs[0], node.op
    match op:
        case Pad():
            padded = _padded(op, numbers, factors)
            return None if padded is None else [padded]
        case Reshape():
            reshaped = _reshaped(node, numbers)
            return None if reshaped is None else [reshaped]
        case Transpose():
            return [numbers.transpose(op.perm)]
        case Expand():
            return [ranked(numbers, node.output.type.rank)]
        case Slice():
            return _sliced(op, node, numbers)
        case Split():
            if numbers.shape[op.axis] == 1:
                return [numbers] * len(node.outputs)
            return np.split(numbers, list(accumulate(op.sizes))[:-1], op.axis)
        case Resize():
            return [numbers] if op.beyond == 0 and is_single(numbers, *op.axes) else None
        case _ if isinstance(op, _ELEMENTWISE):
            return [numbers]
        case _ if isinstance(op, _POOLS):
            return [numbers] if is_single(numbers, *range(2, x.type.rank)) else None
        case _ if isinstance(op, _REDUCTIONS) and is_single(numbers, *op.axes):
            return [numbers if op.keepdims else numbers.squeeze(op.axes)]
    return None


def _padded(op: Pad, numbers: Array, factors: Factors) -> Array | None:
    if op.value != 0:
        return None
    for axis, ends in enumerate(op.ends()):
        if not any(ends) or numbers.shape[axis] == 1:
            continue
        if min(ends) < 0:
            return None
        before, after = numbers.shape[:axis], numbers.shape[axis + 1 :]
        # Zeros, which any factor leaves as they are.
        first, last = (factors.fresh(*before, n, *after) for n in ends)
        numbers = np.concatenate([first, numbers, last], axis)
    return numbers


def _reshaped(node: Node, numbers: Array) -> Array | None:
    x, y = node.inputs[0].type, node.output.type
    if numbers.size == 1:
        return numbers.reshape((1,) * y.rank)
    if not (x.is_static and y.is_static) or 0 in x.ints:
        return None
    before, after = [1] * x.rank, [1] * y.rank
    for group in axis_groups(x.ints, y.ints):
        if not is_single(numbers, *group.before):
            for axis in group.before:
                before[axis] = x.ints[axis]
            for axis in group.after:
                after[axis] = y.ints[axis]
    return collapsed(np.broadcast_to(numbers, before).reshape(after))


def _sliced(op: Slice, node: Node, numbers: Array) -> list[Array] | None:
    if is_single(numbers, *op.axes):
        return [numbers]
    x = node.inputs[0].type
    if not x.is_static:
        return None
    for axis, kept in op.ranges(x).items():
        if numbers.shape[axis] > 1:
            numbers = numbers.take(list(kept), axis)
    return [numbers]


def ranked(numbers: Array, rank: int) -> Array:
    """Return numbers with further axes of length 1 in front."""
    return numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)


def is_single(numbers: Array, *axes: int) -> bool:
    """Whether all places along some axes have the same factor."""
    return all(numbers.shape[axis] == 1 for axis in axes)


def collapsed(numbers: Array) -> Array:
    """Return numbers with length 1 along the axes along which they do not differ."""
    for axis in range(numbers.ndim):
        first = numbers.take([0], axis)
        if numbers.shape[axis] > 1 and (numbers == first).all():
            numbers = first
    return np.ascontiguousarray(numbers)
