"""Transposed convolutions.

TFLite's kernels know neither groups nor dilation. Groups are computed one by one, unless each
channel is one, where a depthwise convolution over an image with zeros between its elements
does the same. A dilated kernel is written out with its zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgec.ir import Array, DType, Graph, Node
from edgec.ops import ConvTranspose
from edgec.ops.window import Window
from edgec.targets.tflite.kernels.kernel import (
    SAME,
    VALID,
    Constraint,
    Kernel,
    bias_of,
    is_integer,
    short_sums,
)
from edgec.targets.tflite.kernels.spatial import (
    as_image,
    as_weights,
    image_fields,
    joined,
    padded,
    parts,
    put_image,
    sliced,
)
from edgec.targets.tflite.lower import Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _conv_transpose(b: Lowering, node: Node, op: ConvTranspose) -> None:
    x, w = node.inputs[:2]
    array = b.graph.constant(w)
    margins = _margins(op, w.type.ints[2:])
    depthwise = 1 < op.groups == x.type.ints[1] and len(op.stride) < 3
    if depthwise and array is not None and min(margins) >= 0:
        put_image(b, node, lambda out: _depthwise(b, node, op, array, out))
    else:
        put_image(b, node, lambda out: _grouped(b, node, op, out))


def _margins(op: ConvTranspose, kernel: Sequence[int]) -> tuple[int, ...]:
    """Return the zeros around the input with which a plain convolution does the same."""
    axes = len(op.stride)
    reach = [span - 1 for span in Window(tuple(kernel), op.stride, op.dilation).span]
    before = [reach[i] - op.pad[i] for i in range(axes)]
    after = [reach[i] - op.pad[i + axes] + op.output_pad[i] for i in range(axes)]
    return (*before, *after)


def _depthwise(b: Lowering, node: Node, op: ConvTranspose, weight: Array, out: int) -> None:
    """Convolve each channel, its elements a stride apart, with the kernel turned around."""
    axes = len(op.stride)
    turned = np.flip(weight, tuple(range(2, 2 + axes))).reshape(-1, *weight.shape[2:])
    image = np.moveaxis(turned, 0, -1)  # [KH, KW, C * M]
    if axes == 1:
        image = image[None]
    kernel = b.constant(f"{b.layer}/kernel", np.ascontiguousarray(image[None]))
    strides = (1, *op.stride) if axes == 1 else op.stride
    source = _spread(b, as_image(b, node.inputs[0]), strides)
    source = padded(b, source, _margins(op, node.inputs[1].type.ints[2:]))
    bias = bias_of(b, node, False, source, kernel)
    b.operator(
        "DEPTHWISE_CONV_2D",
        [source, kernel, bias],
        [out],
        "DepthwiseConv2D",
        2 if any(d != 1 for d in op.dilation) else 1,
        padding=VALID,
        depthMultiplier=weight.shape[1],
        fusedActivationFunction=0,
        **image_fields(strideX=(1,) * axes, dilationXFactor=op.dilation),
    )


def _grouped(b: Lowering, node: Node, op: ConvTranspose, out: int) -> None:
    """Write the result of each group, and cut the pads off."""
    axes = len(op.stride)
    integer = is_integer(b, node)
    given = node.inputs[0].type.ints[2:]
    held = b.info(out)
    n, *image, channels = held.shape
    span, extra = _span(node, op)
    reached = [(given[i] - 1) * op.stride[i] + span[i] for i in range(axes)]
    rows, wanted = image[:-axes], image[-axes:]
    same = not any(extra) and all(
        -(-wanted[i] // op.stride[i]) == given[i]
        and op.pad[i] == max(reached[i] - wanted[i], 0) // 2
        for i in range(axes)
    )
    size = wanted if same else [reached[i] + extra[i] for i in range(axes)]
    cut = size != wanted
    source = as_image(b, node.inputs[0], integer=integer)
    weight = _weights(b, node, op, span, integer=integer)
    bias = bias_of(b, node, integer, source, weight)
    operands = [
        parts(b, source, len(b.info(source).shape) - 1, op.groups),
        parts(b, weight, len(b.info(weight).shape) - 1, op.groups),
        parts(b, bias, 0, op.groups),
    ]
    whole = (n, *rows, *size, channels)
    shape = (*whole[:-1], channels // op.groups)
    result = out
    if cut:
        result = b.tensor(f"{b.layer}/whole", held.dtype, whole, quant=held.quant)
    groups = [result]
    if op.groups > 1:
        name = f"{b.layer}/group"
        groups = [b.tensor(name, DType.FLOAT32, shape) for _ in range(op.groups)]
    for part, kernel, bias, group in zip(*operands, groups, strict=True):
        inputs = [b.ints("output_shape", shape), kernel, part, bias]
        padding = SAME if same else VALID
        fields: dict[str, Any] = dict(image_fields(strideX=op.stride))
        short = short_sums(b, part, bias)
        if axes == 3:
            fields |= image_fields(dilationXFactor=(1, 1, 1))
            b.operator(
                "CONV_3D_TRANSPOSE", inputs, [group], "Conv3D", padding=padding, **fields
            )
        else:
            b.operator("TRANSPOSE_CONV", inputs, [group], "TransposeConv", 5 if short else 3,
                       padding=padding, **fields, **short)  # fmt: skip
    if op.groups > 1:
        joined(b, groups, result, len(whole) - 1)
    if cut:
        begin = [0] * (1 + len(rows)) + [*op.pad[:axes], 0]
        sliced(b, result, b.info(out).shape, begin, out)


def _span(node: Node, op: ConvTranspose) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the spans of the kernel and what to add to the result after it.

    Kernels want a span of at least the stride, and add less than a stride: where that is not
    so, zeros make the kernel longer.
    """
    span = Window(node.inputs[1].type.ints[2:], op.stride, op.dilation).span
    pairs = list(zip(span, op.stride, op.output_pad, strict=True))
    if all(s >= stride > extra for s, stride, extra in pairs):
        return span, op.output_pad
    return tuple(max(s + extra, stride) for s, stride, extra in pairs), (0,) * len(span)


_ORDERS = {1: (1, 2, 0), 2: (1, 2, 3, 0), 3: (2, 3, 4, 1, 0)}
"""From ``[IC, OC, ...]`` to OWI, OHWI or DHWOI, by the number of spatial axes."""


def _weights(
    b: Lowering, node: Node, op: ConvTranspose, span: Sequence[int], *, integer: bool
) -> int:
    """Return the kernel dilated, with zeros at its end up to `span`."""
    w = node.inputs[1]
    axes = len(op.stride)
    before = b.pair_before(w) if integer else None
    array = b.graph.constant(w if before is None else before[0])
    if array is None:
        weight = as_weights(b, w, _ORDERS[axes])
        if axes == 3:
            return weight  # which is as long as `span`: the others are refused
        weight = _spread(b, weight, op.dilation)
        held = b.info(weight).shape[-1 - axes : -1]
        tail = [wanted - length for wanted, length in zip(span, held, strict=True)]
        return padded(b, weight, (*(0,) * axes, *tail))
    wide = np.zeros((*array.shape[:2], *span), array.dtype)
    own = zip(array.shape[2:], op.dilation, strict=True)
    wide[(slice(None), slice(None), *(slice(0, (k - 1) * d + 1, d) for k, d in own))] = array
    turned = np.ascontiguousarray(wide.transpose(_ORDERS[axes]))
    grid = None if before is None else before[1]
    if grid is not None and grid.axis is not None:
        grid = replace(grid, axis=0)
    return b.constant(f"{b.layer}/kernel", turned[:, None] if axes == 1 else turned, grid)


def _spread(b: Lowering, image: int, steps: Sequence[int]) -> int:
    """Return an image with zeros between its elements, which come to lie `steps` apart."""
    sh, sw = steps if len(steps) == 2 else (1, *steps)
    n, height, width, c = b.info(image).shape
    if sw > 1:
        apart = b.reshaped(image, (n * height, width, 1, c))
        image = b.reshaped(padded(b, apart, (0, 0, 0, sw - 1)), (n, height, width * sw, c))
    if sh > 1:
        apart = b.reshaped(image, (n, height, 1, width * sw * c))
        image = b.reshaped(padded(b, apart, (0, 0, 0, sh - 1)), (n, height * sh, width * sw, c))
    return sliced(b, image, (n, (height - 1) * sh + 1, (width - 1) * sw + 1, c))


def _plain_volume(graph: Graph, node: Node) -> str | None:
    """Computed weights over a volume are not dilated, and cover their stride."""
    op, w = node.op, node.inputs[1]
    if not isinstance(op, ConvTranspose) or w.type.rank < 5 or graph.constant(w) is not None:
        return None
    if w.type.ints[2:] == _span(node, op)[0]:
        return None
    return f"w is {w.type}, dilations are {op.dilation}, strides are {op.stride}"


LOWERINGS = {ConvTranspose: Kernel(_conv_transpose)}

CONSTRAINTS = (Constraint((ConvTranspose,), _plain_volume, "store the weights in the model"),)
