"""Integers that stand for scales, as TFLite Micro prepares them before it runs."""

from __future__ import annotations

import math

import numpy as np

from edgec.ir import Array
from edgec.program import Tensor
from edgec.program.operators import Activation
from edgec.targets.microcontroller.kernels.base import Function

__all__ = [
    "RESCALE",
    "activation_limits",
    "channel_multipliers",
    "float_limits",
    "quantized_multiplier",
    "rescale",
    "rounded_doubling_high",
    "rounded_shift",
]


def quantized_multiplier(real: float) -> tuple[int, int]:
    """Return multiplier and left shift that stand for a real number.

    ``real = multiplier * 2 ** (shift - 31)`` with 31 bits; what is too small for a shift of 31
    is zero.

    References
    ----------
    tensorflow/lite/kernels/internal/quantization_util.cc, QuantizeMultiplier.
    """
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def channel_multipliers(
    x: Tensor, weights: Tensor, y: Tensor, channels: int
) -> list[tuple[int, int]]:
    """Return multiplier and shift for each channel of a convolution.

    References
    ----------
    tensorflow/lite/kernels/kernel_util.cc, PopulateConvolutionQuantizationParams.
    """
    scales = weights.grid.scale if weights.grid else (weights.scale,)
    if len(scales) == 1:
        scales = scales * channels
    if len(scales) != channels:
        raise ValueError(f"{weights.name} has {len(scales)} scales for {channels} channels")
    return [quantized_multiplier(x.scale * scale / y.scale) for scale in scales]


def activation_limits(activation: Activation, y: Tensor) -> tuple[int, int]:
    """Return the least and the largest integer that an activation lets through.

    References
    ----------
    tensorflow/lite/kernels/kernel_util.cc, CalculateActivationRangeQuantized.
    """
    low, high = y.dtype.limits

    def on_grid(real: float) -> int:
        stored = np.float32(real) / np.float32(y.scale)
        return y.zero_point + int(
            np.copysign(np.floor(np.abs(stored) + np.float32(0.5)), stored)
        )

    if activation == "none":
        return low, high
    if activation == "relu":
        return max(low, on_grid(0.0)), high
    if activation == "relu6":
        return max(low, on_grid(0.0)), min(high, on_grid(6.0))
    return max(low, on_grid(-1.0)), min(high, on_grid(1.0))


def float_limits(activation: Activation) -> tuple[str, str]:
    """Return the least and the largest number that an activation lets through, as C writes them."""
    most = "3.402823466e+38f"
    return {
        "none": (f"-{most}", most),
        "relu": ("0.0f", most),
        "relu6": ("0.0f", "6.0f"),
        "relu_n1_to_1": ("-1.0f", "1.0f"),
    }[activation]


# ---- the same arithmetic on arrays, for tables made at compile time


def rounded_doubling_high(a: Array, b: Array | int) -> Array:
    """Return ``a * b / 2 ** 31``, halves rounded up; of 32-bit integers held in int64."""
    return np.minimum((a * np.int64(b) + (1 << 30)) >> 31, (1 << 31) - 1)


def rounded_shift(a: Array, by: int) -> Array:
    """Return ``a / 2 ** by``, halves rounded away from zero."""
    if by == 0:
        return a
    return (a + (1 << (by - 1)) - (a < 0)) >> by


def rescale(a: Array, multiplier: int, shift: int) -> Array:
    """Return ``a * multiplier * 2 ** (shift - 31)``, rounded twice, wrapping like 32 bits.

    References
    ----------
    tensorflow/lite/kernels/internal/common.cc, MultiplyByQuantizedMultiplier.
    """
    left = (a.astype(np.int64) << max(shift, 0)).astype(np.int32).astype(np.int64)
    return rounded_shift(rounded_doubling_high(left, multiplier), max(-shift, 0))


RESCALE = Function(
    "$rescale",
    "int32_t $rescale(int32_t value, int32_t multiplier, int32_t shift)",
    """\
{
    /* value * multiplier * 2^(shift - 31), rounded twice as TFLite Micro does: first the
       product, halves up, then the shift to the right, halves away from zero. */
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift > 0 ? 0 : -shift;
    const int64_t product = (int64_t)(int32_t)((uint32_t)value << left) * multiplier;
    const int32_t high = (int32_t)((product + ((int64_t)1 << 30)) >> 31);
    const int32_t mask = (int32_t)(((uint32_t)1 << right) - 1u);
    const int32_t half = (mask >> 1) + (high < 0 ? 1 : 0);
    return (high >> right) + ((high & mask) > half ? 1 : 0);
}
""",
)
"""A scaled integer; :func:`rescale` is the same in Python."""
