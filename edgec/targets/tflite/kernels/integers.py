"""Powers, remainders and bits: exact on integers of every width, by the builtins there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir import Array, DType, Node
from edgec.ops import (
    BitShift,
    Bitwise,
    BitwiseAnd,
    BitwiseNot,
    BitwiseOr,
    BitwiseXor,
    Div,
    Mod,
)
from edgec.targets.tflite.kernels.formula import Formula
from edgec.targets.tflite.kernels.kernel import Constraint, Kernel, cast, computed_in
from edgec.targets.tflite.lower import Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS", "long_division", "operands"]

_INTEGERS = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64})
_SMALL = frozenset({DType.INT8, DType.UINT8, DType.INT16})
_WORDS = (DType.INT32, DType.INT64)


def operands(b: Lowering, node: Node, dtype: DType) -> tuple[Formula, list[int]]:
    """Return a formula, and a node's operands as numbers of a type, ready to broadcast."""
    rank = node.output.type.rank
    perm = b.common_perm(node, rank, integer=False)
    tensors = [
        cast(b, b.broadcastable(v, rank, perm, integer=False), dtype) for v in node.inputs
    ]
    return Formula(b, tensors[0], perm), tensors


# ---- remainders and quotients


def _mod(b: Lowering, node: Node, op: Mod) -> None:
    dtype = computed_in(node.output.type.dtype, (*_WORDS, DType.FLOAT32))
    f, (a, n) = operands(b, node, dtype)
    if not op.fmod or node.output.type.dtype is DType.UINT8:
        f.done(node, _floor_mod(f, a, n))
    elif dtype is DType.FLOAT32:  # of magnitudes, because a sum would round
        rest = _floor_mod(f, f("ABS", a, options="Abs"), f("ABS", n, options="Abs"))
        minus = f("NEG", rest, options="Neg")
        f.done(node, f.where(f.less(a, 0.0), minus, rest))
    else:
        f.done(node, _remainder(f, a, n))


def _remainder(f: Formula, a: int, n: int) -> int:
    """What a division towards zero leaves, which has the sign of the dividend."""
    rest = _floor_mod(f, a, n)  # this one has the sign of the divisor
    unlike = f("NOT_EQUAL", f.less(a, 0.0), f.less(rest, 0.0), options="NotEqual",
               dtype=DType.BOOL)  # fmt: skip
    some = f("NOT_EQUAL", rest, 0.0, options="NotEqual", dtype=DType.BOOL)
    wrong = f("LOGICAL_AND", some, unlike, options="LogicalAnd", dtype=DType.BOOL)
    return f.where(wrong, f.sub(rest, n), rest)


def long_division(b: Lowering, node: Node, op: Div) -> None:
    """Divide 64-bit integers, for which TFLite has a remainder but no quotient.

    Less its remainder the dividend is a multiple of the divisor. The quotient in floats is off
    by less than a millionth; that of what it leaves over is off by as little of the first
    error, and the third is exact.
    """
    del op
    f, (a, n) = operands(b, node, DType.INT64)
    left = f.sub(a, _remainder(f, a, n))
    divisor = cast(b, n, DType.FLOAT32)
    quotient = _quotient(f, left, divisor)
    part = quotient
    for _ in range(2):
        left = f.sub(left, f.mul(part, n))
        part = _quotient(f, left, divisor)
        quotient = f.add(quotient, part)
    f.done(node, quotient)


def _quotient(f: Formula, a: int, divisor: int) -> int:
    """Return the nearest integer to a quotient, as far as floats can tell."""
    inner = Formula(f.b, divisor, f.perm)
    ratio = inner.div(cast(f.b, a, DType.FLOAT32), divisor)
    return cast(f.b, inner("ROUND", ratio), DType.INT64)


# ---- bits


def _bitwise(combine: Callable[[Formula, int, int, bool], int]) -> Kernel:
    """Return the lowering of a function of pairs of bits.

    Parameters
    ----------
    combine
        Adds the builtins, given whether the operands are small numbers, whose sum fits.
    """

    def run(b: Lowering, node: Node, op: Bitwise) -> None:
        del op
        dtype = node.output.type.dtype
        if dtype is DType.INT64:
            f, words = operands(b, node, dtype)
            halves = [_halves(b, t) for t in words]
            inner = Formula(b, halves[0], (*f.perm, len(f.perm)))
            found = combine(inner, halves[0], halves[1], False)
            shape = b.info(found).shape[:-1]
            f.done(node, f("BITCAST", found, options="Bitcast", shape=shape))
            return
        small = dtype in _SMALL
        f, (x, y) = operands(b, node, DType.INT32)
        f.done(node, combine(f, x, y, small))

    return Kernel(run, _INTEGERS)


def _halves(b: Lowering, tensor: int) -> int:
    """Return 64-bit integers as pairs of 32 bits, along one more axis."""
    info = b.info(tensor)
    if info.data is not None:
        words = np.ascontiguousarray(info.data).view(np.int32)
        return b.constant(f"{info.name}/halves", words.reshape(*info.shape, 2))
    out = b.tensor(f"{info.name}/halves", DType.INT32, (*info.shape, 2))
    b.operator("BITCAST", [tensor], [out], "Bitcast")
    return out


def _xor(f: Formula, x: int, y: int, small: bool) -> int:
    del small
    return f("BITWISE_XOR", x, y, options="BitwiseXor")


def _and(f: Formula, x: int, y: int, small: bool) -> int:
    """Half of what two numbers have beyond the bits in which they differ.

    The sum of large numbers would overflow: all but their lowest bits are joined so.
    """
    if small:
        twice = f.sub(f.add(x, y), _xor(f, x, y, small))
        return _shifted(f, twice, 1.0)
    high = [_shifted(f, t, 1.0) for t in (x, y)]
    common = f.sub(f.add(high[0], high[1]), _xor(f, high[0], high[1], small))
    lowest = f.mul(_floor_mod(f, x, 2.0), _floor_mod(f, y, 2.0))
    return f.add(common, lowest)


def _or(f: Formula, x: int, y: int, small: bool) -> int:
    return f.add(_and(f, x, y, small), _xor(f, x, y, small))


def _floor_mod(f: Formula, a: int | float, n: int | float) -> int:
    return f("FLOOR_MOD", a, n, options="FloorMod")


def _shifted(f: Formula, x: int, by: int | float) -> int:
    return f("RIGHT_SHIFT", x, by, options="RightShift")


def _not(b: Lowering, node: Node, op: BitwiseNot) -> None:
    f = Formula.of(b, node)
    if node.output.type.dtype is DType.INT64:
        f.done(node, f.sub(-1.0, f.x))
    else:
        ones = np.array(-1).astype(node.output.type.dtype.numpy)
        f.done(node, _xor(f, f.x, b.constant(f"{b.layer}/ones", ones), True))


def _bit_shift(b: Lowering, node: Node, op: BitShift) -> None:
    dtype = node.output.type.dtype
    wide = DType.INT64 if dtype is DType.INT64 else DType.INT32
    width = dtype.numpy.itemsize * 8
    f, (x, by) = operands(b, node, wide)
    if op.left:
        # Places that the type does not have, and negative ones, leave nothing.
        powers = np.array([2**k for k in range(width)] + [0], object)
        powers = np.where(powers == 2**63, -(2**63), powers).astype(np.int64)
        table = powers.astype(wide.numpy)
        f.done(node, f.mul(x, _looked_up(f, table, by, width)))
    elif wide is DType.INT32:
        # The kernel stops at 31 places; negative numbers of them are as many.
        places = np.array([*range(32), 31], np.int32)
        given = b.info(by).data
        if given is None and dtype is not DType.UINT8:
            by = f.where(f.less(by, 0.0), 31.0, by)
        elif given is not None:
            by = b.constant(f"{b.layer}/places", places[_places(given, 32)])
        f.done(node, _shifted(f, x, by))
    else:
        f.done(node, _long_shift(f, x, by))


def _long_shift(f: Formula, x: int, by: int) -> int:
    """Move 64 bits to the right: three parts that floats hold, divided and rounded down."""
    b = f.b
    table = np.array([2.0**-k for k in range(64)] + [2.0**-63], np.float32)
    factor = _looked_up(f, table, by, 64)
    inner = Formula(b, factor, f.perm)
    low = _floor_mod(f, x, 2.0**22)
    rest = f.sub(x, low)
    middle = _floor_mod(f, rest, 2.0**44)
    moved = [
        cast(b, inner("FLOOR", inner.mul(cast(b, part, DType.FLOAT32), factor)), DType.INT64)
        for part in (low, middle, f.sub(rest, middle))
    ]
    return f.add(f.add(moved[0], moved[1]), moved[2])


def _looked_up(f: Formula, table: Array, by: int, last: int) -> int:
    """Return what a table says of each number of places; its last entry where there is none."""
    b = f.b
    given = b.info(by).data
    if given is not None:
        return b.constant(f"{b.layer}/factors", table[_places(given, last)])
    end = float(last)
    by = f.where(f.less(by, 0.0), end, f.least(by, end))
    places = cast(b, by, DType.INT32)
    entries = b.constant(f"{b.layer}/table", table)
    return f("GATHER", entries, places, options="Gather", shape=b.info(by).shape,
             dtype=DType.of(table.dtype), axis=0, batchDims=0)  # fmt: skip


def _places(given: Array, last: int) -> Array:
    """Return constant numbers of places; the last one for negative and for larger numbers."""
    return np.where((given < 0) | (given > last), last, given)


LOWERINGS = {
    BitShift: Kernel(_bit_shift, _INTEGERS),
    BitwiseAnd: _bitwise(_and),
    BitwiseNot: Kernel(_not, _INTEGERS),
    BitwiseOr: _bitwise(_or),
    BitwiseXor: _bitwise(_xor),
    Mod: Kernel(_mod, _INTEGERS | {DType.FLOAT32}),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
