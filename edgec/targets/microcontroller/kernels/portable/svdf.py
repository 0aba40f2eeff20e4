"""Filters of low rank over time (SVDF), in portable C."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Svdf
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.portable.layouts import all_are, bias_of, constant
from edgec.targets.microcontroller.kernels.requantization import Multiplier
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["svdf"]

_TYPE = """\
/* Sizes of a layer of filters of low rank, and what its two sums are put on. */
typedef struct {
    int32_t batches, inputs, filters, memory, rank;
    int32_t multiplier_1, shift_1, zero_state;
    int32_t multiplier_2, shift_2, zero_y;
} $svdf_sizes;
"""

_BODY = """\
{{
    /* Constants of a filter over the inputs: what the zero point of the input takes away.
       The state holds, filter by filter, what the last steps gave; the oldest falls out. */
    const int32_t units = s->filters / s->rank;
    const int32_t size = s->batches * s->filters * s->memory;
    for (int32_t i = 1; i < size; i++) {{
        state[i - 1] = state[i];
    }}
    for (int32_t n = 0; n < s->batches; n++) {{
        {ctype} *of_batch = state + n * s->filters * s->memory;
        const int8_t *weights = features;
        const {ctype} *t = times;
        for (int32_t f = 0; f < s->filters; f++) {{
            int32_t sum = constants[f];
            for (int32_t k = 0; k < s->inputs; k++) {{
                sum += (int32_t)x[k] * *weights++;
            }}
            sum = $rescale(sum, s->multiplier_1, s->shift_1);
            sum = sum < {low} ? {low} : sum;
            sum = sum > {high} ? {high} : sum;
            of_batch[(f + 1) * s->memory - 1] = ({ctype})(sum + s->zero_state);
        }}
        for (int32_t u = 0; u < units; u++) {{
            int32_t sum = constants[s->filters + u];
            for (int32_t k = s->rank * s->memory; k > 0; k--) {{
                sum += *t++ * (*of_batch++ - s->zero_state);
            }}
            sum = $rescale(sum, s->multiplier_2, s->shift_2) + s->zero_y;
            sum = sum < -128 ? -128 : sum;
            sum = sum > 127 ? 127 : sum;
            *y++ = (int8_t)sum;
        }}
        x += s->inputs;
    }}
}}
"""


def svdf(layer: Layer, core: Core) -> Code | None:
    """Features of the inputs, remembered, and weighed over time.

    The activation is left out, as TFLite Micro leaves it out for integers.

    References
    ----------
    tensorflow/lite/micro/kernels/svdf_common.cc, EvalIntegerSvdfReference.
    """
    op = layer.op
    if not isinstance(op, Svdf):
        return None
    x, features, times, state = (layer.input(k) for k in (0, 1, 2, 4))
    y = layer.output
    if not all_are(DType.INT8, x, features, y) or times.dtype is not state.dtype:
        return None
    if times.dtype not in (DType.INT8, DType.INT16):
        return None
    ctype = "int8_t" if times.dtype is DType.INT8 else "int16_t"
    low, high = times.dtype.limits
    name = f"$svdf_{ctype.removesuffix('_t')}"
    function = Function(
        name,
        f"void {name}(const int8_t *x, int8_t *y, const int8_t *features,\n"
        f"    const {ctype} *times, const int32_t *constants, {ctype} *state,\n"
        "    const $svdf_sizes *s)",
        _BODY.format(ctype=ctype, low=low, high=high),
        needs=(RESCALE,),
        types=(_TYPE,),
    )
    weights = constant(layer, 1)
    filters, memory = times.shape
    first = np.float32(x.scale) * np.float32(features.scale) / np.float32(state.scale)
    second = np.float32(state.scale) * np.float32(times.scale) / np.float32(y.scale)
    to_state, to_result = Multiplier.of(float(first)), Multiplier.of(float(second))
    fields = [
        f"{x.shape[0]}, {x.shape[1]}, {filters}, {memory}, {op.rank}",
        f"{to_state.value}, {to_state.shift}, {state.zero_point}",
        f"{to_result.value}, {to_result.shift}, {y.zero_point}",
    ]
    bias = bias_of(layer, 3)
    units = filters // op.rank
    offsets = -x.zero_point * weights.astype(np.int64).sum(1)
    ends = np.zeros(units, np.int64) if bias is None else bias.astype(np.int64)
    constants = np.concatenate([offsets, ends]).astype(np.int32)
    time_weights = np.ascontiguousarray(constant(layer, 2)).reshape(-1)
    return Code(
        f"static const $svdf_sizes sizes = {{{{{',  '.join(fields)}}}}};\n"
        f"{name}({{x0}}, {{y0}}, {{features}}, {{times}}, {{constants}}, {{x4}}, &sizes);",
        (function,),
        {
            "features": Table(
                np.ascontiguousarray(weights).reshape(-1), {"weights": weights.size}
            ),
            "times": Table(time_weights, {"weights": time_weights.nbytes}),
            "constants": Table(constants, {"biases": constants.nbytes}),
        },
        macs=x.shape[0] * filters * (x.shape[1] + memory),
    )
