"""Checks that several operators share: of axes, element types and scalars."""

from __future__ import annotations

import operator

from edgec.ir import Array, TensorType

__all__ = ["axis_of", "exact_float", "exact_number", "same_dtype"]


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the front; raise ``ValueError`` if there is no such axis.

    A ``TypeError`` tells of one that is a fraction: models name axes by tensors of any type.
    """
    axis = operator.index(axis)
    if not -rank <= axis < rank:
        raise ValueError(f"there is no axis {axis} where there are {rank}")
    return axis % rank


def exact_float(array: Array) -> float | None:
    """Return the only element of `array`, or ``None`` if no float stands for it exactly."""
    if array.size != 1 or array.dtype.hasobject:
        return None
    value = array.reshape(-1)[0]
    found = float(value)
    return None if array.dtype.kind in "iu" and int(found) != int(value) else found


def exact_number(array: Array) -> float | None:
    """Return the only element of `array`, or ``None`` if Python has no such number.

    Integers stay integers: a float would not stand for all of 64 bits.
    """
    if array.size == 1 and array.dtype.kind in "iu":
        return int(array.reshape(-1)[0])
    return exact_float(array)


def same_dtype(*operands: TensorType) -> None:
    """Raise ``ValueError`` unless all operands have the same element type."""
    if len({t.dtype for t in operands}) > 1:
        raise ValueError(f"the operands are {', '.join(map(str, operands))}, of several types")
