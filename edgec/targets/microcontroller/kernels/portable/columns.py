"""Products of columns of numbers with filters: what convolutions and dense layers share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir import Array
from edgec.targets.microcontroller.kernels.base import Function, Table
from edgec.targets.microcontroller.kernels.requantization import Multiplier
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["COPY", "FILL", "FILTERS_1", "FILTERS_2", "FILTERS_TYPE", "filter_constants"]

FILTERS_TYPE = """\
/* Filters of one layer: how many, how long, and what their results are put on. */
typedef struct {
    int32_t count;
    int32_t length;
    int32_t zero_point;
    int32_t least;
    int32_t most;
} $filters;
"""

_STORE = Function(
    "$to_int8",
    "int8_t $to_int8(int32_t sum, const int32_t *constants, const $filters *f)",
    """\
{
    int32_t value = $rescale(sum, constants[1], constants[2]) + f->zero_point;
    value = value < f->least ? f->least : value;
    value = value > f->most ? f->most : value;
    return (int8_t)value;
}
""",
    needs=(RESCALE,),
    types=(FILTERS_TYPE,),
)

FILTERS_1 = Function(
    "$filters_1",
    "void $filters_1(const int8_t *x, int8_t *y, const int8_t *weights,\n"
    "                const int32_t *constants, const $filters *f)",
    """\
{
    /* One column, two filters at a time. Constants of a filter: bias (with the zero point of
       the input times the sum of the weights in it), multiplier, shift. */
    int32_t i = 0;
    for (; i + 2 <= f->count; i += 2) {
        const int8_t *second = weights + f->length;
        int32_t a = constants[0];
        int32_t b = constants[3];
        for (int32_t k = 0; k < f->length; k++) {
            const int32_t value = x[k];
            a += value * weights[k];
            b += value * second[k];
        }
        y[i] = $to_int8(a, constants, f);
        y[i + 1] = $to_int8(b, constants + 3, f);
        weights = second + f->length;
        constants += 6;
    }
    if (i < f->count) {
        int32_t a = constants[0];
        for (int32_t k = 0; k < f->length; k++) {
            a += (int32_t)x[k] * weights[k];
        }
        y[i] = $to_int8(a, constants, f);
    }
}
""",
    needs=(_STORE,),
    types=(FILTERS_TYPE,),
)

FILTERS_2 = Function(
    "$filters_2",
    "void $filters_2(const int8_t *x0, const int8_t *x1, int8_t *y0, int8_t *y1,\n"
    "                const int8_t *weights, const int32_t *constants, const $filters *f)",
    """\
{
    /* Two columns at a time, so that each weight is loaded once for both. */
    for (int32_t i = 0; i < f->count; i++) {
        int32_t a = constants[0];
        int32_t b = a;
        for (int32_t k = 0; k < f->length; k++) {
            const int32_t weight = weights[k];
            a += weight * x0[k];
            b += weight * x1[k];
        }
        y0[i] = $to_int8(a, constants, f);
        y1[i] = $to_int8(b, constants, f);
        weights += f->length;
        constants += 3;
    }
}
""",
    needs=(_STORE,),
    types=(FILTERS_TYPE,),
)

FILL = Function(
    "$fill",
    "int8_t *$fill(int8_t *to, int32_t value, int32_t count)",
    """\
{
    while (count-- > 0) {
        *to++ = (int8_t)value;
    }
    return to;
}
""",
)
"""Writes a byte over and over and returns where it ended."""

COPY = Function(
    "$copy",
    "int8_t *$copy(int8_t *to, const int8_t *from, int32_t count)",
    """\
{
    while (count-- > 0) {
        *to++ = *from++;
    }
    return to;
}
""",
)
"""Copies bytes from the front and returns where it ended."""


def filter_constants(
    weights: Array, bias: Array | None, zero_point: int, multipliers: Sequence[Multiplier]
) -> Table:
    """Return bias, multiplier and shift of each filter, one after the other.

    The zero point of the input is folded into the bias: what lies outside the picture has to
    be the zero point.

    Parameters
    ----------
    weights
        One filter a row.
    """
    sums = weights.astype(np.int64).sum(1)
    start = -zero_point * sums + (0 if bias is None else bias.astype(np.int64))
    factors = np.array([(m.value, m.shift) for m in multipliers], np.int64)
    rows = np.column_stack([start, factors])
    count = len(weights)
    return Table(
        rows.astype(np.int32).reshape(-1), {"biases": 4 * count, "requantization": 8 * count}
    )
