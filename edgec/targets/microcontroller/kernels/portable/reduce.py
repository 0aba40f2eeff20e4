"""Means of integers along axes, in portable C."""

from __future__ import annotations

import math

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Mean
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code
from edgec.targets.microcontroller.kernels.portable.strides import (
    Axis,
    contiguous,
    merged,
    nested,
)
from edgec.targets.microcontroller.kernels.requantization import Multiplier
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["mean", "mean_loops"]

_C_TYPES = {DType.INT8: "int8_t", DType.INT16: "int16_t"}


def mean(layer: Layer, core: Core) -> Code | None:
    """Sums, divided by a factor that is prepared.

    References
    ----------
    tensorflow/lite/kernels/internal/reference/reduce.h, QuantizedMeanOrSum.
    """
    op, x, y = layer.op, layer.input(0), layer.output
    if not isinstance(op, Mean) or x.dtype is not y.dtype or x.dtype not in _C_TYPES:
        return None
    count = math.prod(x.shape[axis] for axis in op.axes)
    factor = Multiplier.of(x.scale / y.scale)
    more = min(count.bit_length() - 1, 32, 31 + factor.shift)
    value, shift = (factor.value << more) // count, factor.shift - more
    low, high = y.dtype.limits
    ctype = _C_TYPES[y.dtype]
    outer, inner = mean_loops(x.shape, op.axes)
    body = [
        f"const {ctype} *from = {{x0}}{{p}};",
        "int32_t sum = 0;",
        *nested(inner, "sum += *(from{f});", ("f",), "k").splitlines(),
        f"sum = $rescale(sum - ({x.zero_point * count}), {value}, {shift}) + {y.zero_point};",
        f"sum = sum < {low} ? {low} : sum;",
        f"sum = sum > {high} ? {high} : sum;",
        f"*to++ = ({ctype})sum;",
    ]
    loops = nested(outer, "\n".join(body), ("p",))
    return Code(f"{ctype} *to = {{y0}};\n{loops}", (RESCALE,))


def mean_loops(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[list[Axis], list[Axis]]:
    """Return the loops over what stays, and over what is summed."""
    apart = contiguous(shape)
    outer = [Axis(shape[a], (apart[a],)) for a in range(len(shape)) if a not in axes]
    inner = [Axis(shape[a], (apart[a],)) for a in axes]
    return merged(outer), merged(inner)
