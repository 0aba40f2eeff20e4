"""Depthwise convolutions of int8 in portable C."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.portable.layouts import (
    WINDOW_TYPE,
    all_are,
    bias_of,
    constant,
    over_batches,
    window_fields,
)
from edgec.targets.microcontroller.kernels.requantization import multipliers_of, output_range
from edgec.targets.microcontroller.kernels.rounding import RESCALE
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = ["depthwise_conv"]

_DEPTHWISE = Function(
    "$depthwise",
    "void $depthwise(const int8_t *x, int8_t *y, const int8_t *weights,\n"
    "                const int32_t *constants, int32_t multiplier, int32_t zero_point,\n"
    "                int32_t least, int32_t most, const $window *w)",
    """\
{
    /* Place by place, channel by channel. Constants of a filter: bias, bias for windows that
       lie wholly in the picture (with the zero point of the input in it), multiplier, shift. */
    const int32_t filters = w->channels * multiplier;
    for (int32_t row = 0; row < w->rows; row++) {
        const int32_t top = row * w->stride_y - w->pad_top;
        int32_t y0 = 0;
        int32_t y1 = w->kernel_y;
        while (y0 < y1 && top + y0 * w->dilation_y < 0) {
            y0++;
        }
        while (y1 > y0 && top + (y1 - 1) * w->dilation_y >= w->height) {
            y1--;
        }
        for (int32_t place = 0; place < w->columns; place++) {
            const int32_t left = place * w->stride_x - w->pad_left;
            int32_t x0 = 0;
            int32_t x1 = w->kernel_x;
            while (x0 < x1 && left + x0 * w->dilation_x < 0) {
                x0++;
            }
            while (x1 > x0 && left + (x1 - 1) * w->dilation_x >= w->width) {
                x1--;
            }
            const int inside = (y1 - y0) * (x1 - x0) == w->kernel_y * w->kernel_x;
            const int32_t offset = inside ? 0 : w->zero_point;
            const int32_t step = w->dilation_x * w->channels;
            const int32_t next_row = w->dilation_y * w->width * w->channels - (x1 - x0) * step;
            const int32_t next_taps = (w->kernel_x - (x1 - x0)) * filters;
            const int8_t *from = x + ((top + y0 * w->dilation_y) * w->width + left +
                                      x0 * w->dilation_x) * w->channels;
            const int8_t *taps = weights + (y0 * w->kernel_x + x0) * filters;
            const int32_t *c = constants;
            int32_t m = 0;
            for (int32_t i = 0; i < filters; i++) {
                const int8_t *p = from;
                const int8_t *t = taps + i;
                int32_t sum = inside ? c[1] : c[0];
                for (int32_t ky = y0; ky < y1; ky++) {
                    for (int32_t kx = x0; kx < x1; kx++) {
                        sum += (*p - offset) * *t;
                        p += step;
                        t += filters;
                    }
                    p += next_row;
                    t += next_taps;
                }
                sum = $rescale(sum, c[2], c[3]) + zero_point;
                sum = sum < least ? least : sum;
                sum = sum > most ? most : sum;
                *y++ = (int8_t)sum;
                c += 4;
                if (++m == multiplier) {
                    m = 0;
                    from++;
                }
            }
        }
    }
}
""",
    needs=(RESCALE,),
    types=(WINDOW_TYPE,),
)


def depthwise_conv(layer: Layer, core: Core) -> Code | None:
    """A filter of its own for every channel, or several."""
    op = layer.op
    if not isinstance(op, DepthwiseConv):
        return None
    x, weights, y = layer.input(0), layer.input(1), layer.output
    if not all_are(DType.INT8, x, weights, y):
        return None
    filters = y.shape[3]
    data = np.ascontiguousarray(constant(layer, 1)).reshape(-1, filters)
    window = window_fields(op, x, y, (weights.shape[1], weights.shape[2]))
    low, high = output_range(op.activation, y)
    bias = bias_of(layer)
    plain = np.zeros(filters, np.int64) if bias is None else bias.astype(np.int64)
    folded = plain - x.zero_point * data.astype(np.int64).sum(0)
    scales = np.array([(m.value, m.shift) for m in multipliers_of(layer)], np.int64)
    constants = np.column_stack([plain, folded, scales]).astype(np.int32).reshape(-1)
    call = (
        f"$depthwise({{x0}}{{x}}, {{y0}}{{y}}, {{weights}}, {{constants}}, "
        f"{filters // x.shape[3]}, {y.zero_point}, {low}, {high}, &window);"
    )
    return Code(
        f"static const $window window = {window};\n" + over_batches(layer, call),
        (_DEPTHWISE,),
        {
            "weights": Table(data.reshape(-1), {"weights": data.size}),
            "constants": Table(
                constants, {"biases": 8 * filters, "requantization": 8 * filters}
            ),
        },
        slack={0: window_slack(x.shape, y.shape, op.strides, op.pads)},
        macs=y.size * len(data),
    )
