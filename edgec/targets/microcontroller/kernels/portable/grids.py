"""From one grid to another, and between integers and real numbers, in portable C."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Dequantize, Quantize
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.portable.activations import lookup_code
from edgec.targets.microcontroller.kernels.requantization import Multiplier
from edgec.targets.microcontroller.kernels.rounding import RESCALE, float_literal
from edgec.targets.microcontroller.kernels.traversal import row_slack

__all__ = ["dequantize", "quantize", "requantize", "requantize_bytes"]

_BYTES = (DType.INT8, DType.UINT8)
_C_TYPES = {
    DType.INT8: "int8_t",
    DType.UINT8: "uint8_t",
    DType.INT16: "int16_t",
    DType.INT32: "int32_t",
}


def requantize_bytes(layer: Layer, core: Core) -> Code | None:
    """Between grids of 8 bits: a table."""
    x, y = layer.input(0), layer.output
    if not isinstance(layer.op, Quantize) or x.dtype not in _BYTES or y.dtype not in _BYTES:
        return None
    low, high = x.dtype.limits
    factor = Multiplier.of(x.scale / y.scale)
    values = factor.times(np.arange(low, high + 1) - x.zero_point) + y.zero_point
    return lookup_code(layer, np.clip(values, *y.dtype.limits))


def requantize(layer: Layer, core: Core) -> Code | None:
    """Between grids of integers of any width."""
    x, y = layer.input(0), layer.output
    if not isinstance(layer.op, Quantize) or x.dtype not in _C_TYPES or y.dtype not in _C_TYPES:
        return None
    given, wanted = _C_TYPES[x.dtype], _C_TYPES[y.dtype]
    name = f"$requantize_{given.removesuffix('_t')}_to_{wanted.removesuffix('_t')}"
    low, high = y.dtype.limits
    if y.dtype is DType.INT32:
        limits = ""
    else:
        limits = (
            f"        value = value < {low} ? {low} : value;\n"
            f"        value = value > {high} ? {high} : value;\n"
        )
    function = Function(
        name,
        f"void {name}(const {given} *x, {wanted} *y, int32_t count, int32_t zero_x,\n"
        "    int32_t multiplier, int32_t shift, int32_t zero_y)",
        f"""\
{{
    for (int32_t i = 0; i < count; i++) {{
        int32_t value = $rescale(x[i] - zero_x, multiplier, shift) + zero_y;
{limits}        y[i] = ({wanted})value;
    }}
}}
""",
        needs=(RESCALE,),
    )
    factor = Multiplier.of(x.scale / y.scale)
    return Code(
        f"{name}({{x0}}, {{y0}}, {x.size}, {x.zero_point}, {factor.value}, {factor.shift}, "
        f"{y.zero_point});",
        (function,),
        slack=_slack(layer),
    )


def quantize(layer: Layer, core: Core) -> Code | None:
    """Real numbers to integers; halves away from zero."""
    x, y = layer.input(0), layer.output
    if not isinstance(layer.op, Quantize) or x.dtype is not DType.FLOAT32:
        return None
    if y.dtype not in (DType.INT8, DType.UINT8, DType.INT16):
        return None
    wanted = _C_TYPES[y.dtype]
    low, high = y.dtype.limits
    name = f"$quantize_{wanted.removesuffix('_t')}"
    function = Function(
        name,
        f"void {name}(const float *x, {wanted} *y, int32_t count, float scale, int32_t zero)",
        f"""\
{{
    for (int32_t i = 0; i < count; i++) {{
        float real = x[i] / scale;
        int32_t value;
        real = real > 131072.0f ? 131072.0f : real;
        if (!(real > -131072.0f)) {{
            real = -131072.0f;
        }}
        value = (int32_t)real;
        real -= (float)value;
        value += zero + (real >= 0.5f ? 1 : 0) - (real <= -0.5f ? 1 : 0);
        value = value < {low} ? {low} : value;
        value = value > {high} ? {high} : value;
        y[i] = ({wanted})value;
    }}
}}
""",
    )
    call = f"{name}({{x0}}, {{y0}}, {x.size}, {float_literal(y.scale)}, {y.zero_point});"
    return Code(call, (function,), slack=_slack(layer))


def dequantize(layer: Layer, core: Core) -> Code | None:
    """Integers to real numbers."""
    x, y = layer.input(0), layer.output
    if not isinstance(layer.op, Dequantize) or x.dtype not in _C_TYPES:
        return None
    if y.dtype is not DType.FLOAT32:
        return None
    given = _C_TYPES[x.dtype]
    name = f"$dequantize_{given.removesuffix('_t')}"
    function = Function(
        name,
        f"void {name}(const {given} *x, float *y, int32_t count, float scale, int32_t zero)",
        """\
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = (float)(x[i] - zero) * scale;
    }
}
""",
    )
    call = f"{name}({{x0}}, {{y0}}, {x.size}, {float_literal(x.scale)}, {x.zero_point});"
    return Code(call, (function,), slack=_slack(layer))


def _slack(layer: Layer) -> dict[int, int]:
    x, y = layer.input(0), layer.output
    read, written = x.dtype.numpy.itemsize, y.dtype.numpy.itemsize
    if written > read:
        return {0: row_slack(x.size, read, written)}
    return {0: 0}
