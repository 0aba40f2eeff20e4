"""Convolutions."""

from __future__ import annotations

from typing import Any

from edgec.ir import DType, Node
from edgec.ops import Conv, Convolution, DepthwiseConv, GroupedConv
from edgec.targets.tflite.kernels.kernel import (
    FUSED,
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
    channels_last,
    image_fields,
    joined,
    padded,
    parts,
    put_image,
)
from edgec.targets.tflite.lower import Lowering
from edgec.targets.tflite.padding import padding

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _conv(b: Lowering, node: Node, op: Convolution) -> None:
    integer = is_integer(b, node)
    x, w = node.inputs[:2]
    pads = padding(op.window(w.type), x.type.ints[2:], op.pad, node.output.type.ints[2:])
    source = padded(b, as_image(b, x, integer=integer), pads.explicit)
    fields: dict[str, Any] = {
        "padding": SAME if pads.same else VALID,
        "fusedActivationFunction": FUSED[op.activation],
        **image_fields(strideX=op.stride, dilationXFactor=op.dilation),
    }
    if len(op.stride) == 3:
        _volume(b, node, op, source, fields)
        return
    depthwise = isinstance(op, DepthwiseConv)
    order = (*range(1, w.type.rank), 0) if depthwise else channels_last(w.type.rank)
    hybrid = b.is_hybrid(node)
    weight = as_weights(b, w, order, integer=integer or hybrid)
    bias = bias_of(b, node, integer, source, weight, short=not depthwise)
    version = 3 if integer else 2 if any(d != 1 for d in op.dilation) else 1
    if b.info(weight).dtype is DType.INT4:
        version = 7
    if hybrid:
        version = 5
    code, options = "CONV_2D", "Conv2D"
    if depthwise:
        code, options = "DEPTHWISE_CONV_2D", "DepthwiseConv2D"
        fields["depthMultiplier"] = w.type.ints[0] // x.type.ints[1]
    elif isinstance(op, GroupedConv):
        version = 6
    if short := short_sums(b, source, bias):
        fields |= short
        version = 8
    put_image(
        b,
        node,
        lambda out: b.operator(code, [source, weight, bias], [out], options, version, **fields),
    )


def _volume(
    b: Lowering, node: Node, op: Convolution, source: int, fields: dict[str, Any]
) -> None:
    """Write a convolution over a volume, group by group: the kernel knows no groups."""
    x, w = node.inputs[:2]
    groups = op.groups_of(x.type, w.type)
    weight = b.get(w, (2, 3, 4, 1, 0))
    bias = bias_of(b, node, False, source, weight)
    operands = [parts(b, t, len(b.info(t).shape) - 1, groups) for t in (source, weight, bias)]
    target = b.put(node, channels_last(5))
    shape = b.info(target).shape
    results = [target]
    if groups > 1:
        part = (*shape[:-1], shape[-1] // groups)
        results = [
            b.tensor(f"{b.layer}/group", b.info(target).dtype, part) for _ in range(groups)
        ]
    for *inputs, result in zip(*operands, results, strict=True):
        b.operator("CONV_3D", inputs, [result], "Conv3D", **fields)
    if groups > 1:
        joined(b, results, target, 4)


LOWERINGS = {
    Conv: Kernel(_conv),
    DepthwiseConv: Kernel(_conv),
    GroupedConv: Kernel(_conv),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
