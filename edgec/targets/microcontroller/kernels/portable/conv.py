"""Convolutions of int8 in portable C."""

from __future__ import annotations

from edgec.ir import Array, DType
from edgec.program import Layer
from edgec.program.operators import Conv, DepthwiseConv, Pair
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.portable.columns import (
    COPY,
    FILL,
    FILTERS_TYPE,
    Filters,
)
from edgec.targets.microcontroller.kernels.portable.layouts import (
    WINDOW_TYPE,
    all_are,
    constant,
    over_batches,
    window_fields,
)
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = ["GATHER", "conv", "conv_of_one_channel", "pointwise_conv"]


def _conv_1x1(filters: Filters) -> Function:
    name = f"$conv_1x1{_suffix(filters)}"
    return Function(
        name,
        f"void {name}(const int8_t *x, int8_t *y, const int8_t *weights,\n"
        "    const int32_t *constants, const $filters *f, const $window *w)",
        f"""\
{{
    for (int32_t row = 0; row < w->rows; row++) {{
        const int8_t *from = x + row * w->stride_y * w->width * f->length;
        const int32_t step = w->stride_x * f->length;
        int32_t left = w->columns;
        for (; left >= 2; left -= 2) {{
            {filters.two.name}(from, from + step, y, y + f->count, weights, constants, f);
            from += 2 * step;
            y += 2 * f->count;
        }}
        if (left > 0) {{
            {filters.one.name}(from, y, weights, constants, f);
            y += f->count;
        }}
    }}
}}
""",
        needs=(filters.one, filters.two),
        types=(FILTERS_TYPE, WINDOW_TYPE),
    )


def _suffix(filters: Filters) -> str:
    return filters.one.name.removeprefix("$filters_1")


GATHER = Function(
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


def _conv(filters: Filters) -> Function:
    name = f"$conv{_suffix(filters)}"
    return Function(
        name,
        f"void {name}(const int8_t *x, int8_t *y, const int8_t *weights,\n"
        "    const int32_t *constants, int8_t *column, const $filters *f, const $window *w)",
        f"""\
{{
    /* Windows are gathered two by two: each weight then serves both. */
    int8_t *const other = column + f->length;
    for (int32_t row = 0; row < w->rows; row++) {{
        int32_t place = 0;
        for (; place + 2 <= w->columns; place += 2) {{
            $gather(x, column, row, place, w->channels, w->zero_point, w);
            $gather(x, other, row, place + 1, w->channels, w->zero_point, w);
            {filters.two.name}(column, other, y, y + f->count, weights, constants, f);
            y += 2 * f->count;
        }}
        if (place < w->columns) {{
            $gather(x, column, row, place, w->channels, w->zero_point, w);
            {filters.one.name}(column, y, weights, constants, f);
            y += f->count;
        }}
    }}
}}
""",
        needs=(GATHER, filters.one, filters.two),
        types=(FILTERS_TYPE, WINDOW_TYPE),
    )


def _conv_groups(filters: Filters) -> Function:
    name = f"$conv_groups{_suffix(filters)}"
    return Function(
        name,
        f"void {name}(const int8_t *x, int8_t *y, const int8_t *weights,\n"
        "    const int32_t *constants, int8_t *column, int32_t groups, const $filters *f,\n"
        "    const $window *w)",
        f"""\
{{
    const int32_t channels = w->channels / groups;
    for (int32_t row = 0; row < w->rows; row++) {{
        for (int32_t place = 0; place < w->columns; place++) {{
            for (int32_t g = 0; g < groups; g++) {{
                $gather(x + g * channels, column, row, place, channels, w->zero_point, w);
                {filters.one.name}(column, y, weights + g * f->count * f->length,
                                   constants + 3 * g * f->count, f);
                y += f->count;
            }}
        }}
    }}
}}
""",
        needs=(GATHER, filters.one),
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
    filters = Filters.of(
        layer, core, op.activation, constant(layer, 1).reshape(weights.shape[0], -1)
    )
    function = _conv_1x1(filters)
    call = (
        f"{function.name}({{x0}}{{x}}, {{y0}}{{y}}, {{weights}}, {{constants}}, "
        "&filters, &window);"
    )
    return Code(
        f"static const $filters filters = {filters.fields};\n"
        f"static const $window window = {window_fields(op, x, y, (1, 1))};\n"
        + over_batches(layer, call),
        (function,),
        filters.tables,
        slack={0: window_slack(x.shape, y.shape, op.strides, op.pads, at_once=2)},
        macs=y.size * x.shape[3],
    )


def conv(layer: Layer, core: Core) -> Code | None:
    """Any convolution: windows are gathered into columns."""
    op = layer.op
    if not isinstance(op, Conv) or not _is_int8(layer):
        return None
    weights = layer.input(1)
    groups = layer.input(0).shape[3] // weights.shape[3]
    data = constant(layer, 1).reshape(weights.shape[0], -1)
    return _gathered(layer, core, op, data, (weights.shape[1], weights.shape[2]), groups)


def conv_of_one_channel(layer: Layer, core: Core) -> Code | None:
    """A depthwise convolution of one channel: it is a convolution like any other."""
    op = layer.op
    if not isinstance(op, DepthwiseConv) or not _is_int8(layer):
        return None
    weights = layer.input(1)
    if layer.input(0).shape[3] != 1:
        return None
    data = constant(layer, 1).reshape(-1, weights.shape[3]).T
    return _gathered(layer, core, op, data, (weights.shape[1], weights.shape[2]), 1)


def _gathered(
    layer: Layer,
    core: Core,
    op: Conv | DepthwiseConv,
    weights: Array,
    kernel: Pair,
    groups: int,
) -> Code:
    x, y = layer.input(0), layer.output
    length = weights.shape[1]
    filters = Filters.of(layer, core, op.activation, weights, groups)
    if groups == 1:
        function, more, at_once = _conv(filters), "", 2
    else:
        function, more, at_once = _conv_groups(filters), f"{groups}, ", 1
    slack = window_slack(
        x.shape, y.shape, op.strides, op.pads, at_once=at_once, fetched=groups == 1
    )
    call = (
        f"{function.name}({{x0}}{{x}}, {{y0}}{{y}}, {{weights}}, {{constants}}, "
        f"{{scratch}}, {more}&filters, &window);"
    )
    return Code(
        f"static const $filters filters = {filters.fields};\n"
        f"static const $window window = {window_fields(op, x, y, kernel)};\n"
        + over_batches(layer, call),
        (function,),
        filters.tables,
        scratch=at_once * length,
        slack={0: slack},
        macs=y.size * length,
    )


def _is_int8(layer: Layer) -> bool:
    return all_are(DType.INT8, layer.input(0), layer.input(1), layer.output)
