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
from edgec.targets.microcontroller.kernels.portable.results import RESULTS_TYPE, Results
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = ["depthwise_conv"]

_TAP = Function(
    "$tap",
    "void $tap(const int8_t *x, const int8_t *weights, int32_t *sums, int32_t count,\n"
    "    int32_t apart, int32_t zero_point)",
    """\
{
    /* One place under the window, all channels; their weights lie `apart`. */
#if defined(__clang__) && (defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__))
#pragma clang loop unroll(disable)
#endif
    for (int32_t i = 0; i < count; i++) {
        *sums++ += (*x++ - zero_point) * *weights;
        weights += apart;
    }
}
""",
    apart=True,
)

_TAPS_3 = Function(
    "$taps_3",
    "void $taps_3(const int8_t *x, const int8_t *weights, int32_t *sums, int32_t count,\n"
    "    int32_t step, int32_t zero_point)",
    """\
{
    /* Three places in a row at once: sums are loaded and stored once for all. */
    const int8_t *second = x + step;
    const int8_t *third = second + step;
#if defined(__clang__) && (defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__))
#pragma clang loop unroll(disable)
#endif
    for (int32_t i = 0; i < count; i++) {
        int32_t sum = *sums;
        sum += (x[i] - zero_point) * weights[0];
        sum += (second[i] - zero_point) * weights[1];
        sum += (third[i] - zero_point) * weights[2];
        *sums++ = sum;
        weights += 3;
    }
}
""",
    apart=True,
)


_TAP_MULTIPLE = Function(
    "$tap_multiple",
    "void $tap_multiple(const int8_t *x, const int8_t *weights, int32_t *sums, int32_t count,\n"
    "    int32_t multiple, int32_t apart, int32_t zero_point)",
    """\
{
    /* One place under the window, all channels with several filters each. */
    for (int32_t i = 0; i < count; i++) {
        const int32_t value = x[i] - zero_point;
        const int32_t *const end = sums + multiple;
#if defined(__clang__)
#pragma clang loop unroll(disable)
#endif
        while (sums != end) {
            *sums++ += value * *weights;
            weights += apart;
        }
    }
}
""",
    apart=True,
)

_TAPS_3_MULTIPLE = Function(
    "$taps_3_multiple",
    "void $taps_3_multiple(const int8_t *x, const int8_t *weights, int32_t *sums,\n"
    "    int32_t count, int32_t multiple, int32_t step, int32_t zero_point)",
    """\
{
    /* Three places in a row at once: sums are loaded and stored once for all. */
    for (int32_t i = 0; i < count; i++) {
        const int32_t first = x[i] - zero_point;
        const int32_t second = x[i + step] - zero_point;
        const int32_t third = x[i + 2 * step] - zero_point;
        const int32_t *const end = sums + multiple;
#if defined(__clang__)
#pragma clang loop unroll(disable)
#endif
        while (sums != end) {
            int32_t sum = *sums;
            sum += first * weights[0];
            sum += second * weights[1];
            sum += third * weights[2];
            *sums++ = sum;
            weights += 3;
        }
    }
}
""",
    apart=True,
)


def _depthwise(result: Function, *, several: bool) -> Function:
    """Return the function for one filter for each channel, or for several."""
    suffix = "_multiple" if several else ""
    name = f"$depthwise{suffix}{result.name.removeprefix('$result')}"
    taps = (_TAP_MULTIPLE, _TAPS_3_MULTIPLE) if several else (_TAP, _TAPS_3)
    one, three = (tap.name for tap in taps)
    filters = "filters" if several else "w->channels"
    multiple = "multiple, " if several else ""
    zero = "w->zero_point"
    return Function(
        name,
        f"void {name}(const int8_t *x, int8_t *y, const int8_t *weights,\n"
        "    const int32_t *constants, int32_t *sums, "
        f"{'int32_t multiple, ' if several else ''}const $results *r,\n    const $window *w)",
        f"""\
{{
    /* Place by place: all channels of a row of the window, then the next row. Weights: row by
       row of the window, and in it filter by filter. */
    const int32_t step = w->dilation_x * w->channels;
{"    const int32_t filters = w->channels * multiple;" + chr(10) if several else ""}\
    for (int32_t row = 0; row < w->rows; row++) {{
        const int32_t top = row * w->stride_y - w->pad_top;
        for (int32_t place = 0; place < w->columns; place++) {{
            const int32_t left = place * w->stride_x - w->pad_left;
            const int32_t *c = constants;
            int32_t x0 = 0;
            int32_t x1 = w->kernel_x;
            while (x0 < x1 && left + x0 * w->dilation_x < 0) {{
                x0++;
            }}
            while (x1 > x0 && left + (x1 - 1) * w->dilation_x >= w->width) {{
                x1--;
            }}
            for (int32_t i = 0; i < {filters}; i++) {{
                sums[i] = *c;
                c += 3;
            }}
            for (int32_t ky = 0; ky < w->kernel_y; ky++) {{
                const int32_t at_y = top + ky * w->dilation_y;
                const int8_t *t = weights + ky * w->kernel_x * {filters};
                const int8_t *from;
                if (at_y < 0 || at_y >= w->height) {{
                    continue;
                }}
                from = x + (at_y * w->width + left + x0 * w->dilation_x) * w->channels;
                if (w->kernel_x == 3 && x1 - x0 == 3) {{
                    {three}(from, t, sums, w->channels, {multiple}step, {zero});
                    continue;
                }}
                for (int32_t kx = x0; kx < x1; kx++) {{
                    {one}(from, t + kx, sums, w->channels, {multiple}w->kernel_x, {zero});
                    from += step;
                }}
            }}
            c = constants;
            for (int32_t i = 0; i < {filters}; i++) {{
                *y++ = {result.name}(sums[i], c, r);
                c += 3;
            }}
        }}
    }}
}}
""",
        needs=(*taps, result),
        types=(RESULTS_TYPE, WINDOW_TYPE),
    )


def depthwise_conv(layer: Layer, core: Core) -> Code | None:
    """A filter of its own for every channel, or several."""
    op = layer.op
    if not isinstance(op, DepthwiseConv):
        return None
    x, weights, y = layer.input(0), layer.input(1), layer.output
    if not all_are(DType.INT8, x, weights, y):
        return None
    filters, channels = y.shape[3], x.shape[3]
    data = constant(layer, 1)[0]  # [kh, kw, filters]
    bias = bias_of(layer)
    biases = np.zeros(filters, np.int64) if bias is None else bias.astype(np.int64)
    results = Results.of(layer, op.activation, data.reshape(-1, filters).T, biases)
    packed = np.ascontiguousarray(data.transpose(0, 2, 1)).reshape(-1)
    several = filters != channels
    function = _depthwise(results.function, several=several)
    multiple = f"{filters // channels}, " if several else ""
    call = (
        f"{function.name}({{x0}}{{x}}, {{y0}}{{y}}, {{weights}}, {{constants}}, "
        f"(int32_t *)(void *){{scratch}}, {multiple}&results, &window);"
    )
    window = window_fields(op, x, y, (weights.shape[1], weights.shape[2]))
    return Code(
        f"static const $results results = {results.fields};\n"
        f"static const $window window = {window};\n" + over_batches(layer, call),
        (function,),
        {
            "weights": Table(packed, {"weights": packed.size}),
            "constants": results.table(biases),
        },
        scratch=4 * filters,
        slack={0: window_slack(x.shape, y.shape, op.strides, op.pads, fetched=True)},
        macs=y.size * packed.size // filters,
    )
