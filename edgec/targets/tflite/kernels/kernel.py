"""What lowerings share: how they are declared, and the steps that several take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edgec.errors import InternalError
from edgec.ir import DType, Graph, Node, Op, QuantParams
from edgec.ops import Activation, LeakyRelu
from edgec.targets.tflite.grids import kept_constant
from edgec.targets.tflite.lower import Lowering, Perm
from edgec.targets.tflite.model import is_wide
from edgec.targets.tflite.rules import sums_fit

__all__ = [
    "ANY",
    "FLOAT",
    "FUSED",
    "NUMBERS",
    "SAME",
    "VALID",
    "Constraint",
    "Kernel",
    "bias_of",
    "cast",
    "computed",
    "computed_in",
    "constant_parameters",
    "elementwise",
    "exact_in",
    "is_integer",
    "pointwise",
    "scratch",
    "short_sums",
    "taken",
]

FLOAT = frozenset({DType.FLOAT32})
NUMBERS = FLOAT | {DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64}
ANY = NUMBERS | {DType.BOOL}

FUSED = {
    Activation.NONE: 0,
    Activation.RELU: 1,
    Activation.RELU_N1_TO_1: 2,
    Activation.RELU6: 3,
}
"""ActivationFunctionType of the schema."""

SAME, VALID = 0, 1  # enum Padding


class Constraint(NamedTuple):
    """A rule for some operators.

    Parameters
    ----------
    found
        Returns what was found instead, or ``None`` where the rule is kept. Its docstring is
        the rule.
    """

    ops: tuple[type[Op], ...]
    found: Callable[[Graph, Node], str | None]
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How an operator is lowered.

    Parameters
    ----------
    lower
        Adds the builtins of one node.
    dtypes
        Element types of the values that it takes and gives, where they are not quantized.
    axes
        How many axes they may have. XNNPACK takes 6, and refuses files with sums, means or
        softmax over more; no builtin takes more than 8.
    dynamic
        Whether results may have lengths that only the data tell.
    """

    lower: Callable[[Lowering, Node, Any], None]
    dtypes: frozenset[DType] = FLOAT
    axes: int = 6
    dynamic: bool = False


def exact_in(dtype: DType, takes: Sequence[DType]) -> DType | None:
    """Return the type out of `takes` in which to compute on elements of another.

    The type itself if it is there, else the first that holds all its numbers. What does not
    fit in the end wraps around when it is cast back, as it does in ONNX.
    """
    if dtype in takes:
        return dtype
    return next((t for t in takes if np.can_cast(dtype.numpy, t.numpy, "safe")), None)


def taken(*takes: DType) -> frozenset[DType]:
    """Return the types that a kernel handles if it computes in these."""
    return frozenset(d for d in ANY if exact_in(d, takes) is not None)


def cast(b: Lowering, tensor: int, dtype: DType) -> int:
    """Return a tensor with the same numbers as another type."""
    info = b.info(tensor)
    if info.dtype is dtype:
        return tensor
    name = f"{info.name}/{dtype.value}"
    if info.data is not None:
        return b.constant(name, info.data.astype(dtype.numpy))
    out = b.tensor(name, dtype, info.shape)
    b.operator("CAST", [tensor], [out], "Cast", inDataType=info.dtype, outDataType=dtype)
    return out


def computed(
    b: Lowering, node: Node, perm: Perm, dtype: DType, write: Callable[[int], None]
) -> None:
    """Let `write` fill a node's output with elements of type `dtype`; cast it if need be."""
    target = b.put(node, perm)
    info = b.info(target)
    if info.dtype is dtype:
        write(target)
        return
    wide = b.tensor(f"{info.name}/{dtype.value}", dtype, info.shape)
    write(wide)
    b.operator("CAST", [wide], [target], "Cast", inDataType=dtype, outDataType=info.dtype)


def scratch(b: Lowering, name: str, like: int, dtype: DType | None = None) -> int:
    """Return a new tensor in the shape of another, and of its type unless one is given."""
    info = b.info(like)
    return b.tensor(f"{b.layer}/{name}", dtype or info.dtype, info.shape)


def pointwise(
    code: str,
    options: str = "",
    takes: Sequence[DType] = (DType.FLOAT32,),
    gives: DType | None = None,
    **fields: Any,
) -> Callable[[Lowering, Node, Op], None]:
    """Return the lowering of a builtin that works on each element, with broadcasting.

    Parameters
    ----------
    takes
        The types that its kernel computes in; other operands are cast to one of them.
    gives
        The type of its result, where that is not the type of the operands.
    """

    def run(b: Lowering, node: Node, op: Op) -> None:
        del op
        rank = node.output.type.rank
        perm = b.common_perm(node, rank, integer=False)
        dtype = computed_in(node.inputs[-1].type.dtype, takes)
        operands = [
            cast(b, b.broadcastable(v, rank, perm, integer=False), dtype) for v in node.inputs
        ]
        computed(b, node, perm, gives or dtype, lambda target: b.operator(
            code, operands, [target], options, **fields))  # fmt: skip

    return run


def computed_in(dtype: DType, takes: Sequence[DType]) -> DType:
    """Return the type to compute in; that there is one, a kernel's `dtypes` say."""
    found = exact_in(dtype, takes)
    if found is None:
        raise InternalError(f"no kernel computes on {dtype.value}")
    return found


def bias_of(
    b: Lowering, node: Node, integer: bool, source: int, weight: int, *, short: bool = True
) -> int:
    """Return the bias tensor; kernels want one, so a missing one is zero.

    Beside int16 it has the type of the sums: int64, or int32 where those cannot overflow, which
    is several times as fast.

    Parameters
    ----------
    short
        Whether there is a kernel that adds up products of int16 in 32 bits.
    """
    wide = integer and b.info(source).dtype is DType.INT16
    if len(node.inputs) > 2:
        bias = b.get(node.inputs[2], integer=integer)
        data = b.info(bias).data
        if not wide or (short and data is not None and sums_fit(b.info(weight), data)):
            return bias
        return _widened(b, bias)
    units = node.output.type.ints[1]
    name = f"{b.layer}/bias"
    if not integer:
        return b.constant(name, np.zeros(units, np.float32))
    x, w = b.info(source).quant, b.info(weight).quant
    if x is None or w is None:
        raise InternalError(f"{node.layer} has integer operands without a grid")
    scales = tuple(float(np.float32(x.scale[0]) * np.float32(s)) for s in w.scale)
    grid = QuantParams(scales, (0,) * len(scales), None if len(scales) == 1 else 0)
    data = np.zeros(units, np.int32)
    dtype = DType.INT32
    if wide and not (short and sums_fit(b.info(weight), data)):
        dtype, data = DType.INT64, data.astype(np.int64)
    return b.tensor(name, dtype, (units,), data=data, quant=grid)


def _widened(b: Lowering, bias: int) -> int:
    """Return a bias with 64 bits."""
    info = b.info(bias)
    if info.data is None:
        raise InternalError(f"{info.name} is no constant")
    return b.constant(info.name, info.data.astype(np.int64), info.quant)


def short_sums(b: Lowering, source: int, bias: int) -> dict[str, DType]:
    """Return the option that tells a kernel for int16 to add up in 32 bits, if it is to."""
    short = is_wide(b.info(source)) and b.info(bias).dtype is DType.INT32
    return {"quantizedBiasType": DType.INT32} if short else {}


def elementwise(
    code: str, options: str = "", integer_version: int = 2
) -> Callable[[Lowering, Node, Op], None]:
    """Return the lowering of a function of one value, on integers where it has that form."""

    def run(b: Lowering, node: Node, op: Op) -> None:
        integer = is_integer(b, node)
        x = node.inputs[0]
        source = b.get(x, integer=integer)
        perm = b.order_of(x, integer=integer)
        fields = {"alpha": op.alpha} if isinstance(op, LeakyRelu) else {}
        target = b.put(node, perm)
        version = integer_version if integer else 1
        b.operator(code, [source], [target], options, version, **fields)

    return run


def constant_parameters(graph: Graph, node: Node) -> str | None:
    """Weights and biases are constants."""
    for value in node.inputs[1:]:
        known = graph.constant(value) is not None or kept_constant(graph, value) is not None
        if not value.is_absent and not known:
            return f"{value} is computed"
    return None


def is_integer(b: Lowering, node: Node) -> bool:
    """Whether a node is computed on integers, of 8 or 16 bits."""
    return b.output_grid(node)[1] is not None
