"""Long short-term memory over a sequence, in portable C."""

from __future__ import annotations

import math

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import UnidirectionalLstm
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.fixed_point import sigmoid_table
from edgec.targets.microcontroller.kernels.portable.activations import (
    SIGMOID_INT16,
    TANH_INT16,
)
from edgec.targets.microcontroller.kernels.portable.layouts import constant
from edgec.targets.microcontroller.kernels.requantization import Multiplier
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["lstm"]

_GATE_SCALE = 2.0**-12
"""Of the sums that gates are functions of."""

_OUTPUT_SCALE = 2.0**-15
"""Of what gates give."""

_TYPE = """\
/* Sizes of a recurrent layer, and what its products are put on. */
typedef struct {
    int32_t inputs, units;
    int32_t multiplier_x[4], shift_x[4]; /* gates: forget, input, cell, output */
    int32_t multiplier_h[4], shift_h[4];
    int32_t multiplier_keep, shift_keep; /* forget gate times cell */
    int32_t multiplier_new, shift_new;   /* input gate times cell gate */
    int32_t multiplier_y, shift_y, zero_y;
    int32_t clip; /* of the cell; 0 for none */
    int32_t tanh_factor, tanh_shift;
} $lstm_sizes;
"""

_CLAMP = Function(
    "$clamp_16",
    "int16_t $clamp_16(int32_t value)",
    """\
{
    return (int16_t)(value < -32768 ? -32768 : value > 32767 ? 32767 : value);
}
""",
)

_STEP = Function(
    "$lstm_step",
    "void $lstm_step(const int8_t *x, int8_t *hidden, int16_t *cell, int8_t *y,\n"
    "    const int8_t *weights, const int32_t *constants, const uint16_t *table,\n"
    "    int16_t *gates, const $lstm_sizes *s)",
    """\
{
    /* One step of one sequence. Weights of a unit: those of the input, those of the state;
       gate by gate. Constants of a unit: two biases with the zero points in them. */
    int16_t *gate = gates;
    for (int32_t g = 0; g < 4; g++) {
        for (int32_t u = 0; u < s->units; u++) {
            int32_t from_x = constants[0];
            int32_t from_h = constants[1];
            for (int32_t k = 0; k < s->inputs; k++) {
                from_x += (int32_t)x[k] * *weights++;
            }
            for (int32_t k = 0; k < s->units; k++) {
                from_h += (int32_t)hidden[k] * *weights++;
            }
            from_x = $clamp_16($rescale(from_x, s->multiplier_x[g], s->shift_x[g]));
            from_h = $clamp_16($rescale(from_h, s->multiplier_h[g], s->shift_h[g]));
            gate[u] = $clamp_16(from_x + from_h);
            constants += 2;
        }
        if (g == 2) {
            $tanh_int16(gate, gate, s->units, 3, 0, table);
        } else {
            $logistic_int16(gate, gate, s->units, 3, 0, table);
        }
        gate += s->units;
    }
    const int16_t *forget = gates;
    const int16_t *input = gates + s->units;
    const int16_t *news = gates + 2 * s->units;
    const int16_t *output = gates + 3 * s->units;
    for (int32_t u = 0; u < s->units; u++) {
        const int32_t keep = $rescale(forget[u] * cell[u], s->multiplier_keep, s->shift_keep);
        const int32_t more = $rescale(input[u] * news[u], s->multiplier_new, s->shift_new);
        int32_t sum = $clamp_16($clamp_16(keep) + $clamp_16(more));
        if (s->clip > 0) {
            sum = sum > s->clip ? s->clip : sum < -s->clip ? -s->clip : sum;
        }
        cell[u] = (int16_t)sum;
    }
    /* The forget gate has served; the function of the cell takes its place. */
    $tanh_int16(cell, gates, s->units, s->tanh_factor, s->tanh_shift, table);
    for (int32_t u = 0; u < s->units; u++) {
        int32_t sum = $rescale(gates[u] * output[u], s->multiplier_y, s->shift_y) + s->zero_y;
        sum = sum < -128 ? -128 : sum;
        sum = sum > 127 ? 127 : sum;
        hidden[u] = (int8_t)sum;
        y[u] = (int8_t)sum;
    }
}
""",
    needs=(RESCALE, _CLAMP, SIGMOID_INT16, TANH_INT16),
    types=(_TYPE,),
)

# Operands of the gates in the order forget, input, cell, output.
_OF_INPUT = (2, 1, 3, 4)
_OF_STATE = (6, 5, 7, 8)
_BIASES = (13, 12, 14, 15)


def lstm(layer: Layer, core: Core) -> Code | None:
    """A plain LSTM of int8 with a cell of int16.

    References
    ----------
    tensorflow/lite/micro/kernels/lstm_eval.h and lstm_eval_common.cc.
    """
    op = layer.op
    if not isinstance(op, UnidirectionalLstm):
        return None
    x, hidden, cell = layer.input(0), layer.input(18), layer.input(19)
    if x.dtype is not DType.INT8 or cell.dtype is not DType.INT16:
        return None
    units, inputs = hidden.shape[1], x.shape[2]
    steps, batches = x.shape[:2] if op.time_major else (x.shape[1], x.shape[0])
    weights, constants = [], []
    for of_x, of_h, bias in zip(_OF_INPUT, _OF_STATE, _BIASES, strict=True):
        from_x, from_h = constant(layer, of_x), constant(layer, of_h)
        weights.append(np.concatenate([from_x, from_h], 1).reshape(-1))
        start = constant(layer, bias) - x.zero_point * from_x.astype(np.int64).sum(1)
        again = -hidden.zero_point * from_h.astype(np.int64).sum(1)
        constants.append(np.column_stack([start, again]).reshape(-1))
    packed = np.concatenate(weights)
    offsets = np.concatenate(constants).astype(np.int32)
    per_x, per_y = (batches * inputs, batches * units) if op.time_major else (inputs, units)
    next_x, next_y = (inputs, units) if op.time_major else (steps * inputs, steps * units)
    text = [
        f"static const $lstm_sizes sizes = {_sizes(layer)};",
        f"for (int32_t n = 0; n < {batches}; n++) {{{{",
        f"    for (int32_t t = 0; t < {steps}; t++) {{{{",
        f"        $lstm_step({{x0}} + n * {next_x} + t * {per_x}, {{x18}} + n * {units}, "
        f"{{x19}} + n * {units}, {{y0}} + n * {next_y} + t * {per_y}, {{weights}}, "
        "{constants}, {table}, (int16_t *)(void *){scratch}, &sizes);",
        "    }}",
        "}}",
    ]
    return Code(
        "\n".join(text),
        (_STEP,),
        {
            "weights": Table(packed, {"weights": packed.size}),
            "constants": Table(offsets, {"biases": offsets.nbytes}),
            "table": Table(sigmoid_table(), {"other": 512}),
        },
        scratch=8 * units,
        macs=batches * steps * packed.size,
    )


def _sizes(layer: Layer) -> str:
    op, x, hidden, cell = layer.op, layer.input(0), layer.input(18), layer.input(19)
    assert isinstance(op, UnidirectionalLstm)

    def factors(source_scale: float, operands: tuple[int, ...]) -> tuple[str, str]:
        found = []
        for k in operands:
            product = float(np.float32(source_scale) * np.float32(layer.input(k).scale))
            found.append(Multiplier.of(product / _GATE_SCALE))
        values = ", ".join(str(f.value) for f in found)
        return f"{{{{{values}}}}}", f"{{{{{', '.join(str(f.shift) for f in found)}}}}}"

    keep = Multiplier.of(_OUTPUT_SCALE * cell.scale / cell.scale)
    news = Multiplier.of(_OUTPUT_SCALE * _OUTPUT_SCALE / cell.scale)
    result = Multiplier.of(_OUTPUT_SCALE * _OUTPUT_SCALE / hidden.scale)
    clip = 0
    if op.cell_clip > 0:
        clip = int(min(max(op.cell_clip / cell.scale, -32768.0), 32767.0))
    power = math.floor(math.log2(cell.scale) + 0.5)
    left = 15 + power - 3
    tanh = f"{3 << left}, 0" if left >= 0 else f"3, {-left}"
    parts = [
        f"{x.shape[2]}, {hidden.shape[1]}",
        *factors(x.scale, _OF_INPUT),
        *factors(hidden.scale, _OF_STATE),
        f"{keep.value}, {keep.shift}",
        f"{news.value}, {news.shift}",
        f"{result.value}, {result.shift}, {hidden.zero_point}",
        str(clip),
        tanh,
    ]
    return f"{{{{{',  '.join(parts)}}}}}"
