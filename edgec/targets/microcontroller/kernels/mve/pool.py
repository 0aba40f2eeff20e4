"""Pooling of int8: 16 channels of a window at a time, or 8 where they are added."""

from __future__ import annotations

from dataclasses import replace

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import AveragePool, MaxPool
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.portable.layouts import (
    WINDOW_TYPE,
    over_batches,
    window_fields,
)
from edgec.targets.microcontroller.kernels.requantization import output_range
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = ["pool"]

_MOST = 255
"""Numbers of int8 whose sum has surely 16 bits."""

_SPOT_TYPE = """\
/* The part of a window that lies in the picture. */
typedef struct {
    int32_t rows, columns;
    int32_t channels, row; /* how far to the next column and to the next row */
    int32_t least, most;
} $spot;
"""


def _walk(name: str, about: str, *, adding: bool) -> Function:
    """Return the loop over a window, a vector of channels after the other."""
    asm = Assembly(name, 0, about)
    size, lanes = (16, 8) if adding else (8, 16)
    asm("ldrd r4, r5, [r2]", "ldrd r6, r7, [r2, #8]", "mov r8, r6")
    if not adding:
        asm("ldrd r9, r10, [r2, #16]", "vdup.8 q2, r9", "vdup.8 q3, r10")
    asm("1:", f"vctp.{size} r8")
    asm("vmov.i16 q0, #0" if adding else "vmov.i8 q0, #128", "mov r9, r0", "mov r10, r4")
    asm("2:", "mov r3, r9", "dls lr, r5", "3:", "vpst")
    if adding:
        asm("vldrbt.s16 q1, [r3]", "vadd.i16 q0, q0, q1")
    else:
        asm("vldrbt.u8 q1, [r3]", "vmax.s8 q0, q0, q1")
    asm("add r3, r3, r6", "le lr, 3b", "add r9, r9, r7", "subs r10, #1", "bne 2b")
    if adding:
        asm("vpst", "vstrht.16 q0, [r1], #16")
    else:
        asm("vmax.s8 q0, q0, q2", "vmin.s8 q0, q0, q3", "vpst", "vstrbt.8 q0, [r1], #16")
    asm(f"add r0, r0, #{lanes}", f"subs r8, #{lanes}", "bgt 1b")
    to = "int16_t *sums" if adding else "int8_t *y"
    made = asm.function(f"void {name}(const int8_t *x, {to}, const $spot *spot)")
    return replace(made, types=(_SPOT_TYPE,), helium=True)


_MAX = _walk("$max_vectors", "the largest number of each channel", adding=False)
_SUMS = _walk("$sum_vectors", "the sum of each channel", adding=True)

_LOOPS = """\
{{
    $spot spot;
    spot.channels = w->channels;
    spot.row = w->width * w->channels;
    spot.least = least;
    spot.most = most;
    for (int32_t row = 0; row < w->rows; row++) {{
        const int32_t top = row * w->stride_y - w->pad_top;
        const int32_t y0 = top < 0 ? -top : 0;
        const int32_t y1 = top + w->kernel_y > w->height ? w->height - top : w->kernel_y;
        spot.rows = y1 - y0;
        for (int32_t place = 0; place < w->columns; place++) {{
            const int32_t left = place * w->stride_x - w->pad_left;
            const int32_t x0 = left < 0 ? -left : 0;
            const int32_t x1 = left + w->kernel_x > w->width ? w->width - left : w->kernel_x;
            const int8_t *from = x + (top + y0) * spot.row + (left + x0) * w->channels;
            spot.columns = x1 - x0;
{body}
            y += w->channels;
        }}
    }}
}}
"""

_DIVIDED = """\
            $sum_vectors(from, sums, &spot);
            for (int32_t c = 0; c < w->channels; c++) {
                /* Halves are rounded away from zero. */
                const int32_t count = spot.rows * spot.columns;
                int32_t value = sums[c];
                value += value > 0 ? count / 2 : -(count / 2);
                value /= count;
                value = value < least ? least : value;
                y[c] = (int8_t)(value > most ? most : value);
            }"""

_MAX_POOL = Function(
    "$max_pool_vectors",
    "void $max_pool_vectors(const int8_t *x, int8_t *y, int32_t least, int32_t most,\n"
    "    const $window *w)",
    _LOOPS.format(body="            $max_vectors(from, y, &spot);"),
    needs=(_MAX,),
    types=(WINDOW_TYPE, _SPOT_TYPE),
)

_AVERAGE_POOL = Function(
    "$average_pool_vectors",
    "void $average_pool_vectors(const int8_t *x, int8_t *y, int32_t least, int32_t most,\n"
    "    int16_t *sums, const $window *w)",
    _LOOPS.format(body=_DIVIDED),
    needs=(_SUMS,),
    types=(WINDOW_TYPE, _SPOT_TYPE),
)


def pool(layer: Layer, core: Core) -> Code | None:
    """The mean or the largest number under a window."""
    op = layer.op
    if "mve" not in core.tiers or not isinstance(op, AveragePool | MaxPool):
        return None
    x, y = layer.input(0), layer.output
    if not x.dtype is y.dtype is DType.INT8:
        return None
    low, high = output_range(op.activation, y)
    adding = isinstance(op, AveragePool)
    if adding and op.window[0] * op.window[1] > _MOST:
        return None
    function, more = (
        (_AVERAGE_POOL, "(int16_t *)(void *){scratch}, ") if adding else (_MAX_POOL, "")
    )
    call = f"{function.name}({{x0}}{{x}}, {{y0}}{{y}}, {low}, {high}, {more}&window);"
    slack = window_slack(x.shape, y.shape, op.strides, op.pads, fetched=adding)
    return Code(
        f"static const $window window = {window_fields(op, x, y, op.window)};\n"
        + over_batches(layer, call),
        (function,),
        scratch=2 * x.shape[3] if adding else 0,
        slack={0: slack},
    )
