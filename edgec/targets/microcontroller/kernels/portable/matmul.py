"""Products of computed matrices, in portable C."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import BatchMatMul
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.portable.strides import (
    Axis,
    contiguous,
    merged,
    nested,
)
from edgec.targets.microcontroller.kernels.portable.wide import RESCALE_WIDE
from edgec.targets.microcontroller.kernels.requantization import Multiplier
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["batch_matmul", "matmul_axes"]

_TYPE = """\
/* A product of matrices: sizes, steps along rows and sums, and what results are put on. */
typedef struct {
    int32_t rows, columns, depth;
    int32_t row_a, step_a, column_b, step_b;
    int32_t zero_a, zero_b;
    int32_t multiplier, shift, zero_y;
} $matrices;
"""

_PRODUCT = """\
{{
    for (int32_t i = 0; i < m->rows; i++) {{
        for (int32_t j = 0; j < m->columns; j++) {{
            const {ctype} *p = a + i * m->row_a;
            const {ctype} *q = b + j * m->column_b;
            {wide} sum = 0;
            int32_t value;
            for (int32_t k = 0; k < m->depth; k++) {{
                sum += (*p - m->zero_a) * (*q - m->zero_b);
                p += m->step_a;
                q += m->step_b;
            }}
            value = {rescale}(sum, m->multiplier, m->shift) + m->zero_y;
            value = value < {low} ? {low} : value;
            value = value > {high} ? {high} : value;
            *y++ = ({ctype})value;
        }}
    }}
}}
"""


def matmul_axes(layer: Layer) -> tuple[list[Axis], tuple[int, ...]]:
    """Return the loops over matrices, and rows, columns, depth and steps of one product."""
    op = layer.op
    assert isinstance(op, BatchMatMul)
    a, b, y = layer.input(0), layer.input(1), layer.output
    rank = len(y.shape)
    shape_a = (1,) * (rank - len(a.shape)) + a.shape
    shape_b = (1,) * (rank - len(b.shape)) + b.shape
    apart = [contiguous(s) for s in (shape_a, shape_b, y.shape)]
    axes = [
        Axis(
            y.shape[k],
            (
                apart[0][k] if shape_a[k] > 1 else 0,
                apart[1][k] if shape_b[k] > 1 else 0,
                apart[2][k],
            ),
        )
        for k in range(rank - 2)
    ]
    rows, columns = y.shape[-2:]
    if op.transpose_x:
        depth, row_a, step_a = shape_a[-2], 1, shape_a[-1]
    else:
        depth, row_a, step_a = shape_a[-1], shape_a[-1], 1
    column_b, step_b = (shape_b[-1], 1) if op.transpose_y else (1, shape_b[-1])
    return merged(axes), (rows, columns, depth, row_a, step_a, column_b, step_b)


def batch_matmul(layer: Layer, core: Core) -> Code | None:
    """Products of integers.

    References
    ----------
    tensorflow/lite/micro/kernels/batch_matmul.cc: the product of scales is a float32.
    """
    if not isinstance(layer.op, BatchMatMul):
        return None
    a, b, y = layer.input(0), layer.input(1), layer.output
    if y.dtype not in (DType.INT8, DType.INT16) or not a.dtype is b.dtype is y.dtype:
        return None
    is_byte = y.dtype is DType.INT8
    ctype = "int8_t" if is_byte else "int16_t"
    low, high = y.dtype.limits
    name = f"$matrix_product_{ctype.removesuffix('_t')}"
    function = Function(
        name,
        f"void {name}(const {ctype} *a, const {ctype} *b, {ctype} *y, const $matrices *m)",
        _PRODUCT.format(
            ctype=ctype,
            wide="int32_t" if is_byte else "int64_t",
            rescale="$rescale" if is_byte else "$rescale_wide",
            low=low,
            high=high,
        ),
        needs=(RESCALE if is_byte else RESCALE_WIDE,),
        types=(_TYPE,),
    )
    axes, sizes = matmul_axes(layer)
    factor = Multiplier.of(float(np.float32(a.scale) * np.float32(b.scale)) / y.scale)
    fields = (
        *sizes,
        a.zero_point,
        b.zero_point,
        factor.value,
        factor.shift,
        y.zero_point,
    )
    call = nested(
        axes, f"{name}({{x0}}{{a}}, {{x1}}{{b}}, {{y0}}{{y}}, &sizes);", ("a", "b", "y")
    )
    return Code(
        f"static const $matrices sizes = {{{{{', '.join(map(str, fields))}}}}};\n{call}",
        (function,),
        macs=y.size * sizes[2],
    )
