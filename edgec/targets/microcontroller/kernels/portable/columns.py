"""Products of columns of numbers with filters: what convolutions and dense layers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgec.ir import Array
from edgec.program import Layer
from edgec.program.operators import Activation
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Function, Table
from edgec.targets.microcontroller.kernels.portable.layouts import bias_of
from edgec.targets.microcontroller.kernels.portable.results import RESULTS_TYPE, Results

__all__ = ["COPY", "FILL", "FILTERS_TYPE", "Filters"]

FILTERS_TYPE = """\
/* Filters of one layer: how many, how long, and what their sums are put on. */
typedef struct {
    int32_t count;
    int32_t length;
    $results results;
} $filters;
"""

_NO_UNROLLING = """\
#if defined(__clang__)
#pragma clang loop unroll(disable)
#endif
"""

_DOT_1 = Function(
    "$dot_1",
    "int32_t $dot_1(const int8_t *x, const int8_t *weights, int32_t count, int32_t sum)",
    """\
{
    const int8_t *const end = weights + count;
    while (weights != end) {
        sum += (int32_t)*x++ * *weights++;
    }
    return sum;
}
""",
    apart=True,
)

_DOT_1_FEW = Function(
    "$dot_1",
    "int32_t $dot_1(const int8_t *x, const int8_t *weights, int32_t count, int32_t sum)",
    f"""\
{{
    /* This core has few registers: one index for both, and no unrolling. */
{_NO_UNROLLING}\
    while (count != 0) {{
        count--;
        sum += (int32_t)x[count] * weights[count];
    }}
    return sum;
}}
""",
    apart=True,
)

_DOT_2_FEW = Function(
    "$dot_2",
    "void $dot_2(const int8_t *x0, const int8_t *x1, const int8_t *weights, int32_t count,\n"
    "    int32_t *sums)",
    f"""\
{{
    /* Adds the products of two columns with the same weights: each is loaded once for both.
       This core has few registers: one index for all, and no unrolling. */
    int32_t a = sums[0];
    int32_t b = sums[1];
{_NO_UNROLLING}\
    while (count != 0) {{
        count--;
        const int32_t weight = weights[count];
        a += weight * x0[count];
        b += weight * x1[count];
    }}
    sums[0] = a;
    sums[1] = b;
}}
""",
    apart=True,
)

_DOT_2 = Function(
    "$dot_2",
    _DOT_2_FEW.prototype,
    """\
{
    /* Adds the products of two columns with the same weights: each is loaded once for both. */
    const int8_t *const end = weights + count;
    int32_t a = sums[0];
    int32_t b = sums[1];
    while (weights != end) {
        const int32_t weight = *weights++;
        a += weight * *x0++;
        b += weight * *x1++;
    }
    sums[0] = a;
    sums[1] = b;
}
""",
    apart=True,
)

_DOT_2X2 = Function(
    "$dot_2x2",
    "void $dot_2x2(const int8_t *x0, const int8_t *x1, const int8_t *weights, int32_t count,\n"
    "    int32_t *sums)",
    """\
{
    /* Adds the products of two columns with two filters that lie one behind the other: each
       number is loaded once for two products. */
    const int8_t *const end = weights + count;
    const int8_t *other = end;
    int32_t a = sums[0];
    int32_t b = sums[1];
    int32_t c = sums[2];
    int32_t d = sums[3];
    while (weights != end) {
        const int32_t first = *x0++;
        const int32_t second = *x1++;
        const int32_t one = *weights++;
        const int32_t two = *other++;
        a += one * first;
        b += one * second;
        c += two * first;
        d += two * second;
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
""",
    apart=True,
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


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a layer, and the functions that multiply columns with them.

    Parameters
    ----------
    one, two
        For one column, and for two at a time.
    fields
        The initializer of ``$filters``, for a call.
    """

    one: Function
    two: Function
    tables: Mapping[str, Table]
    fields: str

    @classmethod
    def of(
        cls, layer: Layer, core: Core, activation: Activation, weights: Array, groups: int = 1
    ) -> Filters:
        """Return those of a layer of int8.

        The zero point of the input is folded into the biases: what lies outside the picture
        has to be the zero point.

        Parameters
        ----------
        weights
            One filter a row.
        """
        few = any("cortex-m0" in word for word in (core.name, *core.compiler))
        bias = bias_of(layer)
        count, length = weights.shape
        biases = np.zeros(count, np.int64) if bias is None else bias.astype(np.int64)
        results = Results.of(layer, activation, weights, biases)
        zero_point = layer.input(0).zero_point
        constants = results.table(biases - zero_point * weights.astype(np.int64).sum(1))
        flat = np.ascontiguousarray(weights).reshape(-1)
        return cls(
            _filters_1(results.function, few=few),
            _filters_2(results.function, few=few),
            MappingProxyType(
                {"weights": Table(flat, {"weights": flat.size}), "constants": constants}
            ),
            f"{{{{{count // groups}, {length}, {results.fields}}}}}",
        )


def _filters_1(result: Function, *, few: bool) -> Function:
    name = f"$filters_1{result.name.removeprefix('$result')}"
    return Function(
        name,
        f"void {name}(const int8_t *x, int8_t *y, const int8_t *weights,\n"
        "    const int32_t *constants, const $filters *f)",
        f"""\
{{
    /* One column, and two filters at a time, so that it is loaded once for both. Constants of
       a filter: its bias, with the zero point of the input times the sum of the weights in it,
       and what its sum is scaled with. */
    int32_t i = 0;
    for (; i + 2 <= f->count; i += 2) {{
        int32_t sums[2];
        sums[0] = constants[0];
        sums[1] = constants[3];
        $dot_2(weights, weights + f->length, x, f->length, sums);
        y[i] = {result.name}(sums[0], constants, &f->results);
        y[i + 1] = {result.name}(sums[1], constants + 3, &f->results);
        weights += 2 * f->length;
        constants += 6;
    }}
    if (i < f->count) {{
        const int32_t sum = $dot_1(x, weights, f->length, constants[0]);
        y[i] = {result.name}(sum, constants, &f->results);
    }}
}}
""",
        needs=(*((_DOT_1_FEW, _DOT_2_FEW) if few else (_DOT_1, _DOT_2)), result),
        types=(RESULTS_TYPE, FILTERS_TYPE),
    )


def _filters_2(result: Function, *, few: bool) -> Function:
    name = f"$filters_2{result.name.removeprefix('$result')}"
    if few:
        loop = f"""\
    for (int32_t i = 0; i < f->count; i++) {{
        int32_t sums[2];
        sums[0] = constants[0];
        sums[1] = constants[0];
        $dot_2(x0, x1, weights, f->length, sums);
        y0[i] = {result.name}(sums[0], constants, &f->results);
        y1[i] = {result.name}(sums[1], constants, &f->results);
        weights += f->length;
        constants += 3;
    }}
"""
    else:
        loop = f"""\
    int32_t i = 0;
    for (; i + 2 <= f->count; i += 2) {{
        int32_t sums[4];
        sums[0] = constants[0];
        sums[1] = constants[0];
        sums[2] = constants[3];
        sums[3] = constants[3];
        $dot_2x2(x0, x1, weights, f->length, sums);
        y0[i] = {result.name}(sums[0], constants, &f->results);
        y1[i] = {result.name}(sums[1], constants, &f->results);
        y0[i + 1] = {result.name}(sums[2], constants + 3, &f->results);
        y1[i + 1] = {result.name}(sums[3], constants + 3, &f->results);
        weights += 2 * f->length;
        constants += 6;
    }}
    if (i < f->count) {{
        const int32_t a = $dot_1(x0, weights, f->length, constants[0]);
        const int32_t b = $dot_1(x1, weights, f->length, constants[0]);
        y0[i] = {result.name}(a, constants, &f->results);
        y1[i] = {result.name}(b, constants, &f->results);
    }}
"""
    return Function(
        name,
        f"void {name}(const int8_t *x0, const int8_t *x1, int8_t *y0, int8_t *y1,\n"
        "    const int8_t *weights, const int32_t *constants, const $filters *f)",
        f"{{\n    /* Two columns. */\n{loop}}}\n",
        needs=(_DOT_2_FEW, result) if few else (_DOT_1, _DOT_2X2, result),
        types=(RESULTS_TYPE, FILTERS_TYPE),
    )
