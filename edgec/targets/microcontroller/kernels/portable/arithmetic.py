"""Sums, differences and products of integers in portable C."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import Array, DType
from edgec.program import Layer
from edgec.program.operators import Add, Mul, Sub
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.portable.broadcasting import (
    broadcast_call,
    broadcast_slack,
)
from edgec.targets.microcontroller.kernels.requantization import Multiplier, output_range
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["Line", "add", "integers", "line_of", "mul", "sub"]

_TERMS = """\
/* What two numbers are put on before they are added, and what their sum is put on. */
typedef struct {
    int32_t left_shift;
    int32_t zero_a, multiplier_a, shift_a;
    int32_t zero_b, multiplier_b, shift_b;
    int32_t zero_y, multiplier_y, shift_y;
    int32_t least, most;
} $terms;
"""

_FACTORS = """\
/* What two numbers are on, and what their product is put on. */
typedef struct {
    int32_t zero_a, zero_b;
    int32_t zero_y, multiplier_y, shift_y;
    int32_t least, most;
} $factors;
"""

_C_TYPES = {DType.INT8: "int8_t", DType.INT16: "int16_t"}


def _sum(ctype: str, sign: str) -> Function:
    name = f"${'add' if sign == '+' else 'sub'}_{ctype.removesuffix('_t')}"
    return Function(
        name,
        f"void {name}(const {ctype} *a, int32_t step_a, const {ctype} *b, int32_t step_b,\n"
        f"    {ctype} *y, int32_t count, const $terms *t)",
        f"""\
{{
    const int32_t one = (int32_t)1 << t->left_shift;
    for (int32_t i = 0; i < count; i++) {{
        const int32_t left = $rescale((*a - t->zero_a) * one, t->multiplier_a, t->shift_a);
        const int32_t right = $rescale((*b - t->zero_b) * one, t->multiplier_b, t->shift_b);
        int32_t value = $rescale(left {sign} right, t->multiplier_y, t->shift_y) + t->zero_y;
        value = value < t->least ? t->least : value;
        value = value > t->most ? t->most : value;
        *y++ = ({ctype})value;
        a += step_a;
        b += step_b;
    }}
}}
""",
        needs=(RESCALE,),
        types=(_TERMS,),
    )


def _product(ctype: str) -> Function:
    name = f"$mul_{ctype.removesuffix('_t')}"
    return Function(
        name,
        f"void {name}(const {ctype} *a, int32_t step_a, const {ctype} *b, int32_t step_b,\n"
        f"    {ctype} *y, int32_t count, const $factors *f)",
        f"""\
{{
    for (int32_t i = 0; i < count; i++) {{
        const int32_t product = (*a - f->zero_a) * (*b - f->zero_b);
        int32_t value = $rescale(product, f->multiplier_y, f->shift_y) + f->zero_y;
        value = value < f->least ? f->least : value;
        value = value > f->most ? f->most : value;
        *y++ = ({ctype})value;
        a += step_a;
        b += step_b;
    }}
}}
""",
        needs=(RESCALE,),
        types=(_FACTORS,),
    )


def add(layer: Layer, core: Core) -> Code | None:
    """The sum of integers."""
    op = layer.op
    if not isinstance(op, Add):
        return None
    a, b, y = layer.input(0), layer.input(1), layer.output
    if y.dtype not in _C_TYPES or not a.dtype is b.dtype is y.dtype:
        return None
    scales = _add_scales(layer, 20 if y.dtype is DType.INT8 else 15)
    return _terms(layer, "+", *scales, output_range(op.activation, y))


def _add_scales(layer: Layer, left_shift: int) -> tuple[int, tuple[float, float, float]]:
    """Return how far operands are shifted, and the three factors of a sum."""
    a, b, y = layer.input(0), layer.input(1), layer.output
    twice = 2 * max(a.scale, b.scale)
    one = 1 << left_shift
    return left_shift, (a.scale / twice, b.scale / twice, twice / (one * y.scale))


def _wanted(
    layer: Layer,
    sign: str,
    left_shift: int,
    reals: tuple[float, float, float],
    limits: tuple[int, int],
) -> Array:
    """Return the results for all pairs of operands, ``[first, second]`` from -128 on."""
    factors = [Multiplier.of(real) for real in reals]
    first, second = (
        factor.times((_BYTES - t.zero_point) << left_shift)
        for factor, t in zip(factors, (layer.input(0), layer.input(1)), strict=False)
    )
    second = second if sign == "+" else -second
    wanted = factors[2].times(first[:, None] + second) + layer.output.zero_point
    return np.clip(wanted, *limits)


def sub(layer: Layer, core: Core) -> Code | None:
    """The difference of integers; its scales are divided as float32.

    References
    ----------
    tensorflow/lite/micro/kernels/sub_common.cc, CalculateOpDataSub.
    """
    op = layer.op
    if not isinstance(op, Sub):
        return None
    a, b, y = layer.input(0), layer.input(1), layer.output
    if y.dtype not in _C_TYPES or not a.dtype is b.dtype is y.dtype:
        return None
    left_shift = 20 if y.dtype is DType.INT8 else 15
    scale_a, scale_b, scale_y = (np.float32(t.scale) for t in (a, b, y))
    twice = np.float32(2) * max(scale_a, scale_b)
    reals = (
        float(scale_a / twice),
        float(scale_b / twice),
        float(twice / (np.float32(1 << left_shift) * scale_y)),
    )
    return _terms(layer, "-", left_shift, reals, output_range(op.activation, y))


def _terms(
    layer: Layer,
    sign: str,
    left_shift: int,
    reals: tuple[float, float, float],
    limits: tuple[int, int],
) -> Code | None:
    a, b, y = layer.input(0), layer.input(1), layer.output
    factors = [Multiplier.of(real) for real in reals]
    if y.dtype is DType.INT8:
        line = _line(layer, sign, _wanted(layer, sign, left_shift, reals, limits), limits)
        if line is not None:
            return _line_code(layer, line)
    fields = [str(left_shift)]
    for tensor, factor in zip((a, b, y), factors, strict=True):
        fields.append(f"{tensor.zero_point}, {factor.value}, {factor.shift}")
    fields.append(f"{limits[0]}, {limits[1]}")
    function = _sum(_C_TYPES[y.dtype], sign)
    call = f"{function.name}({{a}}, {{step_a}}, {{b}}, {{step_b}}, {{y}}, {{count}}, &terms);"
    return Code(
        f"static const $terms terms = {{{{{',  '.join(fields)}}}}};\n"
        + broadcast_call(layer, call),
        (function,),
        slack=broadcast_slack(layer),
    )


# ---- with one rounding

_BYTES = np.arange(-128, 128, dtype=np.int64)
_TRIES = 120

_LINE_TYPE = """\
/* A sum with one rounding: of factors, what is added, and a shift. */
typedef struct {
    int32_t factor_a, factor_b;
    int32_t start, shift;
    int32_t least, most;
} $line;
"""

_LINE = Function(
    "$add_once",
    "void $add_once(const int8_t *a, int32_t step_a, const int8_t *b, int32_t step_b,\n"
    "    int8_t *y, int32_t count, const $line *line)",
    """\
{
    /* The constants were searched; all pairs of operands give what three roundings give. */
    const int32_t factor_a = line->factor_a;
    const int32_t factor_b = line->factor_b;
    const int32_t start = line->start;
    const int32_t shift = line->shift;
    const int32_t least = line->least;
    const int32_t most = line->most;
    for (int32_t i = 0; i < count; i++) {
        int32_t value = (start + factor_a * *a + factor_b * *b) >> shift;
        value = value < least ? least : value;
        value = value > most ? most : value;
        *y++ = (int8_t)value;
        a += step_a;
        b += step_b;
    }
}
""",
    types=(_LINE_TYPE,),
)


@dataclass(frozen=True, slots=True)
class Line:
    """``(start + factors[0] * a + factors[1] * b) >> shift``, brought into limits."""

    factors: tuple[int, int]
    start: int
    shift: int
    limits: tuple[int, int]


def line_of(layer: Layer) -> Line | None:
    """Return one rounding that equals the three of a sum of int8; ``None`` if none is found.

    It is compared for all pairs of operands.
    """
    op, y = layer.op, layer.output
    if not isinstance(op, Add):
        return None
    wanted = _wanted(layer, "+", *_add_scales(layer, 20), output_range(op.activation, y))
    return _line(layer, "+", wanted, output_range(op.activation, y))


def _line(layer: Layer, sign: str, wanted: Array, limits: tuple[int, int]) -> Line | None:
    """Return a sum with one rounding, if constants are found that are exact.

    Parameters
    ----------
    wanted
        The result for all pairs of operands, ``[first, second]`` from -128 on.
    """
    a, b, y = layer.input(0), layer.input(1), layer.output
    shares = (a.scale / y.scale, (b.scale if sign == "+" else -b.scale) / y.scale)
    rng = np.random.default_rng(0)
    for shift in (22, 21, 20, 19):
        unit = 2.0**shift
        real = [share * unit for share in shares]
        start = (y.zero_point + 0.5) * unit
        start -= sum(f * t.zero_point for f, t in zip(real, (a, b), strict=True))
        if abs(start) + 129 * (abs(real[0]) + abs(real[1])) >= 2**31 - 2**12:
            continue
        for attempt in range(_TRIES):
            # Near what the scales say first, and then further and further away.
            reach = (attempt + 9) // 10
            moved = rng.integers(-reach, reach + 1, 3)
            first, second = (round(f) + int(m) for f, m in zip(real, moved, strict=False))
            begin = round(start) + int(moved[2]) * 8
            levels = begin + first * _BYTES[:, None] + second * _BYTES >> shift
            if np.array_equal(np.clip(levels, *limits), wanted):
                return Line((first, second), begin, shift, limits)
    return None


def _line_code(layer: Layer, line: Line) -> Code:
    first, second = line.factors
    low, high = line.limits
    fields = f"{first}, {second},  {line.start}, {line.shift},  {low}, {high}"
    call = "$add_once({a}, {step_a}, {b}, {step_b}, {y}, {count}, &line);"
    return Code(
        f"static const $line line = {{{{{fields}}}}};\n" + broadcast_call(layer, call),
        (_LINE,),
        slack=broadcast_slack(layer),
    )


def mul(layer: Layer, core: Core) -> Code | None:
    """The product of integers."""
    op = layer.op
    if not isinstance(op, Mul):
        return None
    a, b, y = layer.input(0), layer.input(1), layer.output
    if y.dtype not in _C_TYPES or not a.dtype is b.dtype is y.dtype:
        return None
    factor = Multiplier.of(a.scale * b.scale / y.scale)
    low, high = output_range(op.activation, y)
    fields = (
        f"{a.zero_point}, {b.zero_point},  "
        f"{y.zero_point}, {factor.value}, {factor.shift},  {low}, {high}"
    )
    function = _product(_C_TYPES[y.dtype])
    call = f"{function.name}({{a}}, {{step_a}}, {{b}}, {{step_b}}, {{y}}, {{count}}, &factors);"
    return Code(
        f"static const $factors factors = {{{{{fields}}}}};\n" + broadcast_call(layer, call),
        (function,),
        slack=broadcast_slack(layer),
        macs=y.size,
    )


def integers(layer: Layer, core: Core) -> Code | None:
    """Sums, differences and products of plain integers, which wrap around.

    Sums are not limited by an activation, as TFLite Micro leaves that out.
    """
    op = layer.op
    a, y = layer.input(0), layer.output
    if not isinstance(op, (Add, Sub, Mul)) or y.dtype is not DType.INT32:
        return None
    if a.dtype is not y.dtype or layer.input(1).dtype is not y.dtype:
        return None
    word, sign = {Add: ("add", "+"), Sub: ("sub", "-"), Mul: ("mul", "*")}[type(op)]
    name = f"${word}_int32"
    function = Function(
        name,
        f"void {name}(const int32_t *a, int32_t step_a, const int32_t *b, int32_t step_b,\n"
        "    int32_t *y, int32_t count, int32_t least, int32_t most)",
        f"""\
{{
    for (int32_t i = 0; i < count; i++) {{
        const int32_t value = (int32_t)((uint32_t)*a {sign} (uint32_t)*b);
        *y++ = value < least ? least : value > most ? most : value;
        a += step_a;
        b += step_b;
    }}
}}
""",
    )
    low, high = {
        "none": ("INT32_MIN", "INT32_MAX"),
        "relu": ("0", "INT32_MAX"),
        "relu6": ("0", "6"),
        "relu_n1_to_1": ("-1", "1"),
    }["none" if isinstance(op, Add) else op.activation]
    call = f"{name}({{a}}, {{step_a}}, {{b}}, {{step_b}}, {{y}}, {{count}}, {low}, {high});"
    return Code(broadcast_call(layer, call), (function,), slack=broadcast_slack(layer))
