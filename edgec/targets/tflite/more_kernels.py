"""Lowerings of operators outside of convolutional classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgec.errors import InternalError
from edgec.ir import DType, Node, Op
from edgec.ops import (
    Abs,
    Ceil,
    ConvTranspose2d,
    Cos,
    DepthToSpace,
    Elu,
    Exp,
    Expand,
    Floor,
    Gather,
    LeakyRelu,
    Log,
    Max,
    Min,
    Neg,
    PRelu,
    Reciprocal,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Reduction,
    Resize,
    Sin,
    Sqrt,
)
from edgec.targets.tflite.lower import NHWC, Lowering, identity

__all__ = ["MORE_LOWERINGS", "elementwise", "reduction", "resize_form"]


def elementwise(
    code: str, options: str = "", integer_version: int = 2
) -> Callable[[Lowering, Node, Op], None]:
    """Return the lowering of a function of one value, on integers where it has that form."""

    def run(b: Lowering, node: Node, op: Op) -> None:
        integer = b.output_grid(node)[1] is not None
        x = node.inputs[0]
        source = b.get(x, integer=integer)
        perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
        fields = {"alpha": op.alpha} if isinstance(op, LeakyRelu) else {}
        target = b.put(node, perm)
        version = integer_version if integer else 1
        b.operator(code, [source], [target], options, version, **fields)

    return run


def reduction(
    b: Lowering, node: Node, code: str, axes: tuple[int, ...], *, keepdims: bool
) -> None:
    """Add a reduction along axes of the value, wherever these are stored."""
    integer = b.output_grid(node)[1] is not None
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    kept = perm
    if not keepdims:
        rest = [axis for axis in perm if axis not in axes]
        kept = tuple(sorted(rest).index(axis) for axis in rest)
    target = b.put(node, kept)
    stored = b.ints("axes", sorted(perm.index(axis) for axis in axes))
    version = 2 if integer else 1
    b.operator(code, [source, stored], [target], "Reducer", version, keepDims=keepdims)


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


def _reduce(code: str) -> Callable[[Lowering, Node, Reduction], None]:
    def run(b: Lowering, node: Node, op: Reduction) -> None:
        reduction(b, node, code, op.axes, keepdims=op.keepdims)

    return run


def resize_form(op: Resize, node: Node) -> dict[str, bool] | None:
    """Return the options with which TFLite computes just this resize, or ``None``.

    "nearest" is compared index by index; "linear" needs the same coordinates, which TFLite
    takes from the two sizes and never from a scale.
    """
    size, out = node.inputs[0].type.ints[2:], node.output.type.ints[2:]
    forms = {
        "half": {"alignCorners": False, "halfPixelCenters": True},
        "corners": {"alignCorners": True, "halfPixelCenters": False},
        "plain": {"alignCorners": False, "halfPixelCenters": False},
    }
    for name, form in forms.items():
        if all(_agrees(op, name, size[i], out[i], i) for i in (0, 1)):
            return form
    return None


def _agrees(op: Resize, form: str, length: int, out: int, axis: int) -> bool:
    i = np.arange(out, dtype=np.float64)
    step = length / out
    if form == "corners":
        step = (length - 1) / (out - 1) if out > 1 else 0.0
    if op.mode == "linear":
        theirs = (i + 0.5) * step - 0.5 if form == "half" else i * step
        ours = op.places(length, out, axis)
        ours, theirs = np.clip(ours, 0, length - 1), np.clip(theirs, 0, length - 1)
        return bool(np.allclose(ours, theirs, rtol=0, atol=1e-6))
    # tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h
    x = np.float32(i + (0.5 if form == "half" else 0)) * np.float32(step)
    index = np.floor(x + 0.5) if form == "corners" else np.floor(x)
    index = np.clip(index, 0, length - 1)
    return bool(np.array_equal(index, op.nearest(length, out, axis)))


def _resize(b: Lowering, node: Node, op: Resize) -> None:
    form = resize_form(op, node)
    if form is None:
        raise InternalError(f"{node.layer} has no TFLite form, which the check overlooked")
    source = b.get(node.inputs[0], NHWC)
    size = b.ints("size", node.output.type.ints[2:])
    target = b.put(node, NHWC)
    nearest = op.mode == "nearest"
    code = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    options = "ResizeNearestNeighbor" if nearest else "ResizeBilinear"
    version = 3 if form["halfPixelCenters"] else 1
    b.operator(code, [source, size], [target], options, version, **form)


def _depth_to_space(b: Lowering, node: Node, op: DepthToSpace) -> None:
    source = b.get(node.inputs[0], NHWC)
    out = node.output.type.ints[1]
    if op.column_first and out > 1 and op.block > 1:
        # The builtin wants depth last within a channel block: permute the channels first.
        blocks = op.block**2
        order = np.arange(out * blocks).reshape(out, blocks).T.ravel()
        info = b.info(source)
        turned = b.tensor(f"{b.layer}/turned", info.dtype, info.shape)
        indices = b.constant(f"{b.layer}/order", order.astype(np.int32))
        b.operator("GATHER", [source, indices], [turned], "Gather", axis=3)
        source = turned
    target = b.put(node, NHWC)
    if op.block == 1:
        shape = b.ints("shape", b.info(target).shape)
        b.operator("RESHAPE", [source, shape], [target], "Reshape",
                   newShape=list(b.info(target).shape))  # fmt: skip
        return
    b.operator("DEPTH_TO_SPACE", [source], [target], "DepthToSpace", blockSize=op.block)


def _gather(b: Lowering, node: Node, op: Gather) -> None:
    x, indices = node.inputs
    array = b.graph.constant(indices)
    if array is None:
        raise InternalError(f"{node.layer} has computed indices, which the check overlooked")
    length = x.type.ints[op.axis]
    picked = np.where(array < 0, array + length, array).astype(np.int32)
    perm = b.perm_of(x) if array.ndim < 2 else None
    perm = perm or identity(x.type.rank)
    source = b.get(x, perm)
    where = b.constant(f"{b.layer}/indices", picked)
    kept = perm if array.ndim == 1 else identity(node.output.type.rank)
    if array.ndim == 0:  # the axis is gone, the order of the others stays
        kept = tuple(a - (a > op.axis) for a in perm if a != op.axis)
    axis = perm.index(op.axis)
    b.operator("GATHER", [source, where], [b.put(node, kept)], "Gather", axis=axis)


def _expand(b: Lowering, node: Node, op: Expand) -> None:
    x, out = node.inputs[0], node.output.type
    perm = b.common_perm(node, out.rank, integer=False)
    source = b.broadcastable(x, out.rank, perm, integer=False)
    shape = b.ints("shape", [out.ints[axis] for axis in perm])
    b.operator("BROADCAST_TO", [source, shape], [b.put(node, perm)], "BroadcastTo", 2)


def _conv_transpose(b: Lowering, node: Node, op: ConvTranspose2d) -> None:
    """Write the whole result, as VALID has it, and cut the pads off."""
    x, w = node.inputs[:2]
    n, _, height, width = x.type.ints
    _, channels, kh, kw = w.type.ints
    whole = [
        (length - 1) * stride + kernel + extra
        for length, stride, kernel, extra in zip(
            (height, width), op.stride, (kh, kw), op.output_pad, strict=True
        )
    ]
    weight = b.get(w, (1, 2, 3, 0))
    source = b.get(x, NHWC)
    given = b.get(node.inputs[2]) if len(node.inputs) > 2 else None
    bias = b.constant(f"{b.layer}/bias", np.zeros(channels, np.float32)) if given is None else given
    cut = any(op.pad)
    target = b.put(node, NHWC)
    shape = (n, *whole, channels)
    result = b.tensor(f"{b.layer}/whole", DType.FLOAT32, shape) if cut else target
    b.operator(
        "TRANSPOSE_CONV",
        [b.ints("output_shape", shape), weight, source, bias],
        [result],
        "TransposeConv",
        3,
        padding=1,
        strideH=op.stride[0],
        strideW=op.stride[1],
    )
    if cut:
        top, left, bottom, right = op.pad
        begin = [0, top, left, 0]
        end = [n, whole[0] - bottom, whole[1] - right, channels]
        where = [b.ints("begin", begin), b.ints("end", end), b.ints("strides", [1] * 4)]
        b.operator("STRIDED_SLICE", [result, *where], [target], "StridedSlice")


MORE_LOWERINGS: Mapping[type[Op], Callable[[Lowering, Node, Any], None]] = {
    Abs: elementwise("ABS", "Abs"),
    Ceil: elementwise("CEIL"),
    ConvTranspose2d: _conv_transpose,
    Cos: elementwise("COS", "Cos"),
    DepthToSpace: _depth_to_space,
    Elu: elementwise("ELU"),
    Exp: elementwise("EXP", "Exp"),
    Expand: _expand,
    Floor: elementwise("FLOOR"),
    Gather: _gather,
    Log: elementwise("LOG"),
    Max: _extreme("MAXIMUM"),
    Min: _extreme("MINIMUM"),
    Neg: elementwise("NEG", "Neg"),
    PRelu: _prelu,
    Reciprocal: _reciprocal,
    ReduceMax: _reduce("REDUCE_MAX"),
    ReduceMean: _reduce("MEAN"),
    ReduceMin: _reduce("REDUCE_MIN"),
    ReduceSum: _reduce("SUM"),
    Resize: _resize,
    Sin: elementwise("SIN"),
    Sqrt: elementwise("SQRT"),
}

