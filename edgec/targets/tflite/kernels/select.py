"""Operators that choose elements by their order or place."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, Node
from edgec.ops import OneHot, ReverseSequence, TopK, Trilu
from edgec.targets.tflite.kernels.kernel import (
    ANY,
    NUMBERS,
    Constraint,
    Kernel,
    cast,
    is_integer,
)
from edgec.targets.tflite.kernels.moves import step
from edgec.targets.tflite.lower import Lowering, Stored, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _top_k(b: Lowering, node: Node, op: TopK) -> None:
    x = node.inputs[0]
    perm = b.order_of(x)
    if perm[-1] != op.axis:  # the kernel works along the last axis
        perm = (*(a for a in perm if a != op.axis), op.axis)
    source = b.get(x, perm)
    given = b.info(source).dtype
    if not op.largest:
        if given not in (DType.FLOAT32, DType.INT64):
            source = cast(b, source, DType.INT32)
        source = _reversed(b, source)
    shape = [node.outputs[0].type.ints[axis] for axis in perm]
    info = b.info(source)
    values = b.tensor(f"{b.layer}/values", info.dtype, shape)
    indices = b.tensor(f"{b.layer}/indices", DType.INT32, shape)
    b.operator("TOPK_V2", [source, b.ints("k", op.k)], [values, indices], "TopKV2")
    if not op.largest:
        values = cast(b, _reversed(b, values), given)
    b.alias(node, Stored(values, perm), quantized=False)
    b.alias(node, Stored(cast(b, indices, DType.INT64), perm), quantized=False, output=1)


def _reversed(b: Lowering, tensor: int) -> int:
    """Return numbers in the opposite order, from which the same step leads back."""
    if b.info(tensor).dtype is DType.FLOAT32:
        return step(b, "NEG", [tensor], None, "Neg")
    least = b.constant(f"{b.layer}/minus_one", np.array(-1, b.info(tensor).dtype.numpy))
    return step(b, "SUB", [least, tensor], None, "Sub", fusedActivationFunction=0)


def _one_hot(b: Lowering, node: Node, op: OneHot) -> None:
    indices = node.inputs[0]
    rank = indices.type.rank
    source = b.get(indices, identity(rank))
    if b.info(source).dtype not in (DType.INT32, DType.INT64):
        source = cast(b, source, DType.INT32)
    shape = list(indices.type.ints)
    shape.insert(op.axis, 1)
    source = b.reshaped(source, shape)
    dtype = b.info(source).dtype
    ways = [-1 if axis == op.axis else 1 for axis in range(rank + 1)]
    places = np.arange(op.depth, dtype=dtype.numpy).reshape(ways)
    masks = [
        step(b, "EQUAL", [source, b.constant(f"{b.layer}/places", array)], None, "Equal",
             dtype=DType.BOOL)
        for array in (places, places - op.depth)
    ]  # fmt: skip
    mask = step(b, "LOGICAL_OR", masks, None, "LogicalOr")
    target = b.put(node, identity(rank + 1))
    if (op.off, op.on) == (0, 1):
        b.operator(
            "CAST", [mask], [target], "Cast", inDataType=DType.BOOL, outDataType=op.dtype
        )
        return
    values = np.array([op.on, op.off]).astype(op.dtype.numpy)
    numbers = [b.constant(f"{b.layer}/value", np.array(v)) for v in values]
    b.operator("SELECT_V2", [mask, *numbers], [target], "SelectV2")


def _trilu(b: Lowering, node: Node, op: Trilu) -> None:
    integer = is_integer(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    rank = x.type.rank
    perm = b.order_of(x, integer=integer)
    mask = op.mask(*x.type.ints[-2:]).reshape(*(1,) * (rank - 2), *x.type.ints[-2:])
    kept = b.constant(f"{b.layer}/kept", np.ascontiguousarray(mask.transpose(perm)))
    info = b.info(source)
    zero = 0 if info.quant is None else info.quant.zero_point[0]
    other = b.constant(f"{b.layer}/zero", np.array(zero).astype(info.dtype.numpy), info.quant)
    b.operator("SELECT_V2", [kept, source, other], [b.put(node, perm)], "SelectV2")


_REVERSED_AS = {DType.INT8: DType.INT16, DType.BOOL: DType.UINT8}


def _reverse_sequence(b: Lowering, node: Node, op: ReverseSequence) -> None:
    x, lengths = node.inputs
    perm = b.order_of(x)
    source = b.get(x)
    given = b.info(source).dtype
    source = cast(b, source, _REVERSED_AS.get(given, given))
    result = step(
        b,
        "REVERSE_SEQUENCE",
        [source, b.get(lengths)],
        b.info(source).shape,
        "ReverseSequence",
        seqDim=perm.index(op.time_axis),
        batchDim=perm.index(op.batch_axis),
    )
    b.alias(node, Stored(cast(b, result, given), perm), quantized=False)


LOWERINGS = {
    OneHot: Kernel(_one_hot, ANY, axes=8),
    ReverseSequence: Kernel(_reverse_sequence, ANY, axes=8),
    TopK: Kernel(_top_k, NUMBERS, axes=8),
    Trilu: Kernel(_trilu, ANY, axes=8),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
