"""Sums of 64 bits on a grid of 16, as int16x8 layers need them."""

from __future__ import annotations

from edgec.targets.microcontroller.kernels.base import Function

__all__ = ["RESCALE_WIDE"]

RESCALE_WIDE = Function(
    "$rescale_wide",
    "int32_t $rescale_wide(int64_t value, int32_t multiplier, int32_t shift)",
    """\
{
    /* value * multiplier * 2^(shift - 31), with the multiplier rounded to 15 bits and one
       rounding, halves up: how TFLite Micro scales sums of 64 bits. */
    const int64_t factor = multiplier < 0x7FFF0000 ? (multiplier + (1 << 15)) >> 16 : 0x7FFF;
    const int32_t right = 15 - shift;
    return (int32_t)((value * factor + ((int64_t)1 << (right - 1))) >> right);
}
""",
)
