"""Convolutions of int8 in portable C."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Conv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.portable.columns import (
    COPY,
    FILL,
    FILTERS_1,
    FILTERS_2,
    FILTERS_TYPE,
    filter_constants,
)
from edgec.targets.microcontroller.kernels.portable.layouts import (
    WINDOW_TYPE,
    all_are,
    bias_of,
    constant,
    over_batches,
    window_fields,
)
from edgec.targets.microcontroller.kernels.requantization import multipliers_of, output_range
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = ["conv", "pointwise_conv"]

_CONV_1X1 = Function(
    "$conv_1x1",
    "void $conv_1x1(const int8_t *x, int8_t *y, const int8_t *weights,\n"
    "               const int32_t *constants, const $filters *f, const $window *w)",
    """\
{
    for (int32_t row = 0; row < w->rows; row++) {
        const int8_t *from = x + row * w->stride_y * w->width * f->length;
        const int32_t step = w->stride_x * f->length;
        int32_t left = w->columns;
        for (; left >= 2; left -= 2) {
            $filters_2(from, from + step, y, y + f->count, weights, constants, f);
            from += 2 * step;
            y += 2 * f->count;
        }
        if (left > 0) {
            $filters_1(from, y, weights, constants, f);
            y += f->count;
        }
    }
}
""",
    needs=(FILTERS_1, FILTERS_2),
    types=(FILTERS_TYPE, WINDOW_TYPE),
)

_GATHER = Function(
    "$gather",
    "void $gather(const int8_t *x, int8_t *column, int32_t row, int32_t place,\n"
    "             int32_t length, int32_t zero_point, const $window *w)",
    """\
{
    /* The numbers under a filter, one after the other; the zero point outside the picture.
       `length` of the channels are taken, from where x points to. */
    const int32_t top = row * w->stride_y - w->pad_top;
    const int32_t left = place * w->stride_x - w->pad_left;
    const int whole = length == w->channels && w->dilation_x == 1;
    for (int32_t ky = 0; ky < w->kernel_y; ky++) {
        const int32_t from_y = top + ky * w->dilation_y;
        if (from_y < 0 || from_y >= w->height) {
            column = $fill(column, zero_point, w->kernel_x * length);
        } else if (whole) {
            const int8_t *line = x + from_y * w->width * w->channels;
            int32_t end = w->width - left;
            int32_t begin = left < 0 ? -left : 0;
            begin = begin > w->kernel_x ? w->kernel_x : begin;
            end = end > w->kernel_x ? w->kernel_x : end;
            end = end < begin ? begin : end;
            column = $fill(column, zero_point, begin * length);
            column = $copy(column, line + (left + begin) * length, (end - begin) * length);
            column = $fill(column, zero_point, (w->kernel_x - end) * length);
        } else {
            const int8_t *line = x + from_y * w->width * w->channels;
            for (int32_t kx = 0; kx < w->kernel_x; kx++) {
                const int32_t from_x = left + kx * w->dilation_x;
                if (from_x < 0 || from_x >= w->width) {
                    column = $fill(column, zero_point, length);
                } else {
                    column = $copy(column, line + from_x * w->channels, length);
                }
            }
        }
    }
}
""",
    needs=(FILL, COPY),
    types=(WINDOW_TYPE,),
)

_CONV = Function(
    "$conv",
    "void $conv(const int8_t *x, int8_t *y, const int8_t *weights, const int32_t *constants,\n"
    "           int8_t *column, const $filters *f, const $window *w)",
    """\
{
    /* Windows are gathered two by two: each weight then serves both. */
    for (int32_t row = 0; row < w->rows; row++) {
        int32_t place = 0;
        for (; place + 2 <= w->columns; place += 2) {
            $gather(x, column, row, place, w->channels, w->zero_point, w);
            $gather(x, column + f->length, row, place + 1, w->channels, w->zero_point, w);
            $filters_2(column, column + f->length, y, y + f->count, weights, constants, f);
            y += 2 * f->count;
        }
        if (place < w->columns) {
            $gather(x, column, row, place, w->channels, w->zero_point, w);
            $filters_1(column, y, weights, constants, f);
            y += f->count;
        }
    }
}
""",
    needs=(_GATHER, FILTERS_1, FILTERS_2),
    types=(FILTERS_TYPE, WINDOW_TYPE),
)

_CONV_GROUPS = Function(
    "$conv_groups",
    "void $conv_groups(const int8_t *x, int8_t *y, const int8_t *weights,\n"
    "                  const int32_t *constants, int8_t *column, int32_t groups,\n"
    "                  const $filters *f, const $window *w)",
    """\
{
    const int32_t channels = w->channels / groups;
    for (int32_t row = 0; row < w->rows; row++) {
        for (int32_t place = 0; place < w->columns; place++) {
            for (int32_t g = 0; g < groups; g++) {
                $gather(x + g * channels, column, row, place, channels, w->zero_point, w);
                $filters_1(column, y, weights + g * f->count * f->length,
                           constants + 3 * g * f->count, f);
                y += f->count;
            }
        }
    }
}
""",
    needs=(_GATHER, FILTERS_1),
    types=(FILTERS_TYPE, WINDOW_TYPE),
)


def pointwise_conv(layer: Layer, core: Core) -> Code | None:
    """Filters of one number a channel: the columns are in the picture already."""
    op = layer.op
    if not isinstance(op, Conv) or not _is_int8(layer):
        return None
    x, weights, y = layer.input(0), layer.input(1), layer.output
    if weights.shape[1:3] != (1, 1) or op.pads != ((0, 0), (0, 0)):
        return None
    if weights.shape[3] != x.shape[3]:
        return None
    tables, filters = _tables(layer, op, groups=1)
    window = window_fields(op, x, y, (1, 1))
    return Code(
        f"static const $filters filters = {filters};\n"
        f"static const $window window = {window};\n"
        + over_batches(
            layer, "$conv_1x1({x0}{x}, {y0}{y}, {weights}, {constants}, &filters, &window);"
        ),
        (_CONV_1X1,),
        tables,
        slack={0: window_slack(x.shape, y.shape, op.strides, op.pads, at_once=2)},
        macs=y.size * x.shape[3],
    )


def conv(layer: Layer, core: Core) -> Code | None:
    """Any convolution: windows are gathered into columns."""
    op = layer.op
    if not isinstance(op, Conv) or not _is_int8(layer):
        return None
    x, weights, y = layer.input(0), layer.input(1), layer.output
    groups = x.shape[3] // weights.shape[3]
    length = weights.size // weights.shape[0]
    tables, filters = _tables(layer, op, groups)
    window = window_fields(op, x, y, (weights.shape[1], weights.shape[2]))
    if groups == 1:
        function, more, at_once = _CONV, "", 2
    else:
        function, more, at_once = _CONV_GROUPS, f"{groups}, ", 1
    slack = window_slack(
        x.shape, y.shape, op.strides, op.pads, at_once=at_once, fetched=groups == 1
    )
    return Code(
        f"static const $filters filters = {filters};\n"
        f"static const $window window = {window};\n"
        + over_batches(
            layer,
            f"{function.name}({{x0}}{{x}}, {{y0}}{{y}}, {{weights}}, {{constants}}, "
            f"{{scratch}}, {more}&filters, &window);",
        ),
        (function,),
        tables,
        scratch=at_once * length,
        slack={0: slack},
        macs=y.size * length,
    )


def _is_int8(layer: Layer) -> bool:
    return all_are(DType.INT8, layer.input(0), layer.input(1), layer.output)


def _tables(layer: Layer, op: Conv, groups: int) -> tuple[dict[str, Table], str]:
    x, weights, y = layer.input(0), layer.input(1), layer.output
    data = constant(layer, 1).reshape(weights.shape[0], -1)
    multipliers = multipliers_of(layer)
    constants = filter_constants(data, bias_of(layer), x.zero_point, multipliers)
    low, high = output_range(op.activation, y)
    count = len(data) // groups
    filters = f"{{{{{count}, {data.shape[1]}, {y.zero_point}, {low}, {high}}}}}"
    flat = np.ascontiguousarray(data).reshape(-1)
    return {"weights": Table(flat, {"weights": flat.size}), "constants": constants}, filters
