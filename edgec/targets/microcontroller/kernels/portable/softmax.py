"""Softmax of integers in portable C."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Softmax
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.fixed_point import exp_of_negatives, input_radius
from edgec.targets.microcontroller.kernels.requantization import Multiplier

__all__ = ["softmax"]

_HIGH = Function(
    "$doubling_high",
    "int32_t $doubling_high(int32_t a, int32_t b)",
    """\
{
    /* a * b / 2^31, halves rounded up. */
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}
""",
)

_FOURFOLD = Function(
    "$fourfold",
    "int32_t $fourfold(int32_t value)",
    """\
{
    const int32_t limit = ((int32_t)1 << 29) - 1;
    if (value > limit) {
        return INT32_MAX;
    }
    return value < -limit ? INT32_MIN : value * 4;
}
""",
)

_RECIPROCAL = Function(
    "$reciprocal",
    "int32_t $reciprocal(int32_t sum, int32_t *bits)",
    """\
{
    /* 1 / sum, scaled to lie between a half and one, by three steps of Newton's method from
       48/17 - 32/17 d. The sum has 12 bits before its point; *bits are those above one. */
    uint32_t fraction = (uint32_t)sum;
    int32_t zeros = 0;
    while ((fraction & 0x80000000u) == 0) {
        fraction <<= 1;
        zeros++;
    }
    *bits = 12 - zeros;
    const int32_t half = (int32_t)((fraction - 0x80000000u) / 2u + 0x40000000u);
    int32_t x = 1515870810 + $doubling_high(half, -1010580540);
    for (int32_t i = 0; i < 3; i++) {
        const int32_t error = ((int32_t)1 << 29) - $doubling_high(half, x);
        x += $fourfold($doubling_high(x, error));
    }
    if (x > ((int32_t)1 << 30) - 1) {
        return INT32_MAX;
    }
    return x * 2;
}
""",
    needs=(_HIGH, _FOURFOLD),
)


_SOFTMAX = Function(
    "$softmax_int8",
    "void $softmax_int8(const int8_t *x, int8_t *y, int32_t rows, int32_t depth,\n"
    "    const int32_t *exponentials, int32_t count)",
    """\
{
    /* exponentials[d] is exp(-d * scale * beta), 31 bits behind the point; what is farther
       from the largest number than the table is long counts as nothing. */
    while (rows-- > 0) {
        int32_t largest = -128;
        int32_t sum = 0;
        int32_t bits;
        for (int32_t i = 0; i < depth; i++) {
            largest = x[i] > largest ? x[i] : largest;
        }
        for (int32_t i = 0; i < depth; i++) {
            const int32_t distance = largest - x[i];
            if (distance < count) {
                sum += (int32_t)(((uint32_t)exponentials[distance] + 2048u) >> 12);
            }
        }
        const int32_t scale = $reciprocal(sum, &bits);
        const int32_t shift = bits + 23;
        for (int32_t i = 0; i < depth; i++) {
            const int32_t distance = largest - x[i];
            int32_t value = -128;
            if (distance < count) {
                const int32_t share = $doubling_high(scale, exponentials[distance]);
                value += (int32_t)(((uint32_t)share + (((uint32_t)1 << shift) >> 1)) >> shift);
                value = value > 127 ? 127 : value;
            }
            y[i] = (int8_t)value;
        }
        x += depth;
        y += depth;
    }
}
""",
    needs=(_RECIPROCAL,),
)


def softmax(layer: Layer, core: Core) -> Code | None:
    """The exponentials lie in a table: there are at most 256 distances of int8 numbers.

    References
    ----------
    tensorflow/lite/kernels/internal/reference/softmax.h; the multiplier is prepared in
    quantization_util.cc, PreprocessSoftmaxScaling.
    """
    op = layer.op
    if not isinstance(op, Softmax):
        return None
    x, y = layer.input(0), layer.output
    if x.dtype is not DType.INT8 or y.dtype is not DType.INT8:
        return None
    real = min(float(np.float32(op.beta)) * x.scale * (1 << 26), (1 << 31) - 1.0)
    factor = Multiplier.of(real)
    if factor.shift < 0:
        return None  # TFLite Micro stops at scales like this
    radius = input_radius(5, factor.shift)
    count = min(255, radius) + 1
    differences = factor.times(-np.arange(count, dtype=np.int64))
    table = Table(exp_of_negatives(differences, 5).astype(np.int32), {"other": 4 * count})
    depth = x.shape[-1]
    call = (
        f"$softmax_int8({{x0}}, {{y0}}, {x.size // depth}, {depth}, {{exponentials}}, {count});"
    )
    return Code(call, (_SOFTMAX,), {"exponentials": table}, slack={0: 0})
