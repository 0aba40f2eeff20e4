"""TFLite Micro's scaling of integers in C, and how C writes real numbers."""

from __future__ import annotations

import numpy as np

from edgec.program.operators import Activation
from edgec.targets.microcontroller.kernels.base import Function

__all__ = ["RESCALE", "float_limits", "float_literal"]


def float_limits(activation: Activation) -> tuple[str, str]:
    """Return the least and the largest number that an activation lets through, in C."""
    most = "3.402823466e+38f"
    return {
        "none": (f"-{most}", most),
        "relu": ("0.0f", most),
        "relu6": ("0.0f", "6.0f"),
        "relu_n1_to_1": ("-1.0f", "1.0f"),
    }[activation]


def float_literal(value: float) -> str:
    """Return a float32 as C writes it, exactly."""
    text = np.format_float_scientific(np.float32(value), unique=True, trim="0")
    return f"{text}f"


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
"""A scaled integer; the same as ``Multiplier.times`` in Python."""
