"""Activations with a curve of their own, as formulas where TFLite has no builtin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.errors import InternalError
from edgec.ir import DType, Fixed, Graph, Node, Op, QuantParams
from edgec.ops import (
    Activation,
    Celu,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    Mish,
    Selu,
    Shrink,
    Softplus,
    Softsign,
    Swish,
    ThresholdedRelu,
)
from edgec.targets.tflite.grids import prescribed
from edgec.targets.tflite.kernels.formula import Formula
from edgec.targets.tflite.kernels.kernel import (
    FUSED,
    Constraint,
    Kernel,
    elementwise,
    is_integer,
)
from edgec.targets.tflite.lower import Lowering, Perm

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _curve(
    write: Callable[[Formula, Any], int],
    on_integers: Callable[[Lowering, Node, Any], None] | None = None,
) -> Kernel:
    """Return the lowering of a function of one value that `write` gives as a formula.

    Parameters
    ----------
    on_integers
        The lowering where operand and result are on grids, if there is one.
    """

    def run(b: Lowering, node: Node, op: Any) -> None:
        if on_integers is not None and is_integer(b, node):
            on_integers(b, node, op)
            return
        f = Formula.of(b, node)
        f.done(node, write(f, op))

    return Kernel(run)


def _exponential(f: Formula, x: int, alpha: float) -> int:
    """``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere."""
    y = f("ELU", x)
    return y if alpha == 1 else f("LEAKY_RELU", y, options="LeakyRelu", alpha=alpha)


def _celu(f: Formula, op: Celu) -> int:
    if op.alpha == 1:
        return f("ELU", f.x)
    return f.mul(f("ELU", f.mul(f.x, 1 / op.alpha)), op.alpha)


def _elu(f: Formula, op: Elu) -> int:
    return _exponential(f, f.x, op.alpha)


def _selu(f: Formula, op: Selu) -> int:
    return f.mul(_exponential(f, f.x, op.alpha), op.gamma)


def _gelu(f: Formula, op: Gelu) -> int:
    return f("GELU", f.x, options="Gelu", approximate=op.approximate == "tanh")


def _gelu_integer(b: Lowering, node: Node, op: Gelu) -> None:
    source, perm = _on_grid(b, node)
    approximate = op.approximate == "tanh"
    b.operator("GELU", [source], [b.put(node, perm)], "Gelu", 2, approximate=approximate)


def _hard_sigmoid(f: Formula, op: HardSigmoid) -> int:
    # Six times as large it is what an addition can carry: clipped to [0, 6].
    alpha, beta = np.float32(6 * op.alpha), 6 * op.beta
    steep = f.x if alpha == 1 else f.mul(f.x, float(alpha))
    return f.mul(f.add(steep, beta, FUSED[Activation.RELU6]), 1 / 6)


def _hard_sigmoid_integer(b: Lowering, node: Node, op: HardSigmoid) -> None:
    source, perm = _on_grid(b, node)
    _write_hard_sigmoid(b, source, op.alpha, op.beta, b.put(node, perm))


def _write_hard_sigmoid(
    b: Lowering, source: int, alpha: float, beta: float, target: int
) -> None:
    """``alpha * x`` has the integers of ``x``; the grid of the sum ends where it is cut off.

    One of 16 bits goes on below zero: there the sum is cut off by the kernel.
    """
    info = b.info(source)
    if info.quant is None:
        raise InternalError(f"{b.layer} has integer operands without a grid")
    steep = QuantParams(
        (float(np.float32(alpha * info.quant.scale[0])),), info.quant.zero_point
    )
    scaled = b.tensor(f"{b.layer}/scaled", info.dtype, info.shape, quant=steep)
    factor, offset = (_held(b, *p, info.dtype) for p in (("alpha", alpha), ("beta", beta)))
    b.operator("MUL", [source, factor], [scaled], "Mul", fusedActivationFunction=0)
    fields: dict[str, int] = {"fusedActivationFunction": 0}
    if info.dtype is DType.INT16:
        fields = {"fusedActivationFunction": FUSED[Activation.RELU], "potScaleInt16": False}
    b.operator("ADD", [scaled, offset], [target], "Add", **fields)


def _gated(
    write: Callable[[Lowering, int, int], None],
) -> Callable[[Lowering, Node, Op], None]:
    """Return the lowering of a product of ``x`` and what `write` makes of it, up to 1."""

    def run(b: Lowering, node: Node, op: Op) -> None:
        del op
        source, perm = _on_grid(b, node)
        info = b.info(source)
        grid = prescribed(Fixed(0.0, 1.0), info.dtype)
        gate = b.tensor(f"{b.layer}/gate", info.dtype, info.shape, quant=grid)
        write(b, source, gate)
        target = b.put(node, perm)
        b.operator("MUL", [source, gate], [target], "Mul", fusedActivationFunction=0)

    return run


def _hard_swish(b: Lowering, node: Node, op: HardSwish) -> None:
    if is_integer(b, node):
        # XNNPACK takes these three operators, and HARD_SWISH on floats only.
        _gated(lambda b, x, y: _write_hard_sigmoid(b, x, 1 / 6, 0.5, y))(b, node, op)
    else:
        elementwise("HARD_SWISH", "HardSwish")(b, node, op)


def _on_grid(b: Lowering, node: Node) -> tuple[int, Perm]:
    """Return the stored integers of a node's operand, and their order."""
    x = node.inputs[0]
    perm = b.order_of(x, integer=True)
    return b.get(x, integer=True), perm


def _held(b: Lowering, name: str, number: float, dtype: DType) -> int:
    """Return a constant on a grid that holds it, as a float32.

    A kernel of 16 bits wants terms whose steps are not much longer than those of the sum.
    """
    steps = dtype.limits[1] if dtype is DType.INT16 else 1
    grid = QuantParams((abs(float(np.float32(number / steps))) or 1.0,), (0,))
    integer = np.array(np.sign(number) * steps).astype(dtype.numpy)
    return b.constant(f"{b.layer}/{name}", integer, grid)


def _mish(f: Formula, op: Mish) -> int:
    # With w = exp(x), tanh(ln(1 + w)) is n / (n + 2) for n = w * (w + 2). Where x is 20, n is
    # too large for 2 to matter; beyond that it would overflow.
    w = f("EXP", f("MINIMUM", f.x, 20.0, options="MaximumMinimum"), options="Exp")
    n = f.mul(w, f.add(w, 2.0))
    return f.mul(f.x, f.div(n, f.add(n, 2.0)))


def _shrink(f: Formula, op: Shrink) -> int:
    below = f("LESS", f.x, -op.lambd, options="Less", dtype=DType.BOOL)
    above = f("GREATER", f.x, op.lambd, options="Greater", dtype=DType.BOOL)
    inner = f("SELECT_V2", above, f.sub(f.x, op.bias), 0.0, options="SelectV2")
    return f("SELECT_V2", below, f.add(f.x, op.bias), inner, options="SelectV2")


def _softplus(f: Formula, op: Softplus) -> int:
    # ln(1 + exp(x)) without overflow: max(x, 0) + ln(1 + exp(-|x|)), and that logarithm is
    # the one of sigmoid(|x|) with the other sign.
    magnitude = f("ABS", f.x, options="Abs")
    return f.sub(f("RELU", f.x), f("LOG", f("LOGISTIC", magnitude)))


def _softsign(f: Formula, op: Softsign) -> int:
    return f.div(f.x, f.add(f("ABS", f.x, options="Abs"), 1.0))


def _swish(f: Formula, op: Swish) -> int:
    inner = f.x if op.alpha == 1 else f.mul(f.x, op.alpha)
    return f.mul(f.x, f("LOGISTIC", inner))


def _thresholded(f: Formula, op: ThresholdedRelu) -> int:
    above = f("GREATER", f.x, op.alpha, options="Greater", dtype=DType.BOOL)
    return f("SELECT_V2", above, f.x, 0.0, options="SelectV2")


def _positive_alpha(graph: Graph, node: Node) -> str | None:
    """The alpha of a Celu is positive."""
    op = node.op
    return f"alpha is {op.alpha}" if isinstance(op, Celu) and op.alpha <= 0 else None


LOWERINGS = {
    Celu: _curve(_celu),
    Elu: _curve(_elu, elementwise("ELU", "", 1)),
    Gelu: _curve(_gelu, _gelu_integer),
    HardSigmoid: _curve(_hard_sigmoid, _hard_sigmoid_integer),
    HardSwish: Kernel(_hard_swish),
    Mish: _curve(_mish),
    Selu: _curve(_selu),
    Shrink: _curve(_shrink),
    Softplus: _curve(_softplus),
    Softsign: _curve(_softsign),
    Swish: _curve(_swish, _gated(lambda b, x, y: b.operator("LOGISTIC", [x], [y]))),
    ThresholdedRelu: _curve(_thresholded),
}

CONSTRAINTS = (Constraint((Celu,), _positive_alpha),)
