"""Pooling of integers in portable C."""

from __future__ import annotations

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import AveragePool, MaxPool
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.portable.layouts import (
    WINDOW_TYPE,
    over_batches,
    window_fields,
)
from edgec.targets.microcontroller.kernels.requantization import output_range
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = ["pool"]

_C_TYPES = {DType.INT8: "int8_t", DType.INT16: "int16_t"}

_LOOPS = """\
{{
    for (int32_t row = 0; row < w->rows; row++) {{
        const int32_t top = row * w->stride_y - w->pad_top;
        const int32_t y0 = top < 0 ? -top : 0;
        const int32_t y1 = top + w->kernel_y > w->height ? w->height - top : w->kernel_y;
        for (int32_t place = 0; place < w->columns; place++) {{
            const int32_t left = place * w->stride_x - w->pad_left;
            const int32_t x0 = left < 0 ? -left : 0;
            const int32_t x1 = left + w->kernel_x > w->width ? w->width - left : w->kernel_x;
            const {ctype} *from = x + ((top + y0) * w->width + left + x0) * w->channels;
            const int32_t next_row = (w->width - (x1 - x0)) * w->channels;
{before}
            for (int32_t c = 0; c < w->channels; c++) {{
                const {ctype} *p = from + c;
                int32_t value = {start};
                for (int32_t ky = y0; ky < y1; ky++) {{
                    for (int32_t kx = x0; kx < x1; kx++) {{
                        {step}
                        p += w->channels;
                    }}
                    p += next_row;
                }}
{after}
                value = value < least ? least : value;
                value = value > most ? most : value;
                *y++ = ({ctype})value;
            }}
        }}
    }}
}}
"""


def _function(name: str, ctype: str, parts: dict[str, str]) -> Function:
    return Function(
        name,
        f"void {name}(const {ctype} *x, {ctype} *y, int32_t least, int32_t most,\n"
        "    const $window *w)",
        _LOOPS.format(ctype=ctype, **parts).replace("\n\n", "\n"),
        types=(WINDOW_TYPE,),
    )


_AVERAGE = {
    "before": "            const int32_t count = (y1 - y0) * (x1 - x0);",
    "start": "0",
    "step": "value += *p;",
    "after": (
        "                /* Halves are rounded away from zero. */\n"
        "                value += value > 0 ? count / 2 : -(count / 2);\n"
        "                value /= count;"
    ),
}


def pool(layer: Layer, core: Core) -> Code | None:
    """The mean or the largest number under a window."""
    op = layer.op
    if not isinstance(op, (AveragePool, MaxPool)):
        return None
    x, y = layer.input(0), layer.output
    if y.dtype not in _C_TYPES or x.dtype is not y.dtype:
        return None
    ctype = _C_TYPES[y.dtype]
    kind = ctype.removesuffix("_t")
    if isinstance(op, AveragePool):
        function = _function(f"$average_pool_{kind}", ctype, _AVERAGE)
    else:
        parts = {
            "before": "",
            "start": str(y.dtype.limits[0]),
            "step": "value = *p > value ? *p : value;",
            "after": "",
        }
        function = _function(f"$max_pool_{kind}", ctype, parts)
    low, high = output_range(op.activation, y)
    window = window_fields(op, x, y, op.window)
    call = f"{function.name}({{x0}}{{x}}, {{y0}}{{y}}, {low}, {high}, &window);"
    return Code(
        f"static const $window window = {window};\n" + over_batches(layer, call),
        (function,),
        slack={0: window_slack(x.shape, y.shape, op.strides, op.pads, y.dtype.numpy.itemsize)},
    )
