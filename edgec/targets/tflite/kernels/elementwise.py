"""Functions of each element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir import DType, Node, Op
from edgec.ops import (
    Abs,
    Activation,
    Add,
    BatchNorm,
    Binary,
    Ceil,
    Clip,
    Cos,
    Div,
    Exp,
    Floor,
    HardSwish,
    LeakyRelu,
    Log,
    Max,
    Min,
    Mul,
    Neg,
    PRelu,
    Reciprocal,
    Relu,
    Sigmoid,
    Sin,
    Sqrt,
    Sub,
    Tanh,
)
from edgec.targets.tflite.kernels.kernel import (
    FUSED,
    Constraint,
    Kernel,
    constant_parameters,
    elementwise,
    is_int8,
)
from edgec.targets.tflite.kernels.shape import unchanged
from edgec.targets.tflite.lower import Lowering, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _binary(b: Lowering, node: Node, op: Binary) -> None:
    integer = is_int8(b, node)
    rank = node.output.type.rank
    perm = b.common_perm(node, rank, integer=integer)
    operands = [b.broadcastable(v, rank, perm, integer=integer) for v in node.inputs]
    target = b.put(node, perm)
    code = type(op).__name__
    fused = FUSED[op.activation]
    version = 2 if integer else 1
    b.operator(code.upper(), operands, [target], code, version, fusedActivationFunction=fused)


def _clip(b: Lowering, node: Node, op: Clip | Relu) -> None:
    bounds = (0.0, np.inf) if isinstance(op, Relu) else (op.low, op.high)
    known = Activation.of_bounds(*bounds)
    if known is Activation.NONE:
        unchanged(b, node)
        return
    if known is not None:
        # RELU and RELU6 have int8 kernels since version 2; RELU_N1_TO_1 always had.
        version = 1 if known is Activation.RELU_N1_TO_1 else 2
        elementwise(known.name, "", version)(b, node, op)
        return
    x = node.inputs[0]
    source, perm = b.get(x), b.perm_of(x) or identity(x.type.rank)
    dtype = node.output.type.dtype.numpy
    steps = [("MAXIMUM", op.low), ("MINIMUM", op.high)] if isinstance(op, Clip) else []
    steps = [(code, bound) for code, bound in steps if np.isfinite(bound)]
    for position, (code, bound) in enumerate(steps):
        last = position == len(steps) - 1
        info = b.info(source)
        out = b.put(node, perm) if last else b.tensor(f"{b.layer}/low", info.dtype, info.shape)
        limit = b.constant(f"{b.layer}/bound", np.array(bound, dtype))
        b.operator(code, [source, limit], [out], "MaximumMinimum")
        source = out


def _batch_norm(b: Lowering, node: Node, op: BatchNorm) -> None:
    arrays = [b.graph.constant(v) for v in node.inputs[1:]]
    gamma, beta, mean, var = (a.astype(np.float64) for a in arrays if a is not None)
    k = gamma / np.sqrt(var + op.epsilon)
    x = node.inputs[0]
    source, perm = b.get(x), b.perm_of(x) or identity(x.type.rank)
    along = [1] * x.type.rank
    along[perm.index(1)] = -1
    middle = b.tensor(f"{b.layer}/scaled", DType.FLOAT32, b.info(source).shape)
    factor = b.constant(f"{b.layer}/scale", k.astype(np.float32).reshape(along))
    offset = (beta - k * mean).astype(np.float32).reshape(along)
    b.operator("MUL", [source, factor], [middle], "Mul", fusedActivationFunction=0)
    shift = b.constant(f"{b.layer}/offset", offset)
    b.operator("ADD", [middle, shift], [b.put(node, perm)], "Add", fusedActivationFunction=0)


def _reciprocal(b: Lowering, node: Node, op: Reciprocal) -> None:
    x = node.inputs[0]
    source, perm = b.get(x), b.perm_of(x) or identity(x.type.rank)
    one = b.constant(f"{b.layer}/one", np.array(1, np.float32))
    b.operator("DIV", [one, source], [b.put(node, perm)], "Div", fusedActivationFunction=0)


def _extreme(code: str) -> Callable[[Lowering, Node, Op], None]:
    def run(b: Lowering, node: Node, op: Op) -> None:
        rank = node.output.type.rank
        perm = b.common_perm(node, rank, integer=False)
        operands = [b.broadcastable(v, rank, perm, integer=False) for v in node.inputs]
        b.operator(code, operands, [b.put(node, perm)], "MaximumMinimum")

    return run


def _prelu(b: Lowering, node: Node, op: PRelu) -> None:
    x, slope = node.inputs
    rank = x.type.rank
    source, perm = b.get(x), b.perm_of(x) or identity(rank)
    alpha = b.broadcastable(slope, rank, perm, integer=False)
    if rank == 4 and b.info(alpha).shape[:1] == (1,):
        # The kernel's own form: without the batch. XNNPACK takes no other.
        data = b.info(alpha).data
        if data is not None:
            alpha = b.constant(f"{b.layer}/alpha", data[0])
    b.operator("PRELU", [source, alpha], [b.put(node, perm)])


LOWERINGS = {
    Abs: Kernel(elementwise("ABS", "Abs")),
    Add: Kernel(_binary),
    BatchNorm: Kernel(_batch_norm),
    Ceil: Kernel(elementwise("CEIL")),
    Clip: Kernel(_clip),
    Cos: Kernel(elementwise("COS", "Cos")),
    Div: Kernel(_binary),
    Exp: Kernel(elementwise("EXP", "Exp")),
    Floor: Kernel(elementwise("FLOOR")),
    HardSwish: Kernel(elementwise("HARD_SWISH", "HardSwish", 1)),
    LeakyRelu: Kernel(elementwise("LEAKY_RELU", "LeakyRelu")),
    Log: Kernel(elementwise("LOG")),
    Max: Kernel(_extreme("MAXIMUM")),
    Min: Kernel(_extreme("MINIMUM")),
    Mul: Kernel(_binary),
    Neg: Kernel(elementwise("NEG", "Neg")),
    PRelu: Kernel(_prelu),
    Reciprocal: Kernel(_reciprocal),
    Relu: Kernel(_clip),
    Sigmoid: Kernel(elementwise("LOGISTIC")),
    Sin: Kernel(elementwise("SIN")),
    Sqrt: Kernel(elementwise("SQRT")),
    Sub: Kernel(_binary),
    Tanh: Kernel(elementwise("TANH")),
}

CONSTRAINTS = (Constraint((BatchNorm,), constant_parameters, "store the weights in the model"),)
