"""Softmax of int16 in portable C: two tables, and lines between their points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir import Array, DType
from edgec.program import Layer
from edgec.program.operators import Softmax
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.requantization import Multiplier
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["softmax_int16"]

_BETWEEN = Function(
    "$between",
    "int32_t $between(int32_t value, const int16_t *table)",
    """\
{
    /* The table has a point for every 128th of the 16-bit numbers. */
    const int32_t at = 256 + (value >> 7);
    const int32_t rise = table[at + 1] - table[at];
    return table[at] + ((rise * (value & 127) + 64) >> 7);
}
""",
)

_SOFTMAX = Function(
    "$softmax_int16",
    "void $softmax_int16(const int16_t *x, int16_t *y, int32_t rows, int32_t depth,\n"
    "    int32_t multiplier, int32_t shift, const int16_t *exponentials,\n"
    "    const int16_t *reciprocals)",
    """\
{
    while (rows-- > 0) {
        int32_t largest = -32768;
        int32_t sum = 0;
        int32_t zeros = 0;
        int32_t scale;
        for (int32_t i = 0; i < depth; i++) {
            largest = x[i] > largest ? x[i] : largest;
        }
        for (int32_t i = 0; i < depth; i++) {
            /* Distances of 0 to 10 lie on 65535 steps. */
            int32_t value = $rescale(x[i] - largest, multiplier, shift) + 32767;
            value = value < -32768 ? -32768 : value > 32767 ? 32767 : value;
            value = $between(value, exponentials);
            y[i] = (int16_t)value;
            sum += value;
        }
        while ((((uint32_t)sum << zeros) & 0x80000000u) == 0) {
            zeros++;
        }
        /* The second table is of 1 / (1 + x): the sum is scaled to lie between one and two. */
        scale = (int32_t)((((int64_t)sum << (zeros - 1)) + (1 << 13)) >> 14) - 98304;
        scale = scale < -32768 ? -32768 : scale > 32767 ? 32767 : scale;
        scale = $between(scale, reciprocals);
        for (int32_t i = 0; i < depth; i++) {
            const int32_t right = 31 - zeros;
            const int64_t share = (int64_t)y[i] * scale + ((int64_t)1 << (right - 1));
            const int32_t value = (int32_t)(share >> right);
            y[i] = (int16_t)(value < 0 ? 0 : value > 32767 ? 32767 : value);
        }
        x += depth;
        y += depth;
    }
}
""",
    needs=(RESCALE, _BETWEEN),
)


def _table(input_scale: np.float32, zero_point: int, f: Callable[[Array], Array]) -> Array:
    """Return 513 points of a function; each but the last moved by half the error between.

    Computed in float32, as TFLite Micro does while it starts.

    References
    ----------
    tensorflow/lite/kernels/internal/common.h, LUTPopulateInt16.
    """
    single = np.float32
    output_scale = single(2) / single(65535)
    low = input_scale * single(-32768 - zero_point)
    high = input_scale * single(32767 - zero_point)
    least, most = output_scale * single(-32768), output_scale * single(32767)
    step = (high - low) / single(512)
    inverse = single(65536) / (most - least)
    k = np.arange(512, dtype=np.float32)
    value = f(low + k * step)
    middle = f(low + k * step + step / single(2))
    following = f(low + (k + single(1)) * step)
    sample = _rounded(value * inverse)
    line = _rounded((following * inverse + _rounded(value * inverse)) / single(2))
    error = _rounded((line - _rounded(middle * inverse)) / single(2))
    last = _rounded(f(np.array([high], np.float32)) * inverse)
    points = np.concatenate([sample - error, last])
    return np.asarray(np.clip(points, -32768, 32767), np.int16)


def _rounded(a: Array) -> Array:
    return np.asarray(np.trunc(a + np.copysign(np.float32(0.5), a)), np.float32)


def softmax_int16(layer: Layer, core: Core) -> Code | None:
    """Shares of exponentials.

    References
    ----------
    tensorflow/lite/kernels/internal/reference/softmax.h, SoftmaxInt16.
    """
    op = layer.op
    if not isinstance(op, Softmax):
        return None
    x, y = layer.input(0), layer.output
    if x.dtype is not DType.INT16 or y.dtype is not DType.INT16:
        return None
    factor = Multiplier.of(x.scale * float(np.float32(op.beta)) / (10.0 / 65535.0))
    single = np.float32
    exponentials = _table(
        single(10) / single(65535), 32767, lambda a: np.exp(a.astype(np.float64)).astype(single)
    )
    reciprocals = _table(
        single(1) / single(65535), -32768, lambda a: single(1) / (single(1) + a)
    )
    depth = x.shape[-1]
    return Code(
        f"$softmax_int16({{x0}}, {{y0}}, {x.size // depth}, {depth}, {factor.value}, "
        f"{factor.shift}, {{exponentials}}, {{reciprocals}});",
        (_SOFTMAX,),
        {
            "exponentials": Table(exponentials, {"other": exponentials.nbytes}),
            "reciprocals": Table(reciprocals, {"other": reciprocals.nbytes}),
        },
        slack={0: 0},
    )
