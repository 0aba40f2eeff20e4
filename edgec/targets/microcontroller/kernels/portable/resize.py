"""Pictures in other sizes, in portable C."""

from __future__ import annotations

import math

import numpy as np

from edgec.ir import Array, DType
from edgec.program import Layer
from edgec.program.operators import ResizeBilinear, ResizeNearest
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.portable.columns import COPY
from edgec.targets.microcontroller.kernels.rounding import float_literal

__all__ = ["real_resize_bilinear", "resize_bilinear", "resize_nearest"]

_NEAREST = Function(
    "$resize_nearest",
    "void $resize_nearest(const int8_t *x, int8_t *y, const uint16_t *rows,\n"
    "    const uint16_t *columns, int32_t height, int32_t width, int32_t row, int32_t size)",
    """\
{
    /* rows and columns say where each number comes from; a row of the picture has `row`
       bytes, a place `size`. */
    for (int32_t i = 0; i < height; i++) {
        for (int32_t j = 0; j < width; j++) {
            y = $copy(y, x + rows[i] * row + columns[j] * size, size);
        }
    }
}
""",
    needs=(COPY,),
)


def resize_nearest(layer: Layer, core: Core) -> Code | None:
    """Copies of the nearest place.

    References
    ----------
    tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h.
    """
    op, x, y = layer.op, layer.input(0), layer.output
    if not isinstance(op, ResizeNearest) or x.dtype is not y.dtype:
        return None
    size = x.dtype.numpy.itemsize * x.shape[3]
    rows = _nearest(x.shape[1], y.shape[1], op)
    columns = _nearest(x.shape[2], y.shape[2], op)
    there = ("", "")
    if x.shape[0] > 1:
        there = (f" + n * {x.size_bytes // x.shape[0]}", f" + n * {y.size_bytes // x.shape[0]}")
    call = (
        f"$resize_nearest((const int8_t *)(const void *){{x0}}{there[0]}, "
        f"(int8_t *)(void *){{y0}}{there[1]}, {{rows}}, {{columns}}, "
        f"{y.shape[1]}, {y.shape[2]}, {x.shape[2] * size}, {size});"
    )
    if x.shape[0] > 1:
        call = f"for (int32_t n = 0; n < {x.shape[0]}; n++) {{{{\n    {call}\n}}}}"
    tables = {
        "rows": Table(rows, {"other": rows.nbytes}),
        "columns": Table(columns, {"other": columns.nbytes}),
    }
    return Code(call, (_NEAREST,), tables)


def _nearest(given: int, wanted: int, op: ResizeNearest) -> Array:
    """Return where each row or column comes from; computed in float32."""
    one = np.float32(1)
    if op.align_corners and wanted > 1:
        scale = np.float32(given - 1) / (np.float32(wanted - 1) * one)
    else:
        scale = np.float32(given) / np.float32(wanted)
    offset = np.float32(0.5 if op.half_pixel_centers else 0.0)
    places = (np.arange(wanted, dtype=np.float32) + offset) * scale
    if op.align_corners:
        whole = np.floor(places)
        found = whole + (places - whole >= 0.5)
    else:
        found = np.floor(places)
    return np.asarray(np.clip(found, 0, given - 1), np.uint16)


_BILINEAR = """\
{{
    /* In integers with 10 bits behind the point. */
    for (int32_t i = 0; i < b->rows; i++) {{
        const int32_t at_y = i * b->scale_y + b->offset_y;
        int32_t y0 = at_y / 1024;
        int32_t y1 = (at_y + 1023) / 1024;
        y0 = y0 < 0 ? 0 : y0;
        y1 = y1 > b->height - 1 ? b->height - 1 : y1;
        for (int32_t j = 0; j < b->columns; j++) {{
            const int32_t at_x = j * b->scale_x + b->offset_x;
            int32_t x0 = at_x / 1024;
            int32_t x1 = (at_x + 1023) / 1024;
            x0 = x0 < 0 ? 0 : x0;
            x1 = x1 > b->width - 1 ? b->width - 1 : x1;
            const int32_t down = at_y - 1024 * y0;
            const int32_t right = at_x - 1024 * x0;
            const int32_t weight_00 = (1024 - down) * (1024 - right);
            const int32_t weight_10 = down * (1024 - right);
            const int32_t weight_01 = (1024 - down) * right;
            const int32_t weight_11 = down * right;
            const {ctype} *p00 = x + (y0 * b->width + x0) * b->channels;
            const {ctype} *p10 = x + (y1 * b->width + x0) * b->channels;
            const {ctype} *p01 = x + (y0 * b->width + x1) * b->channels;
            const {ctype} *p11 = x + (y1 * b->width + x1) * b->channels;
            for (int32_t c = 0; c < b->channels; c++) {{
                {wide} sum = ({wide})p00[c] * weight_00 + ({wide})p10[c] * weight_10;
                sum += ({wide})p01[c] * weight_01 + ({wide})p11[c] * weight_11;
                sum += sum > 0 ? 524288 : -524288;
                *y++ = ({ctype})(sum / 1048576);
            }}
        }}
    }}
}}
"""

_BILINEAR_TYPE = """\
/* How places of the result lie in the picture; 10 bits behind the point. */
typedef struct {
    int32_t height, width, channels;
    int32_t rows, columns;
    int32_t scale_y, offset_y;
    int32_t scale_x, offset_x;
} $bilinear;
"""


def resize_bilinear(layer: Layer, core: Core) -> Code | None:
    """Between four places.

    References
    ----------
    tensorflow/lite/kernels/internal/reference/resize_bilinear.h, ResizeBilinearInteger.
    """
    op, x, y = layer.op, layer.input(0), layer.output
    if not isinstance(op, ResizeBilinear) or x.dtype is not y.dtype:
        return None
    if x.dtype not in (DType.INT8, DType.INT16):
        return None
    ctype, wide = ("int8_t", "int32_t") if x.dtype is DType.INT8 else ("int16_t", "int64_t")
    name = f"$resize_bilinear_{ctype.removesuffix('_t')}"
    function = Function(
        name,
        f"void {name}(const {ctype} *x, {ctype} *y, const $bilinear *b)",
        _BILINEAR.format(ctype=ctype, wide=wide),
        types=(_BILINEAR_TYPE,),
    )
    fields = [
        ", ".join(map(str, x.shape[1:])),
        ", ".join(map(str, y.shape[1:3])),
        *(", ".join(map(str, _steps(x.shape[a], y.shape[a], op))) for a in (1, 2)),
    ]
    there = ("", "")
    if x.shape[0] > 1:
        there = (f" + n * {math.prod(x.shape[1:])}", f" + n * {math.prod(y.shape[1:])}")
    call = f"{name}({{x0}}{there[0]}, {{y0}}{there[1]}, &bilinear);"
    if x.shape[0] > 1:
        call = f"for (int32_t n = 0; n < {x.shape[0]}; n++) {{{{\n    {call}\n}}}}"
    text = f"static const $bilinear bilinear = {{{{{',  '.join(fields)}}}}};\n{call}"
    return Code(text, (function,))


def _steps(given: int, wanted: int, op: ResizeBilinear) -> tuple[int, int]:
    """Return how far apart places lie, and where the first is."""
    if op.align_corners and wanted > 1:
        given, wanted = given - 1, wanted - 1
    scale = (1024 * given + wanted // 2) // wanted
    return scale, (scale // 2 - 512 if op.half_pixel_centers else 0)


_REAL_TYPE = """\
/* How places of the result lie in the picture. */
typedef struct {
    int32_t height, width, channels;
    int32_t rows, columns;
    float scale_y, scale_x;
    float half; /* 0.5 where centres of places are meant */
} $real_bilinear;
"""

_WHOLE = Function(
    "$whole",
    "int32_t $whole(float value)",
    """\
{
    /* The largest integer that is not above it. */
    const int32_t cut = (int32_t)value;
    return (float)cut > value ? cut - 1 : cut;
}
""",
)

_REAL_BILINEAR = Function(
    "$resize_bilinear_float",
    "void $resize_bilinear_float(const float *x, float *y, const $real_bilinear *b)",
    """\
{
    for (int32_t i = 0; i < b->rows; i++) {
        const float at_y = ((float)i + b->half) * b->scale_y - b->half;
        const int32_t floor_y = $whole(at_y);
        const int32_t ceil_y = (float)floor_y < at_y ? floor_y + 1 : floor_y;
        const int32_t y0 = floor_y < 0 ? 0 : floor_y;
        const int32_t y1 = ceil_y > b->height - 1 ? b->height - 1 : ceil_y;
        const float down = at_y - (float)y0;
        for (int32_t j = 0; j < b->columns; j++) {
            const float at_x = ((float)j + b->half) * b->scale_x - b->half;
            const int32_t floor_x = $whole(at_x);
            const int32_t ceil_x = (float)floor_x < at_x ? floor_x + 1 : floor_x;
            const int32_t x0 = floor_x < 0 ? 0 : floor_x;
            const int32_t x1 = ceil_x > b->width - 1 ? b->width - 1 : ceil_x;
            const float right = at_x - (float)x0;
            const float *p00 = x + (y0 * b->width + x0) * b->channels;
            const float *p10 = x + (y1 * b->width + x0) * b->channels;
            const float *p01 = x + (y0 * b->width + x1) * b->channels;
            const float *p11 = x + (y1 * b->width + x1) * b->channels;
            for (int32_t c = 0; c < b->channels; c++) {
                float value = p00[c] * (1.0f - down) * (1.0f - right);
                value += p10[c] * down * (1.0f - right);
                value += p01[c] * (1.0f - down) * right;
                *y++ = value + p11[c] * down * right;
            }
        }
    }
}
""",
    needs=(_WHOLE,),
    types=(_REAL_TYPE,),
)


def real_resize_bilinear(layer: Layer, core: Core) -> Code | None:
    """Real numbers between four places."""
    op, x, y = layer.op, layer.input(0), layer.output
    if not isinstance(op, ResizeBilinear) or x.dtype is not DType.FLOAT32:
        return None
    if y.dtype is not DType.FLOAT32 or x.shape[0] != 1:
        return None

    def scale(given: int, wanted: int) -> str:
        if op.align_corners and wanted > 1:
            given, wanted = given - 1, wanted - 1
        return float_literal(float(np.float32(given) / np.float32(wanted)))

    scales = ", ".join(scale(x.shape[a], y.shape[a]) for a in (1, 2))
    fields = [
        ", ".join(map(str, x.shape[1:])),
        ", ".join(map(str, y.shape[1:3])),
        scales,
        "0.5f" if op.half_pixel_centers else "0.0f",
    ]
    text = f"static const $real_bilinear bilinear = {{{{{',  '.join(fields)}}}}};\n"
    return Code(f"{text}$resize_bilinear_float({{x0}}, {{y0}}, &bilinear);", (_REAL_BILINEAR,))
