"""Functions in fixed point as TFLite Micro computes them, on arrays, for tables.

References
----------
gemmlowp, fixedpoint/fixedpoint.h.
"""

from __future__ import annotations

import math

import numpy as np

from edgec.ir import Array

__all__ = [
    "LARGEST",
    "doubling_high",
    "exp_of_negatives",
    "input_radius",
    "logistic",
    "one_over_one_plus",
    "shifted",
    "sigmoid_table",
    "tanh",
]

LARGEST = (1 << 31) - 1
"""Stands for one where 31 bits lie behind the point."""

_HALVINGS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""``exp(-2 ** k)`` for k from -2 to 4, with 31 bits behind the point."""


def doubling_high(a: Array, b: Array | int) -> Array:
    """Return ``a * b / 2 ** 31``, halves rounded up; of 32-bit integers held in int64."""
    return np.asarray(np.minimum((a * np.int64(b) + (1 << 30)) >> 31, LARGEST))


def shifted(a: Array, by: int) -> Array:
    """Return ``a / 2 ** by``, halves rounded away from zero."""
    if by == 0:
        return a
    return np.asarray((a + (1 << (by - 1)) - (a < 0)) >> by)


def _saturating_left(a: Array, by: int) -> Array:
    limit = (1 << (31 - by)) - 1
    wide = np.where(a > limit, LARGEST, a * (1 << by))
    return np.where(a < -limit, -LARGEST - 1, wide)


def exp_of_negatives(a: Array, integer_bits: int) -> Array:
    """Return ``exp(a / 2 ** (31 - integer_bits))`` with 31 bits behind the point, ``a <= 0``.

    A series for what is left of a quarter, times a constant for each bit above it.
    """
    a = a.astype(np.int64)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (a & (quarter - 1)) - quarter
    x = part * (1 << integer_bits) + (1 << 28)
    x2 = doubling_high(x, x)
    x3 = doubling_high(x2, x)
    x4 = shifted(doubling_high(x2, x2), 2)
    series = shifted(doubling_high(x4 + x3, 715827883) + x2, 1)
    constant = 1895147668  # exp(-1 / 8)
    result = constant + doubling_high(x + series, constant)
    rest = part - a
    for exponent, factor in zip(range(-2, integer_bits), _HALVINGS, strict=False):
        bit = 1 << (fraction_bits + exponent)
        result = np.where(rest & bit, doubling_high(result, factor), result)
    return np.where(a == 0, LARGEST, result)


def _newton(a: Array) -> Array:
    """Return ``2 / (1 + a)`` with 29 bits behind the point, for ``0 <= a <= 1``."""
    half = (a + LARGEST + 1) >> 1
    x = 1515870810 + doubling_high(half, -1010580540)  # 48 / 17 - 32 / 17 half
    for _ in range(3):
        error = (1 << 29) - doubling_high(half, x)
        x = x + _saturating_left(doubling_high(x, error), 2)
    return x


def one_over_one_plus(a: Array) -> Array:
    """Return ``1 / (1 + a)``, 31 bits behind the point."""
    return _saturating_left(_newton(a), 1)


def logistic(a: Array) -> Array:
    """Return the logistic function with 31 bits behind the point; of 27 bits behind it."""
    a = a.astype(np.int64)
    positive = one_over_one_plus(exp_of_negatives(-np.abs(a), 4))
    result = np.where(a > 0, positive, LARGEST - positive)
    return np.where(a == 0, 1 << 30, result)


def tanh(a: Array) -> Array:
    """Return the hyperbolic tangent with 31 bits behind the point; of 27 bits behind it."""
    a = a.astype(np.int64)
    # exp(-2 |a|): the same integer, with one more bit before the point.
    exponential = exp_of_negatives(-np.abs(a), 5)
    magnitude = _saturating_left(_newton(exponential) - (1 << 29), 2)
    return np.where(a == 0, 0, np.where(a < 0, -magnitude, magnitude))


def input_radius(integer_bits: int, left_shift: int) -> int:
    """Return up to which integer an operand fits so many bits before the point.

    References
    ----------
    tensorflow/lite/kernels/internal/quantization_util.cc, CalculateInputRadius.
    """
    room = ((1 << integer_bits) - 1) * (1 << (31 - integer_bits))
    return math.floor(room / (1 << left_shift))


# Where the table that TFLite ships is one above its formula.
_ONE_ABOVE = (
    4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40,
    41, 43, 44, 45, 46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255,
)  # fmt: skip


def sigmoid_table() -> Array:
    """Return ``65536 / (1 + exp(-k / 24))`` for k up to 255, as 16-bit functions look it up."""
    table = [min(65535, math.floor(65536 / (1 + math.exp(-k / 24)) + 0.5)) for k in range(256)]
    for k in _ONE_ABOVE:
        table[k] += 1
    return np.array(table, np.uint16)
