"""Weighted layers on other numbers than int8: int16 with weights of int8, and real numbers.

One form for both, straight from the definition: correct first, and small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Activation, Conv, DepthwiseConv, FullyConnected
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Kind, Table
from edgec.targets.microcontroller.kernels.portable.layouts import (
    WINDOW_TYPE,
    bias_of,
    constant,
    over_batches,
    window_fields,
)
from edgec.targets.microcontroller.kernels.portable.wide import RESCALE_WIDE
from edgec.targets.microcontroller.kernels.requantization import multipliers_of, output_range
from edgec.targets.microcontroller.kernels.rounding import RESCALE, float_limits
from edgec.targets.microcontroller.kernels.traversal import row_slack, window_slack

__all__ = ["plain_conv", "plain_dense", "plain_depthwise"]


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Types in C, and what makes a result of a sum.

    Parameters
    ----------
    name
        What functions for them end with.
    bias
        Of biases in numpy.
    """

    name: str
    ctype: str
    weights: str
    total: str
    bias: type[np.generic]
    rescale: Function | None

    @property
    def limit(self) -> str:
        """The type of the least and the largest result."""
        return self.ctype if self.rescale is None else "int32_t"

    @property
    def scales(self) -> str:
        """Of the parameters that hold multipliers and shifts."""
        return "" if self.rescale is None else "const int32_t *scales, "

    @property
    def finish(self) -> str:
        """Statements that store the result for filter `i`."""
        if self.rescale is None:
            value = "float value = sum + biases[i];"
        else:
            scaled = f"{self.rescale.name}(sum + biases[i], scales[2 * i], scales[2 * i + 1])"
            value = f"int32_t value = {scaled};"
        return (
            f"{value}\n"
            "value = value < least ? least : value;\n"
            "value = value > most ? most : value;\n"
            f"*y++ = ({self.ctype})value;"
        )

    @property
    def product(self) -> str:
        """A product of a number and a weight."""
        return "*p * *t" if self.rescale is None else "(int32_t)*p * *t"


_REAL = _Numbers("float", "float", "float", "float", np.float32, None)
_LONG = _Numbers("int16", "int16_t", "int8_t", "int64_t", np.int64, RESCALE_WIDE)
_SHORT = _Numbers("int16_short", "int16_t", "int8_t", "int32_t", np.int32, RESCALE)
"""With biases of 32 bits TFLite Micro sums in 32 bits, and rounds as for int8."""


def _indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())


def _windowed(numbers: _Numbers) -> Function:
    name = f"$windows_{numbers.name}"
    return Function(
        name,
        f"void {name}(const {numbers.ctype} *x, {numbers.ctype} *y,\n"
        f"    const {numbers.weights} *weights, const {numbers.total} *biases,\n"
        f"    {numbers.scales}int32_t groups, int32_t filters, int32_t tap, int32_t filter,\n"
        f"    {numbers.limit} least, {numbers.limit} most, const $window *w)",
        f"""\
{{
    /* Any convolution. Weights: `tap` from one place of the window to the next, `filter` from
       one filter to the next; the channels of a group lie one behind the other. */
    const int32_t depth = w->channels / groups;
    const int32_t per_group = filters / groups;
    for (int32_t row = 0; row < w->rows; row++) {{
        const int32_t top = row * w->stride_y - w->pad_top;
        for (int32_t place = 0; place < w->columns; place++) {{
            const int32_t left = place * w->stride_x - w->pad_left;
            for (int32_t i = 0; i < filters; i++) {{
                const int32_t first = i / per_group * depth;
                {numbers.total} sum = 0;
                for (int32_t ky = 0; ky < w->kernel_y; ky++) {{
                    const int32_t at_y = top + ky * w->dilation_y;
                    if (at_y < 0 || at_y >= w->height) {{
                        continue;
                    }}
                    for (int32_t kx = 0; kx < w->kernel_x; kx++) {{
                        const int32_t at_x = left + kx * w->dilation_x;
                        const {numbers.ctype} *p;
                        const {numbers.weights} *t;
                        if (at_x < 0 || at_x >= w->width) {{
                            continue;
                        }}
                        p = x + (at_y * w->width + at_x) * w->channels + first;
                        t = weights + i * filter + (ky * w->kernel_x + kx) * tap;
                        for (int32_t k = 0; k < depth; k++) {{
                            sum += {numbers.product};
                            p++;
                            t++;
                        }}
                    }}
                }}
{_indented(numbers.finish, 16)}
            }}
        }}
    }}
}}
""",
        needs=() if numbers.rescale is None else (numbers.rescale,),
        types=(WINDOW_TYPE,),
    )


def _rows(numbers: _Numbers) -> Function:
    name = f"$dense_{numbers.name}"
    return Function(
        name,
        f"void {name}(const {numbers.ctype} *x, {numbers.ctype} *y,\n"
        f"    const {numbers.weights} *weights, const {numbers.total} *biases,\n"
        f"    {numbers.scales}int32_t rows, int32_t count, int32_t length,\n"
        f"    {numbers.limit} least, {numbers.limit} most)",
        f"""\
{{
    for (int32_t row = 0; row < rows; row++) {{
        const {numbers.weights} *t = weights;
        for (int32_t i = 0; i < count; i++) {{
            const {numbers.ctype} *p = x;
            {numbers.total} sum = 0;
            for (int32_t k = 0; k < length; k++) {{
                sum += {numbers.product};
                p++;
                t++;
            }}
{_indented(numbers.finish, 12)}
        }}
        x += length;
    }}
}}
""",
        needs=() if numbers.rescale is None else (numbers.rescale,),
    )


def _numbers_of(layer: Layer) -> _Numbers | None:
    x, y = layer.input(0), layer.output
    if x.dtype is not y.dtype:
        return None
    if x.dtype is DType.FLOAT32:
        return _REAL
    if x.dtype is not DType.INT16 or layer.input(1).dtype is not DType.INT8:
        return None
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    return _SHORT if bias is not None and bias.dtype is DType.INT32 else _LONG


def _constants(layer: Layer, numbers: _Numbers) -> tuple[dict[str, Table], str, str]:
    """Return tables, how a call names them, and the limits of results as arguments."""
    y = layer.output
    weights, bias = np.ascontiguousarray(constant(layer, 1)).reshape(-1), bias_of(layer)
    starts = np.zeros(y.shape[-1], numbers.bias) if bias is None else bias.astype(numbers.bias)
    tables = {
        "weights": Table(weights, {"weights": weights.nbytes}),
        "biases": Table(starts, {"biases": starts.nbytes}, align=starts.dtype.itemsize),
    }
    assert isinstance(layer.op, (Conv, DepthwiseConv, FullyConnected))
    activation: Activation = layer.op.activation
    if numbers.rescale is None:
        return tables, "{weights}, {biases}", ", ".join(float_limits(activation))
    scales = np.array([(m.value, m.shift) for m in multipliers_of(layer)], np.int32)
    kinds: dict[Kind, int] = {"requantization": scales.nbytes}
    tables["scales"] = Table(scales.reshape(-1), kinds)
    low, high = output_range(activation, y)
    return tables, "{weights}, {biases}, {scales}", f"{low}, {high}"


def plain_conv(layer: Layer, core: Core) -> Code | None:
    """A convolution, with groups too."""
    op = layer.op
    if not isinstance(op, Conv):
        return None
    weights = layer.input(1).shape
    depth = weights[3]
    return _window_code(
        layer, op, layer.input(0).shape[3] // depth, depth, weights[1] * weights[2] * depth
    )


def plain_depthwise(layer: Layer, core: Core) -> Code | None:
    """A filter for each channel, or several: groups of one channel."""
    op = layer.op
    if not isinstance(op, DepthwiseConv):
        return None
    numbers = _numbers_of(layer)
    if numbers is _SHORT:
        return None  # TFLite Micro takes such biases for 64 bits
    return _window_code(layer, op, layer.input(0).shape[3], layer.output.shape[3], 1)


def _window_code(
    layer: Layer, op: Conv | DepthwiseConv, groups: int, tap: int, filter_: int
) -> Code | None:
    numbers = _numbers_of(layer)
    if numbers is None:
        return None
    x, weights, y = layer.input(0), layer.input(1), layer.output
    tables, named, limits = _constants(layer, numbers)
    window = window_fields(op, x, y, (weights.shape[1], weights.shape[2]))
    function = _windowed(numbers)
    call = (
        f"{function.name}({{x0}}{{x}}, {{y0}}{{y}}, {named}, {groups}, {y.shape[3]}, "
        f"{tap}, {filter_}, {limits}, &window);"
    )
    size = y.dtype.numpy.itemsize
    return Code(
        f"static const $window window = {window};\n" + over_batches(layer, call),
        (function,),
        tables,
        slack={0: window_slack(x.shape, y.shape, op.strides, op.pads, size)},
        macs=y.size * weights.size // y.shape[3],
    )


def plain_dense(layer: Layer, core: Core) -> Code | None:
    """A fully connected layer."""
    op, numbers = layer.op, _numbers_of(layer)
    if not isinstance(op, FullyConnected) or numbers is None:
        return None
    weights, y = layer.input(1), layer.output
    count, length = weights.shape
    rows, size = y.size // count, y.dtype.numpy.itemsize
    tables, named, limits = _constants(layer, numbers)
    function = _rows(numbers)
    return Code(
        f"{function.name}({{x0}}, {{y0}}, {named}, {rows}, {count}, {length}, {limits});",
        (function,),
        tables,
        slack={0: row_slack(rows, length * size, count * size) - length * size},
        macs=rows * weights.size,
    )
