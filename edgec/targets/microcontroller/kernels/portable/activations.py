"""Functions of single integers: looked up in a table, or computed where they are simple."""

from __future__ import annotations

import math

import numpy as np

from edgec.ir import Array, DType
from edgec.program import Layer, Tensor
from edgec.program.operators import HardSwish, LeakyRelu, Logistic, Relu, Relu6, Tanh
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels import fixed_point
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.portable.moves import unchanged
from edgec.targets.microcontroller.kernels.requantization import Multiplier, output_range
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = [
    "SIGMOID_INT16",
    "TANH_INT16",
    "activation_by_table",
    "clamp",
    "lookup_code",
    "relu_int16",
    "sigmoid_int16",
]

_LOOKUP = Function(
    "$lookup",
    "void $lookup(const uint8_t *x, uint8_t *y, int32_t count, const uint8_t *table)",
    """\
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = table[x[i]];
    }
}
""",
)

_CLAMP = """\
{{
    for (int32_t i = 0; i < count; i++) {{
        const int32_t value = x[i];
        y[i] = ({ctype})(value < least ? least : value > most ? most : value);
    }}
}}
"""


def lookup_code(layer: Layer, of_each: Array) -> Code:
    """Return code that looks bytes up.

    Parameters
    ----------
    of_each
        The result for each byte: for int8 from -128 on, for uint8 from 0 on.
    """
    x = layer.input(0)
    table = np.roll(of_each, 128) if x.dtype is DType.INT8 else of_each
    data = table.astype(np.int64).astype(np.uint8)
    return Code(
        f"$lookup((const uint8_t *){{x0}}, (uint8_t *){{y0}}, {x.size}, {{table}});",
        (_LOOKUP,),
        {"table": Table(data, {"other": 256})},
        slack={0: 0},
    )


def activation_by_table(layer: Layer, core: Core) -> Code | None:
    """Any function of int8."""
    op, x, y = layer.op, layer.input(0), layer.output
    if x.dtype is not DType.INT8 or y.dtype is not DType.INT8:
        return None
    values = np.arange(-128, 128, dtype=np.int64)
    if isinstance(op, Logistic):
        return lookup_code(layer, _in_fixed_point(values, x, is_tanh=False))
    if isinstance(op, Tanh):
        return lookup_code(layer, _in_fixed_point(values, x, is_tanh=True))
    if isinstance(op, HardSwish):
        return lookup_code(layer, _hard_swish(values, x, y))
    if isinstance(op, LeakyRelu):
        return lookup_code(layer, _leaky(values, x, y, op.alpha))
    if isinstance(op, Relu):
        return lookup_code(layer, _relu(values, x, y))
    return None


def clamp(layer: Layer, core: Core) -> Code | None:
    """What only limits integers, on the grid that they are on."""
    op, x, y = layer.op, layer.input(0), layer.output
    if x.dtype is not y.dtype or x.dtype not in (DType.INT8, DType.INT16):
        return None
    if isinstance(op, Relu6):  # TFLite Micro looks at the grid of the operand only
        low, high = output_range("relu6", x)
    elif isinstance(op, Relu) and (x.scale, x.zero_point) == (y.scale, y.zero_point):
        low, high = output_range("relu", y)
    else:
        return None
    beyond = 1 << (8 * x.dtype.numpy.itemsize - 1)
    if low <= -beyond and high >= beyond - 1:
        return unchanged(layer)
    ctype = "int8_t" if x.dtype is DType.INT8 else "int16_t"
    name = f"$clamp_{ctype.removesuffix('_t')}"
    function = Function(
        name,
        f"void {name}(const {ctype} *x, {ctype} *y, int32_t count,\n"
        "    int32_t least, int32_t most)",
        _CLAMP.format(ctype=ctype),
    )
    call = f"{name}({{x0}}, {{y0}}, {x.size}, {low}, {high});"
    return Code(call, (function,), slack={0: 0})


def _in_fixed_point(values: Array, x: Tensor, *, is_tanh: bool) -> Array:
    """Return the logistic function or the hyperbolic tangent on TFLite's own grids.

    References
    ----------
    tensorflow/lite/kernels/internal/reference/integer_ops/logistic.h and tanh.h.
    """
    factor = Multiplier.of(x.scale * (1 << 27))
    if factor.shift < 0:
        raise ValueError(f"the scale of {x.name} is too small")
    radius = fixed_point.input_radius(4, factor.shift)
    distance = values - x.zero_point
    inside = np.abs(distance) < radius
    scaled = factor.times(np.where(inside, distance, 0))
    if is_tanh:
        result = fixed_point.shifted(fixed_point.tanh(scaled), 24)
    else:
        result = fixed_point.shifted(fixed_point.logistic(scaled), 23) - 128
    result = np.where(inside, result, np.where(distance < 0, -128, 127))
    return np.asarray(np.clip(result, -128, 127))


def _high_16(a: Array, b: int) -> Array:
    return np.asarray(np.minimum((a * b + (1 << 14)) >> 15, 32767))


def _hard_swish(values: Array, x: Tensor, y: Tensor) -> Array:
    """Return hard-swish as computed with 16 bits.

    References
    ----------
    tensorflow/lite/kernels/internal/reference/hard_swish.h.
    """
    fine = np.float32(1 / 128) * np.float32(x.scale)
    to_result = Multiplier.of(float(fine / np.float32(y.scale)))
    to_reluish = Multiplier.of(float(fine / (np.float32(3) / np.float32(32768))))
    if to_result.shift > 0:
        raise ValueError(f"the scale of {y.name} is too small for its operand")

    def narrow(value: int) -> int:
        return min(32767, (value + (1 << 15)) >> 16)

    hires = (values - x.zero_point) * 128
    unshifted = _high_16(hires, narrow(to_result.value))
    reluish = hires
    if to_reluish.shift > 0:
        reluish = np.clip(reluish << (to_reluish.shift - 1), -32768, 32767)
    reluish = _high_16(reluish, narrow(to_reluish.value))
    if to_reluish.shift > 0:
        reluish = np.clip(reluish * 2, -32768, 32767)
    reluish = fixed_point.shifted(reluish, max(0, -to_reluish.shift))
    reluish = (reluish + (1 << 15)) >> 1
    product = reluish * unshifted
    product = np.sign(product) * (np.abs(product) >> 15)  # towards zero
    result = fixed_point.shifted(product, -to_result.shift) + y.zero_point
    return np.asarray(np.clip(result, -128, 127))


def _leaky(values: Array, x: Tensor, y: Tensor, alpha: float) -> Array:
    slope, identity = _leaky_factors(x, y, alpha)
    distance = values - x.zero_point
    negative = np.sign(alpha).astype(np.int64) * slope.times(distance)
    result = np.where(distance >= 0, identity.times(distance), negative) + y.zero_point
    return np.asarray(np.clip(result, *y.dtype.limits))


def _leaky_factors(x: Tensor, y: Tensor, alpha: float) -> tuple[Multiplier, Multiplier]:
    """Return the factors of negative and of positive numbers; computed in float32."""
    scale = np.float32(x.scale)
    slope = np.float32(scale * np.float32(alpha)) / np.float32(y.scale)
    return Multiplier.of(abs(float(slope))), Multiplier.of(float(scale / np.float32(y.scale)))


def _relu_factor(x: Tensor, y: Tensor) -> Multiplier:
    return Multiplier.of(float(np.float32(x.scale) / np.float32(y.scale)))


def _relu(values: Array, x: Tensor, y: Tensor) -> Array:
    result = y.zero_point + _relu_factor(x, y).times(values - x.zero_point)
    return np.asarray(np.clip(result, *output_range("relu", y)))


# ---- 16 bits

_TWO_SLOPES = Function(
    "$two_slopes_int16",
    "void $two_slopes_int16(const int16_t *x, int16_t *y, int32_t count, int32_t factor,\n"
    "    int32_t shift, int32_t negative_factor, int32_t negative_shift, int32_t sign)",
    """\
{
    for (int32_t i = 0; i < count; i++) {
        int32_t value = x[i];
        if (value >= 0) {
            value = $rescale(value, factor, shift);
        } else {
            value = sign * $rescale(value, negative_factor, negative_shift);
        }
        value = value < -32768 ? -32768 : value;
        value = value > 32767 ? 32767 : value;
        y[i] = (int16_t)value;
    }
}
""",
    needs=(RESCALE,),
)


def relu_int16(layer: Layer, core: Core) -> Code | None:
    """ReLU and leaky ReLU of int16; sums of their rescaled halves."""
    op, x, y = layer.op, layer.input(0), layer.output
    if x.dtype is not DType.INT16 or y.dtype is not DType.INT16:
        return None
    if isinstance(op, Relu):
        slope, identity, sign = Multiplier(0, 0), _relu_factor(x, y), 1
    elif isinstance(op, LeakyRelu):
        slope, identity = _leaky_factors(x, y, op.alpha)
        sign = -1 if op.alpha < 0 else 1
    else:
        return None
    return Code(
        f"$two_slopes_int16({{x0}}, {{y0}}, {x.size}, {identity.value}, {identity.shift}, "
        f"{slope.value}, {slope.shift}, {sign});",
        (_TWO_SLOPES,),
        slack={0: 0},
    )


SIGMOID_INT16 = Function(
    "$logistic_int16",
    "void $logistic_int16(const int16_t *x, int16_t *y, int32_t count, int32_t factor,\n"
    "    int32_t shift, const uint16_t *table)",
    """\
{
    /* The table holds the function at multiples of 1/24, 16 bits behind the point; between
       them lies a line. Of negative numbers it is one minus that of positive ones. */
    const int32_t half = shift > 0 ? (int32_t)1 << (shift - 1) : 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t value = (x[i] * factor + half) >> shift;
        const uint32_t size = (uint32_t)(value < 0 ? -value : value);
        const uint32_t at = size >> 9;
        uint32_t result = (uint32_t)0x7FFF << 10;
        if (at < 255) {
            const uint32_t from = table[at];
            result = (from << 9) + (size & 0x1FFu) * (table[at + 1] - from);
        }
        result = value >= 0 ? result + 512u : ((uint32_t)1 << 25) - result + 511u;
        y[i] = (int16_t)(result >> 10);
    }
}
""",
)

TANH_INT16 = Function(
    "$tanh_int16",
    "void $tanh_int16(const int16_t *x, int16_t *y, int32_t count, int32_t factor,\n"
    "    int32_t shift, const uint16_t *table)",
    """\
{
    /* From the table of the logistic function: tanh(x) = 2 logistic(2 x) - 1. */
    const int32_t half = shift > 0 ? (int32_t)1 << (shift - 1) : 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t value = (x[i] * factor + half) >> shift;
        const uint32_t size = (uint32_t)(value < 0 ? -value : value);
        const uint32_t at = size >> 8;
        int32_t result = (int32_t)0xFFFF << 8;
        if (at < 255) {
            const uint32_t from = table[at];
            result = (int32_t)((from << 8) + (size & 0xFFu) * (table[at + 1] - from));
        }
        result -= (int32_t)1 << 23;
        result = value >= 0 ? result + 128 : 127 - result;
        y[i] = (int16_t)(result >> 8);
    }
}
""",
)


def sigmoid_int16(layer: Layer, core: Core) -> Code | None:
    """The logistic function and the hyperbolic tangent of int16.

    References
    ----------
    tensorflow/lite/micro/kernels/logistic_common.cc and tanh.cc.
    """
    op, x, y = layer.op, layer.input(0), layer.output
    if not isinstance(op, (Logistic, Tanh)):
        return None
    if x.dtype is not DType.INT16 or y.dtype is not DType.INT16:
        return None
    allowed = (0,) if isinstance(op, Logistic) else (0, 1)
    factor, shift = _table_scaling(x.scale, allowed)
    function = SIGMOID_INT16 if isinstance(op, Logistic) else TANH_INT16
    call = f"{function.name}({{x0}}, {{y0}}, {x.size}, {factor}, {shift}, {{table}});"
    table = Table(fixed_point.sigmoid_table(), {"other": 512})
    return Code(call, (function,), {"table": table}, slack={0: 0})


def _table_scaling(scale: float, allowed: tuple[int, ...]) -> tuple[int, int]:
    """Return factor and right shift that put an operand on the grid of the table."""
    exact = np.log(np.float32(scale)) * (np.float32(1) / np.float32(np.log(2)))
    power = math.floor(float(exact) + 0.5)
    if abs(float(exact) - power) < 1e-3 and 12 + power in allowed:
        return 3 << (12 + power), 0
    factor, shift = scale * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2.0 and shift <= 30:
        factor, shift = factor * 2.0, shift + 1
    return int(factor), shift
