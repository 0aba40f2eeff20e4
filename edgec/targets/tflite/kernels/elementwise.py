"""Functions of each element."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, Node, Op, QuantParams
from edgec.ops import (
    Activation,
    Add,
    Binary,
    Ceil,
    Clip,
    Cos,
    Div,
    Exp,
    Floor,
    LeakyRelu,
    Log,
    Max,
    Mean,
    Min,
    Mul,
    PRelu,
    Reciprocal,
    Relu,
    Sigmoid,
    Sin,
    Sqrt,
    Sub,
    Sum,
    Tanh,
)
from edgec.targets.tflite.kernels.integers import long_division
from edgec.targets.tflite.kernels.kernel import (
    FUSED,
    NUMBERS,
    Constraint,
    Kernel,
    elementwise,
    is_integer,
    pointwise,
    taken,
)
from edgec.targets.tflite.kernels.shape import unchanged
from edgec.targets.tflite.lower import Lowering
from edgec.targets.tflite.model import is_wide

__all__ = ["CONSTRAINTS", "LOWERINGS"]

_ADDED = (DType.INT32, DType.INT64, DType.FLOAT32)


def _binary(code: str, options: str, *takes: DType) -> Kernel:
    plain = pointwise(code, options, takes, fusedActivationFunction=0)

    def run(b: Lowering, node: Node, op: Binary) -> None:
        if not node.output.type.dtype.is_float:
            plain(b, node, op)
            return
        integer = is_integer(b, node)
        rank = node.output.type.rank
        perm = b.common_perm(node, rank, integer=integer)
        operands = [b.broadcastable(v, rank, perm, integer=integer) for v in node.inputs]
        fields: dict[str, int] = {"fusedActivationFunction": FUSED[op.activation]}
        target = b.put(node, perm)
        if is_wide(b.info(target)) and code != "MUL":
            fields["potScaleInt16"] = False  # by default the kernel takes powers of two only
        b.operator(code, operands, [target], options, **fields)

    return Kernel(run, taken(*takes))


def _variadic(code: str, options: str, *takes: DType, **fields: int) -> Kernel:
    """Return the lowering of a function of any number of values, by pairs from the left."""

    def run(b: Lowering, node: Node, op: Op) -> None:
        out = node.output.type
        dtype, grid = b.output_grid(node)
        integer = grid is not None
        perm = b.common_perm(node, out.rank, integer=integer)
        parts = [b.broadcastable(v, out.rank, perm, integer=integer) for v in node.inputs]
        total, shape = parts[0], b.info(parts[0]).shape
        for position, part in enumerate(parts[1:], 2):
            shape = np.broadcast_shapes(shape, b.info(part).shape)
            last = position == len(parts) and not isinstance(op, Mean)
            name = f"{b.layer}/{code.lower()}"
            target = b.put(node, perm) if last else b.tensor(name, dtype, shape, quant=grid)
            b.operator(code, [total, part], [target], options, **fields)
            total = target
        if isinstance(op, Mean) and len(parts) > 1:
            share = b.constant(f"{b.layer}/share", np.array(1 / len(parts), np.float32))
            b.operator("MUL", [total, share], [b.put(node, perm)], "Mul", **fields)
        elif len(parts) == 1:
            unchanged(b, node)

    return Kernel(run, frozenset(takes))


def _clip(b: Lowering, node: Node, op: Clip | Relu) -> None:
    bounds = (0, np.inf) if isinstance(op, Relu) else (op.low, op.high)
    known = Activation.of_bounds(*bounds)
    if known is Activation.NONE:
        unchanged(b, node)
        return
    x = node.inputs[0]
    if _cut_off(b, node, bounds):
        return
    if known is not None and x.type.dtype.is_float:
        # RELU and RELU6 have int8 kernels since version 2; RELU_N1_TO_1 always had.
        version = 1 if known is Activation.RELU_N1_TO_1 else 2
        if known is Activation.RELU_N1_TO_1 and b.output_grid(node)[0] is DType.INT16:
            _fused_with_one(b, node, known)
            return
        elementwise(known.name, "", version)(b, node, op)
        return
    source, perm = b.get(x), b.order_of(x)
    dtype = node.output.type.dtype.numpy
    both = zip(("MAXIMUM", "MINIMUM"), bounds, strict=True)
    steps = [(code, bound) for code, bound in both if np.isfinite(bound)]
    for position, (code, bound) in enumerate(steps):
        last = position == len(steps) - 1
        info = b.info(source)
        out = b.put(node, perm) if last else b.tensor(f"{b.layer}/low", info.dtype, info.shape)
        limit = b.constant(f"{b.layer}/bound", np.array(bound, dtype))
        b.operator(code, [source, limit], [out], "MaximumMinimum")
        source = out


def _fused_with_one(b: Lowering, node: Node, activation: Activation) -> None:
    """Multiply by one: an activation that has no kernel of 16 bits can still be fused."""
    x = node.inputs[0]
    source, perm = b.get(x, integer=True), b.order_of(x, integer=True)
    one = b.constant(f"{b.layer}/one", np.array(1, np.int16), QuantParams((1.0,), (0,)))
    fused = FUSED[activation]
    target = b.put(node, perm)
    b.operator("MUL", [source, one], [target], "Mul", fusedActivationFunction=fused)


def _cut_off(b: Lowering, node: Node, bounds: tuple[float, float]) -> bool:
    """Requantize instead of comparing, where the grid of the result ends within the bounds.

    What is beyond is cut off by the grid. XNNPACK takes this; the integer kernels of RELU and
    RELU6 are LiteRT's own, and slower by far.
    """
    dtype, grid = b.output_grid(node)
    if grid is None:
        return False
    (scale,), (zero,), (lowest, highest) = grid.scale, grid.zero_point, dtype.limits
    ends = (lowest - zero) * scale, (highest - zero) * scale
    if ends[0] < bounds[0] - scale / 4 or ends[1] > bounds[1] + scale / 4:
        return False
    x = node.inputs[0]
    source = b.get(x, integer=True)
    perm = b.order_of(x, integer=True)
    b.operator("QUANTIZE", [source], [b.put(node, perm)], "Quantize")
    return True


def _reciprocal(b: Lowering, node: Node, op: Reciprocal) -> None:
    x = node.inputs[0]
    source, perm = b.get(x), b.order_of(x)
    one = b.constant(f"{b.layer}/one", np.array(1, np.float32))
    b.operator("DIV", [one, source], [b.put(node, perm)], "Div", fusedActivationFunction=0)


def _prelu(b: Lowering, node: Node, op: PRelu) -> None:
    x, slope = node.inputs
    rank = x.type.rank
    source, perm = b.get(x), b.order_of(x)
    alpha = b.broadcastable(slope, rank, perm, integer=False)
    if rank == 4 and b.info(alpha).shape[:1] == (1,):
        # The kernel's own form: without the batch. XNNPACK takes no other.
        data = b.info(alpha).data
        if data is not None:
            alpha = b.constant(f"{b.layer}/alpha", data[0])
    b.operator("PRELU", [source, alpha], [b.put(node, perm)])


_QUOTIENT = _binary("DIV", "Div", DType.INT32, DType.FLOAT32)


def _div(b: Lowering, node: Node, op: Div) -> None:
    long = node.output.type.dtype is DType.INT64
    (long_division if long else _QUOTIENT.lower)(b, node, op)


LOWERINGS = {
    Add: _binary("ADD", "Add", *_ADDED),
    Ceil: Kernel(elementwise("CEIL")),
    Clip: Kernel(_clip, NUMBERS),
    Cos: Kernel(elementwise("COS", "Cos")),
    Div: Kernel(_div, NUMBERS),
    Exp: Kernel(elementwise("EXP", "Exp")),
    Floor: Kernel(elementwise("FLOOR")),
    LeakyRelu: Kernel(elementwise("LEAKY_RELU", "LeakyRelu")),
    Log: Kernel(elementwise("LOG")),
    Max: _variadic("MAXIMUM", "MaximumMinimum", *NUMBERS),
    Mean: _variadic("ADD", "Add", DType.FLOAT32, fusedActivationFunction=0),
    Min: _variadic("MINIMUM", "MaximumMinimum", *NUMBERS),
    Mul: _binary("MUL", "Mul", *_ADDED),
    PRelu: Kernel(_prelu),
    Reciprocal: Kernel(_reciprocal),
    Relu: Kernel(_clip, NUMBERS),
    Sigmoid: Kernel(elementwise("LOGISTIC")),
    Sin: Kernel(elementwise("SIN")),
    Sqrt: Kernel(elementwise("SQRT")),
    Sub: _binary("SUB", "Sub", *_ADDED),
    Sum: _variadic("ADD", "Add", DType.FLOAT32, fusedActivationFunction=0),
    Tanh: Kernel(elementwise("TANH")),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
