"""Comparisons, logic, choice and casts."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, Node
from edgec.ops import (
    And,
    BitCast,
    Cast,
    Equal,
    Greater,
    GreaterOrEqual,
    IsInf,
    IsNaN,
    Less,
    LessOrEqual,
    Not,
    Or,
    Where,
    Xor,
)
from edgec.targets.tflite.kernels.kernel import (
    ANY,
    FLOAT,
    Constraint,
    Kernel,
    is_integer,
    pointwise,
    scratch,
)
from edgec.targets.tflite.kernels.shape import unchanged
from edgec.targets.tflite.lower import Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS"]

# EQUAL takes int16 too, but only since a much later runtime than CAST does.
_COMPARED = (DType.INT32, DType.INT64, DType.FLOAT32)
_EQUALLED = (*_COMPARED, DType.BOOL)


def _comparison(code: str, options: str, takes: tuple[DType, ...] = _COMPARED) -> Kernel:
    return Kernel(pointwise(code, options, takes, DType.BOOL), ANY)


def _where(b: Lowering, node: Node, op: Where) -> None:
    rank, integer = node.output.type.rank, is_integer(b, node)
    perm = b.common_perm(node, rank, integer=integer)
    condition = b.broadcastable(node.inputs[0], rank, perm, integer=False)
    choices = [b.broadcastable(v, rank, perm, integer=integer) for v in node.inputs[1:]]
    b.operator("SELECT_V2", [condition, *choices], [b.put(node, perm)], "SelectV2")


def _cast(b: Lowering, node: Node, op: Cast) -> None:
    x = node.inputs[0]
    if x.type.dtype is op.to:
        unchanged(b, node)
        return
    source, perm = b.get(x), b.order_of(x)
    target = b.put(node, perm)
    was = b.info(source).dtype
    b.operator("CAST", [source], [target], "Cast", inDataType=was, outDataType=op.to)


def _bit_cast(b: Lowering, node: Node, op: BitCast) -> None:
    x = node.inputs[0]
    source, perm = b.get(x), b.order_of(x)
    b.operator("BITCAST", [source], [b.put(node, perm)], "Bitcast")


def _is_nan(b: Lowering, node: Node, op: IsNaN) -> None:
    """Only what is not a number differs from itself."""
    x = node.inputs[0]
    source, perm = b.get(x), b.order_of(x)
    b.operator("NOT_EQUAL", [source, source], [b.put(node, perm)], "NotEqual")


def _is_inf(b: Lowering, node: Node, op: IsInf) -> None:
    x = node.inputs[0]
    source, perm = b.get(x), b.order_of(x)
    if not (op.negative or op.positive):
        b.operator("LESS", [source, source], [b.put(node, perm)], "Less")
        return
    if op.negative and op.positive:
        magnitude = scratch(b, "magnitude", source)
        b.operator("ABS", [source], [magnitude], "Abs")
        source = magnitude
    infinity = np.array(np.inf if op.positive else -np.inf, np.float32)
    other = b.constant(f"{b.layer}/infinity", infinity)
    b.operator("EQUAL", [source, other], [b.put(node, perm)], "Equal")


LOWERINGS = {
    And: Kernel(pointwise("LOGICAL_AND", "LogicalAnd", (DType.BOOL,)), ANY),
    BitCast: Kernel(_bit_cast, ANY),
    Cast: Kernel(_cast, ANY),
    Equal: _comparison("EQUAL", "Equal", _EQUALLED),
    Greater: _comparison("GREATER", "Greater"),
    GreaterOrEqual: _comparison("GREATER_EQUAL", "GreaterEqual"),
    IsInf: Kernel(_is_inf, FLOAT | {DType.BOOL}),
    IsNaN: Kernel(_is_nan, FLOAT | {DType.BOOL}),
    Less: _comparison("LESS", "Less"),
    LessOrEqual: _comparison("LESS_EQUAL", "LessEqual"),
    Not: Kernel(pointwise("LOGICAL_NOT", "LogicalNot", (DType.BOOL,)), ANY),
    Or: Kernel(pointwise("LOGICAL_OR", "LogicalOr", (DType.BOOL,)), ANY),
    Where: Kernel(_where, ANY),
    Xor: Kernel(pointwise("NOT_EQUAL", "NotEqual", (DType.BOOL,)), ANY),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
