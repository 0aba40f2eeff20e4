"""Operators that make values from shapes and numbers."""

from __future__ import annotations

from edgec.ir import DType, Node
from edgec.ops import EyeLike, Shape, Size
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel
from edgec.targets.tflite.kernels.moves import sliced, step
from edgec.targets.tflite.lower import Lowering, Stored, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _shape(b: Lowering, node: Node, op: Shape) -> None:
    x = node.inputs[0]
    source = b.get(x, identity(x.type.rank))
    lengths = _lengths(b, source)
    kept = range(x.type.rank)[op.start : op.end]
    if len(kept) < x.type.rank:
        lengths = sliced(b, lengths, [kept])
    b.alias(node, Stored(lengths, (0,)), quantized=False)


def _size(b: Lowering, node: Node, op: Size) -> None:
    lengths = _lengths(b, b.get(node.inputs[0]))
    axis = b.ints("axis", [0])
    target = b.put(node, ())
    step(b, "REDUCE_PROD", [lengths, axis], None, "Reducer", target, keepDims=False)


def _lengths(b: Lowering, tensor: int) -> int:
    shape = [len(b.info(tensor).shape)]
    return step(b, "SHAPE", [tensor], shape, "Shape", dtype=DType.INT64, outType=DType.INT64)


def _eye_like(b: Lowering, node: Node, op: EyeLike) -> None:
    index = b.constant(f"{b.layer}/eye", op.array(node.inputs[0].type))
    b.alias(node, Stored(index, identity(2)), quantized=False)


LOWERINGS = {
    EyeLike: Kernel(_eye_like, ANY),
    Shape: Kernel(_shape, ANY, axes=8),
    Size: Kernel(_size, ANY, axes=8),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
