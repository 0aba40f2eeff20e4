"""What a TFLite builtin cannot express: each constraint's docstring is the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edgec.ir import DType, Graph, Node, Op
from edgec.ops import (
    AveragePool2d,
    BatchNorm,
    ConvTranspose2d,
    Convolution,
    Dequantize,
    Elu,
    FullyConnected,
    Gather,
    GroupedConv2d,
    MaxPool2d,
    Pool2d,
    Quantize,
    Resize,
    Slice,
)
from edgec.targets.tflite.more_kernels import resize_form
from edgec.targets.tflite.padding import padding

__all__ = ["CONSTRAINTS", "Constraint"]


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


def _static(graph: Graph, node: Node) -> str | None:
    """All shapes are known numbers."""
    for value in (*node.reads, *node.outputs):
        if not value.type.is_static:
            return f"{value} is {value.type}"
    return None


def _types(graph: Graph, node: Node) -> str | None:
    """Values are float32, or quantized to 8 bits."""
    allowed = {DType.FLOAT32, DType.INT8, DType.INT32}
    if isinstance(node.op, Quantize | Dequantize):
        return None if node.op.dtype in allowed else f"it stores {node.op.dtype.value}"
    # Indices are constants that the file stores in a type of its own.
    reads = node.reads[:1] if isinstance(node.op, Gather) else node.reads
    for value in (*reads, *node.outputs):
        if value.type.dtype is not DType.FLOAT32:
            return f"{value} is {value.type}"
    return None


def _constant_indices(graph: Graph, node: Node) -> str | None:
    """Indices are constants."""
    indices = node.inputs[1]
    return None if graph.constant(indices) is not None else f"{indices} is computed"


def _unit_alpha(graph: Graph, node: Node) -> str | None:
    """The alpha of an Elu is 1."""
    op = node.op
    return f"alpha is {op.alpha}" if isinstance(op, Elu) and op.alpha != 1 else None


def _plain_transposed(graph: Graph, node: Node) -> str | None:
    """A transposed convolution is not dilated, and its kernel covers its stride."""
    op = node.op
    if not isinstance(op, ConvTranspose2d):
        return None
    if op.dilation != (1, 1):
        return f"dilation is {op.dilation}"
    kernel = node.inputs[1].type.ints[2:]
    if any(k < s for k, s in zip(kernel, op.stride, strict=True)):
        return f"the kernel is {kernel}, the stride {op.stride}"
    return None


def _exact_resize(graph: Graph, node: Node) -> str | None:
    """A resize takes its places from the two sizes alone, in a way TFLite has."""
    op = node.op
    if not isinstance(op, Resize) or resize_form(op, node) is not None:
        return None
    return f"it is {op.mode}, {op.coordinates}, {op.rounding}"


def _one_scale(graph: Graph, node: Node) -> str | None:
    """Computed values have one scale, and 8 bits."""
    op, source = node.op, node.inputs[0]
    if not isinstance(op, Quantize | Dequantize) or graph.constant(source) is not None:
        return None
    if op.params.axis is not None:
        return f"{source} has {len(op.params.scale)}"
    return None if op.dtype is DType.INT8 else f"{source} is stored as {op.dtype.value}"


def _one_grid(graph: Graph, node: Node) -> str | None:
    """A value is dequantized as it was quantized."""
    op, before = node.op, graph.producers.get(node.inputs[0])
    if not isinstance(op, Dequantize) or before is None or not isinstance(before.op, Quantize):
        return None
    was, now = before.op.params, op.params
    return None if was == now else f"{was} becomes {now}"


def _constant_parameters(graph: Graph, node: Node) -> str | None:
    """Weights and biases are constants."""
    for value in node.inputs[1:]:
        producer = graph.producers.get(value)
        source = (
            producer.inputs[0] if producer and isinstance(producer.op, Dequantize) else value
        )
        if not value.is_absent and graph.constant(source) is None:
            return f"{value} is computed"
    return None


def _groups_divide(graph: Graph, node: Node) -> str | None:
    """Groups of a convolution are equal in size."""
    op = node.op
    outputs = node.output.type.ints[1]
    if isinstance(op, GroupedConv2d) and outputs % op.groups:
        return f"{outputs} channels in {op.groups} groups"
    return None


def _undilated(graph: Graph, node: Node) -> str | None:
    """The window of a pool is not dilated."""
    op = node.op
    return (
        f"dilation is {op.dilation}"
        if isinstance(op, Pool2d) and op.dilation != (1, 1)
        else None
    )


def _average_padding(graph: Graph, node: Node) -> str | None:
    """The padding of an average counts as zeros, or is none, or is that of SAME."""
    op, x = node.op, node.inputs[0].type
    if not isinstance(op, AveragePool2d):
        return None
    if op.count_include_pad and any(op.pad):
        return "it is in ceil mode with padding" if op.ceil_mode else None
    (h, w), (oh, ow) = x.ints[2:], node.output.type.ints[2:]
    explicit = padding(op.window, (h, w), op.pad, (oh, ow)).explicit
    return f"pads are {list(explicit)}, not counted" if any(explicit) else None


def _forward(graph: Graph, node: Node) -> str | None:
    """A slice steps forwards."""
    steps = node.op.steps if isinstance(node.op, Slice) else ()
    return f"steps are {list(steps)}" if any(step < 1 for step in steps) else None


def _rank(graph: Graph, node: Node) -> str | None:
    """Values have at most 5 axes."""
    deep = [v for v in (*node.reads, *node.outputs) if v.type.rank > 5]
    return f"{deep[0]} is {deep[0].type}" if deep else None


def _positive_stride(graph: Graph, node: Node) -> str | None:
    """A stride is at least 1."""
    strides = getattr(node.op, "stride", (1, 1))
    return f"strides are {strides}" if np.min(strides) < 1 else None


_LAYERS = (Convolution, ConvTranspose2d, FullyConnected, BatchNorm)
_POOLS = (AveragePool2d, MaxPool2d)

CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint((Op,), _static, "give every axis a length with --shape"),
    Constraint((Op,), _types, "export the model in float32"),
    Constraint((Op,), _rank),
    Constraint((Quantize, Dequantize), _one_scale),
    Constraint((Dequantize,), _one_grid),
    Constraint(_LAYERS, _constant_parameters, "store the weights in the model"),
    Constraint((GroupedConv2d,), _groups_divide),
    Constraint(_POOLS, _undilated),
    Constraint((AveragePool2d,), _average_padding, "export it with count_include_pad=True"),
    Constraint((Slice,), _forward),
    Constraint((Gather,), _constant_indices, "store the indices in the model"),
    Constraint((Elu,), _unit_alpha),
    Constraint((ConvTranspose2d,), _plain_transposed),
    Constraint((Resize,), _exact_resize, 'export it as "half_pixel" or "asymmetric" with sizes'),
    Constraint((Convolution, *_POOLS), _positive_stride),
)
"""Checked in order; of each node only the first broken one is reported."""
