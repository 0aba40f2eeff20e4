"""What a TFLite builtin cannot express: each constraint's docstring is the rule."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, Graph, Node, Op, Value
from edgec.ops import (
    OPS,
    Cast,
    Compress,
    Concat,
    ConstantOfShape,
    Dequantize,
    NonZero,
    Opaque,
    Pad,
    Quantize,
    ReduceMean,
    Reduction,
    ScatterElements,
    ScatterND,
    Shape,
    Size,
    TensorScatter,
)
from edgec.targets.tflite import kernels
from edgec.targets.tflite.grids import kept_constant
from edgec.targets.tflite.kernels.kernel import Constraint

__all__ = ["CONSTRAINTS", "TOLD_BY_DATA", "computed_parameter"]


def _told_by_data(graph: Graph, node: Node) -> str | None:
    """What a layer reads is as long as the model says, whatever the data."""
    for value in node.reads:
        producer = graph.producers.get(value)
        kernel = None if producer is None else kernels.LOWERINGS.get(type(producer.op))
        if producer is not None and kernel is not None and not value.type.is_static:
            return f"{value} of {producer.op} is {value.type}"
    return None


# What an empty operand means to these is nothing special to their builtins.
_OF_NOTHING = (
    *(Compress, Concat, ConstantOfShape, NonZero, Pad, Reduction, ScatterElements, ScatterND),
    *(Shape, Size, TensorScatter),
)


def _of_something(graph: Graph, node: Node) -> str | None:
    """Elements are computed from elements."""
    of_nothing = isinstance(node.op, _OF_NOTHING) and not isinstance(node.op, ReduceMean)
    if of_nothing or all(0 in (v.type.dims or ()) for v in node.outputs):
        return None
    empty = [v for v in node.reads if 0 in (v.type.dims or ())]
    return f"{empty[0]} is {empty[0].type}" if empty else None


TOLD_BY_DATA = Constraint(
    (Op,), _told_by_data, "make that an output, and compute what follows after the model"
)
"""Checked of untyped operators too: what follows a result of unknown length is one."""


def computed_parameter(graph: Graph, node: Node) -> Value | None:
    """Return what keeps a node untyped: an operand that typed operators keep as a field."""
    op = node.op
    if not isinstance(op, Opaque) or op.domain:
        return None
    counts = [cls.operands for cls in OPS if cls.onnx_name == op.op_type]
    first = 1 if op.op_type in ("Squeeze", "Unsqueeze") else max(counts, default=2**31)
    computed = (v for v in node.inputs[first:] if v.name and graph.constant(v) is None)
    return next(computed, None)


def _static(graph: Graph, node: Node) -> str | None:
    """All shapes are known numbers."""
    kernel = kernels.LOWERINGS.get(type(node.op))
    for value in (*node.reads, *node.outputs):
        told_by_data = value in node.outputs and kernel is not None and kernel.dynamic
        if not value.type.is_static and not told_by_data:
            return f"{value} is {value.type}"
    return None


def _types(graph: Graph, node: Node) -> str | None:
    """Values are of a type that the operator's builtin takes, or quantized."""
    if isinstance(node.op, Quantize | Dequantize):
        allowed = {DType.FLOAT32, DType.INT4, DType.INT8, DType.UINT8, DType.INT16, DType.INT32}
        return None if node.op.dtype in allowed else f"it stores {node.op.dtype.value}"
    if isinstance(node.op, Cast) and kept_constant(graph, node.output) is not None:
        return None
    takes = kernels.LOWERINGS[type(node.op)].dtypes
    for value in (*node.reads, *node.outputs):
        if value.type.dtype not in takes:
            return f"{value} is {value.type}"
    return None


def _one_scale(graph: Graph, node: Node) -> str | None:
    """Computed values have one scale, and 8 or 16 bits: uint8 only at the ends of the model."""
    op, source = node.op, node.inputs[0]
    if not isinstance(op, Quantize | Dequantize) or graph.constant(source) is not None:
        return None
    if op.params.axis is not None:
        return f"{source} has {len(op.params.scale)}"
    if op.dtype is DType.UINT8:
        end = source in graph.inputs or node.output in graph.outputs
        return None if end else f"{source} is read as {op.dtype.value} by another operator"
    if op.dtype is DType.INT16 and any(op.params.zero_point):
        return f"{source} has 16 bits and the zero point {op.params.zero_point[0]}"
    known = op.dtype in (DType.INT8, DType.INT16)
    return None if known else f"{source} is stored as {op.dtype.value}"


def _normal_scales(graph: Graph, node: Node) -> str | None:
    """Scales are normal numbers: runtimes refuse or crash on smaller ones."""
    op = node.op
    if not isinstance(op, Quantize | Dequantize):
        return None
    least = min(op.params.scale)
    return f"the least is {least:.3g}" if least < np.finfo(np.float32).tiny else None


def _one_grid(graph: Graph, node: Node) -> str | None:
    """A value is dequantized as it was quantized."""
    op, before = node.op, graph.producers.get(node.inputs[0])
    if not isinstance(op, Dequantize) or before is None or not isinstance(before.op, Quantize):
        return None
    was, now = before.op.params, op.params
    return None if was == now else f"{was} becomes {now}"


def _rank(graph: Graph, node: Node) -> str | None:
    """Values have no more axes than the operator's builtin takes."""
    pair = isinstance(node.op, Quantize | Dequantize)
    most = 8 if pair else kernels.LOWERINGS[type(node.op)].axes
    deep = [v for v in (*node.reads, *node.outputs) if v.type.rank > most]
    return f"{deep[0]} is {deep[0].type}, with more than {most}" if deep else None


CONSTRAINTS: tuple[Constraint, ...] = (
    TOLD_BY_DATA,
    Constraint((Op,), _static, "give every axis a length with --shape"),
    Constraint((Op,), _types, "export the model in float32"),
    Constraint((Op,), _rank),
    Constraint((Op,), _of_something),
    Constraint((Quantize, Dequantize), _one_scale),
    Constraint((Quantize, Dequantize), _normal_scales, "quantize the model again"),
    Constraint((Dequantize,), _one_grid),
    *kernels.CONSTRAINTS,
)
"""Checked in order; of each node only the first broken one is reported."""
