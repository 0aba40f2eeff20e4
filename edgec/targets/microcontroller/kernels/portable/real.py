"""Layers of real numbers in portable C: for models that were not quantized."""

from __future__ import annotations

import math

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import (
    Add,
    AveragePool,
    BatchMatMul,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool,
    Mean,
    Mul,
    Relu,
    Relu6,
    Softmax,
    Sub,
    Tanh,
)
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.portable.broadcasting import (
    broadcast_call,
    broadcast_slack,
)
from edgec.targets.microcontroller.kernels.portable.layouts import (
    WINDOW_TYPE,
    over_batches,
    window_fields,
)
from edgec.targets.microcontroller.kernels.portable.matmul import matmul_axes
from edgec.targets.microcontroller.kernels.portable.reduce import mean_loops
from edgec.targets.microcontroller.kernels.portable.strides import nested
from edgec.targets.microcontroller.kernels.rounding import float_limits, float_literal
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = [
    "real_binary",
    "real_function",
    "real_matmul",
    "real_mean",
    "real_pool",
    "real_softmax",
]

_EXP = Function(
    "$exp",
    "float $exp(float x)",
    """\
{
    /* 2^n times a series for what is left, which is at most half the logarithm of 2. */
    union {
        uint32_t bits;
        float value;
    } power;
    float n, r, sum;
    if (!(x > -87.0f)) {
        return x < -87.0f ? 0.0f : x;
    }
    x = x > 88.0f ? 88.0f : x;
    n = x * 1.44269504f;
    n = (float)(int32_t)(n < 0.0f ? n - 0.5f : n + 0.5f);
    r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    sum = 1.98756915e-4f;
    sum = sum * r + 1.39819994e-3f;
    sum = sum * r + 8.33345187e-3f;
    sum = sum * r + 4.16657962e-2f;
    sum = sum * r + 1.66666655e-1f;
    sum = sum * r + 5.00000000e-1f;
    sum = sum * r * r + r + 1.0f;
    power.bits = (uint32_t)((int32_t)n + 127) << 23;
    return sum * power.value;
}
""",
)

_LOGISTIC = Function(
    "$logistic",
    "float $logistic(float x)",
    """\
{
    return x < 0.0f ? 1.0f - 1.0f / (1.0f + $exp(x)) : 1.0f / (1.0f + $exp(-x));
}
""",
    needs=(_EXP,),
)

_TANH = Function(
    "$tanh",
    "float $tanh(float x)",
    """\
{
    const float size = x < 0.0f ? -x : x;
    float result;
    if (size < 0.25f) {
        /* Near zero the quotient would lose its digits. */
        const float s = x * x;
        return x + x * s * (-0.333333343f + s * (0.133333340f + s * (-0.0539682545f +
               s * (0.0218694881f + s * -0.00886323552f))));
    }
    result = 1.0f - 2.0f / ($exp(2.0f * size) + 1.0f);
    return x < 0.0f ? -result : result;
}
""",
    needs=(_EXP,),
)


def _is_real(layer: Layer) -> bool:
    x, y = layer.input(0), layer.output
    return x.dtype is DType.FLOAT32 and y.dtype is DType.FLOAT32


def real_function(layer: Layer, core: Core) -> Code | None:
    """Functions of single numbers."""
    op = layer.op
    if not _is_real(layer):
        return None
    needs: tuple[Function, ...] = ()
    if isinstance(op, Relu):
        name, formula = "relu", "v < 0.0f ? 0.0f : v"
    elif isinstance(op, Relu6):
        name, formula = "relu6", "v < 0.0f ? 0.0f : v > 6.0f ? 6.0f : v"
    elif isinstance(op, LeakyRelu):
        name, formula = "leaky_relu", "v > 0.0f ? v : v * alpha"
    elif isinstance(op, HardSwish):
        name = "hard_swish"
        formula = "v * (v < -3.0f ? 0.0f : v > 3.0f ? 6.0f : v + 3.0f) / 6.0f"
    elif isinstance(op, Logistic):
        name, formula, needs = "logistic", "$logistic(v)", (_LOGISTIC,)
    elif isinstance(op, Tanh):
        name, formula, needs = "tanh", "$tanh(v)", (_TANH,)
    else:
        return None
    leaky = isinstance(op, LeakyRelu)
    function = Function(
        f"${name}_of_floats",
        f"void ${name}_of_floats(const float *x, float *y, int32_t count"
        f"{', float alpha' if leaky else ''})",
        f"""\
{{
    for (int32_t i = 0; i < count; i++) {{
        const float v = x[i];
        y[i] = {formula};
    }}
}}
""",
        needs=needs,
    )
    more = f", {float_literal(op.alpha)}" if isinstance(op, LeakyRelu) else ""
    call = f"{function.name}({{x0}}, {{y0}}, {layer.output.size}{more});"
    return Code(call, (function,), slack={0: 0})


def real_binary(layer: Layer, core: Core) -> Code | None:
    """Sums, differences and products."""
    op = layer.op
    if not isinstance(op, (Add, Sub, Mul)) or not _is_real(layer):
        return None
    word, sign = {Add: ("add", "+"), Sub: ("sub", "-"), Mul: ("mul", "*")}[type(op)]
    name = f"${word}_float"
    function = Function(
        name,
        f"void {name}(const float *a, int32_t step_a, const float *b, int32_t step_b,\n"
        "    float *y, int32_t count, float least, float most)",
        f"""\
{{
    for (int32_t i = 0; i < count; i++) {{
        float value = *a {sign} *b;
        value = value < least ? least : value;
        value = value > most ? most : value;
        *y++ = value;
        a += step_a;
        b += step_b;
    }}
}}
""",
    )
    limits = ", ".join(float_limits(op.activation))
    call = f"{name}({{a}}, {{step_a}}, {{b}}, {{step_b}}, {{y}}, {{count}}, {limits});"
    return Code(broadcast_call(layer, call), (function,), slack=broadcast_slack(layer))


def real_pool(layer: Layer, core: Core) -> Code | None:
    """The mean or the largest number under a window."""
    op = layer.op
    if not isinstance(op, (AveragePool, MaxPool)) or not _is_real(layer):
        return None
    x, y = layer.input(0), layer.output
    if isinstance(op, AveragePool):
        name, start = "$average_pool_float", "0.0f"
        step, after = (
            "value += *p;",
            "                value /= (float)((y1 - y0) * (x1 - x0));\n",
        )
    else:
        name, start = "$max_pool_float", "-3.402823466e+38f"
        step, after = "value = *p > value ? *p : value;", ""
    function = Function(
        name,
        f"void {name}(const float *x, float *y, float least, float most, const $window *w)",
        f"""\
{{
    for (int32_t row = 0; row < w->rows; row++) {{
        const int32_t top = row * w->stride_y - w->pad_top;
        const int32_t y0 = top < 0 ? -top : 0;
        const int32_t y1 = top + w->kernel_y > w->height ? w->height - top : w->kernel_y;
        for (int32_t place = 0; place < w->columns; place++) {{
            const int32_t left = place * w->stride_x - w->pad_left;
            const int32_t x0 = left < 0 ? -left : 0;
            const int32_t x1 = left + w->kernel_x > w->width ? w->width - left : w->kernel_x;
            for (int32_t c = 0; c < w->channels; c++) {{
                float value = {start};
                for (int32_t ky = y0; ky < y1; ky++) {{
                    const float *p = x + ((top + ky) * w->width + left + x0) * w->channels + c;
                    for (int32_t kx = x0; kx < x1; kx++) {{
                        {step}
                        p += w->channels;
                    }}
                }}
{after}                value = value < least ? least : value;
                value = value > most ? most : value;
                *y++ = value;
            }}
        }}
    }}
}}
""",
        types=(WINDOW_TYPE,),
    )
    limits = ", ".join(float_limits(op.activation))
    call = over_batches(layer, f"{name}({{x0}}{{x}}, {{y0}}{{y}}, {limits}, &window);")
    return Code(
        f"static const $window window = {window_fields(op, x, y, op.window)};\n{call}",
        (function,),
        slack={0: window_slack(x.shape, y.shape, op.strides, op.pads, 4)},
    )


def real_mean(layer: Layer, core: Core) -> Code | None:
    """The mean along axes."""
    op = layer.op
    if not isinstance(op, Mean) or not _is_real(layer):
        return None
    x = layer.input(0)
    outer, inner = mean_loops(x.shape, op.axes)
    body = [
        "const float *from = {x0}{p};",
        "float sum = 0.0f;",
        *nested(inner, "sum += *(from{f});", ("f",), "k").splitlines(),
        f"*to++ = sum / {math.prod(x.shape[a] for a in op.axes)}.0f;",
    ]
    loops = nested(outer, "\n".join(body), ("p",))
    return Code(f"float *to = {{y0}};\n{loops}")


_SOFTMAX = Function(
    "$softmax_float",
    "void $softmax_float(const float *x, float *y, int32_t rows, int32_t depth, float beta)",
    """\
{
    while (rows-- > 0) {
        float largest = x[0];
        float sum = 0.0f;
        for (int32_t i = 1; i < depth; i++) {
            largest = x[i] > largest ? x[i] : largest;
        }
        for (int32_t i = 0; i < depth; i++) {
            const float value = $exp((x[i] - largest) * beta);
            y[i] = value;
            sum += value;
        }
        for (int32_t i = 0; i < depth; i++) {
            y[i] /= sum;
        }
        x += depth;
        y += depth;
    }
}
""",
    needs=(_EXP,),
)


def real_softmax(layer: Layer, core: Core) -> Code | None:
    """Shares of exponentials."""
    op = layer.op
    if not isinstance(op, Softmax) or not _is_real(layer):
        return None
    x = layer.input(0)
    depth = x.shape[-1]
    call = (
        f"$softmax_float({{x0}}, {{y0}}, {x.size // depth}, {depth}, {float_literal(op.beta)});"
    )
    return Code(call, (_SOFTMAX,), slack={0: 0})


_PRODUCT = Function(
    "$matrix_product_float",
    "void $matrix_product_float(const float *a, const float *b, float *y, int32_t rows,\n"
    "    int32_t columns, int32_t depth, int32_t row_a, int32_t step_a, int32_t column_b,\n"
    "    int32_t step_b)",
    """\
{
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t j = 0; j < columns; j++) {
            const float *p = a + i * row_a;
            const float *q = b + j * column_b;
            float sum = 0.0f;
            for (int32_t k = 0; k < depth; k++) {
                sum += *p * *q;
                p += step_a;
                q += step_b;
            }
            *y++ = sum;
        }
    }
}
""",
)


def real_matmul(layer: Layer, core: Core) -> Code | None:
    """Products of matrices."""
    if not isinstance(layer.op, BatchMatMul) or not _is_real(layer):
        return None
    axes, sizes = matmul_axes(layer)
    arguments = ", ".join(map(str, sizes))
    call = f"$matrix_product_float({{x0}}{{a}}, {{x1}}{{b}}, {{y0}}{{y}}, {arguments});"
    return Code(
        nested(axes, call, ("a", "b", "y")), (_PRODUCT,), macs=layer.output.size * sizes[2]
    )
