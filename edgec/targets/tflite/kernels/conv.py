"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.ir import DType, Graph, Node
from edgec.ops import Conv, Convolution, ConvTranspose, DepthwiseConv, GroupedConv
from edgec.targets.tflite.kernels.kernel import (
    FUSED,
    SAME,
    VALID,
    Constraint,
    Kernel,
    bias_of,
    constant_parameters,
    is_int8,
    padded,
    positive_stride,
)
from edgec.targets.tflite.lower import NHWC, Lowering
from edgec.targets.tflite.padding import padding

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _conv(b: Lowering, node: Node, op: Convolution) -> None:
    integer = is_int8(b, node)
    x, w = node.inputs[:2]
    depthwise = isinstance(op, DepthwiseConv)
    weight = b.get(w, (1, 2, 3, 0) if depthwise else (0, 2, 3, 1), integer=integer)
    _, c, height, width = x.type.ints
    out = node.output.type.ints
    pads = padding(op.window(w.type), (height, width), op.pad, (out[2], out[3]))
    source = padded(b, b.get(x, NHWC, integer=integer), pads.explicit)
    bias = bias_of(b, node, integer, source, weight)
    fields: dict[str, Any] = {
        "padding": SAME if pads.same else VALID,
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
        "fusedActivationFunction": FUSED[op.activation],
    }
    dilated = op.dilation != (1, 1)
    target = b.put(node, NHWC)
    if depthwise:
        fields["depthMultiplier"] = w.type.ints[0] // c
        version = 3 if integer else 2 if dilated else 1
        options = "DepthwiseConv2D"
        b.operator(
            "DEPTHWISE_CONV_2D", [source, weight, bias], [target], options, version, **fields
        )
        return
    version = 3 if integer else 2 if dilated else 1
    if isinstance(op, GroupedConv):
        version = 6
    b.operator("CONV_2D", [source, weight, bias], [target], "Conv2D", version, **fields)


def _conv_transpose(b: Lowering, node: Node, op: ConvTranspose) -> None:
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
    bias = (
        b.constant(f"{b.layer}/bias", np.zeros(channels, np.float32))
        if given is None
        else given
    )
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


def _plain_transposed(graph: Graph, node: Node) -> str | None:
    """A transposed convolution is not dilated, and its kernel covers its stride."""
    op = node.op
    if not isinstance(op, ConvTranspose):
        return None
    if op.dilation != (1, 1):
        return f"dilation is {op.dilation}"
    kernel = node.inputs[1].type.ints[2:]
    if any(k < s for k, s in zip(kernel, op.stride, strict=True)):
        return f"the kernel is {kernel}, the stride {op.stride}"
    return None


def _groups_divide(graph: Graph, node: Node) -> str | None:
    """Groups of a convolution are equal in size."""
    op = node.op
    outputs = node.output.type.ints[1]
    if isinstance(op, GroupedConv) and outputs % op.groups:
        return f"{outputs} channels in {op.groups} groups"
    return None


LOWERINGS = {
    Conv: Kernel(_conv),
    ConvTranspose: Kernel(_conv_transpose),
    DepthwiseConv: Kernel(_conv),
    GroupedConv: Kernel(_conv),
}

CONSTRAINTS = (
    Constraint(
        (Convolution, ConvTranspose), constant_parameters, "store the weights in the model"
    ),
    Constraint((GroupedConv,), _groups_divide),
    Constraint((ConvTranspose,), _plain_transposed),
    Constraint((Convolution,), positive_stride),
)
