"""Operators that move elements."""

from __future__ import annotations

import numpy as np

from edgec.ir import Graph, Node
from edgec.ops import Concat, Expand, Identity, Pad, Reshape, Slice, Transpose
from edgec.targets.tflite.kernels.kernel import Constraint, Kernel, is_int8
from edgec.targets.tflite.lower import Lowering, Stored, identity
from edgec.targets.tflite.views import grouped_perm, reshaped_perm

__all__ = ["CONSTRAINTS", "LOWERINGS", "unchanged"]


def _reshape(b: Lowering, node: Node, op: Reshape) -> None:
    integer = is_int8(b, node)
    x, out = node.inputs[0], node.output.type.ints
    held = b.perm_of(x, integer=integer) or identity(x.type.rank)
    perm = reshaped_perm(x.type.ints, held, out)
    if perm is None:  # the new axes cut across the order it is stored in
        held = grouped_perm(x.type.ints, held, out)
        perm = reshaped_perm(x.type.ints, held, out) or identity(len(out))
    source = b.get(x, held, integer=integer)
    index = b.reshaped(source, [out[axis] for axis in perm])
    b.alias(node, Stored(index, perm), quantized=integer)


def _transpose(b: Lowering, node: Node, op: Transpose) -> None:
    """Rename the axes; nothing is moved until a consumer insists."""
    integer = is_int8(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    renamed = tuple(op.perm.index(axis) for axis in perm)
    b.alias(node, Stored(source, renamed), quantized=integer)


def _identity(b: Lowering, node: Node, op: Identity) -> None:
    unchanged(b, node)


def unchanged(b: Lowering, node: Node) -> None:
    """Let a node's output be its operand, on another grid if need be."""
    x = node.inputs[0]
    integer = is_int8(b, node)
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    if integer:  # the result may be on another grid
        b.operator("QUANTIZE", [source], [b.put(node, perm)], "Quantize")
    else:
        b.stored[node.output] = Stored(source, perm)


def _concat(b: Lowering, node: Node, op: Concat) -> None:
    integer = is_int8(b, node)
    perm = b.common_perm(node, node.output.type.rank, integer=integer)
    operands = [b.get(v, perm, integer=integer) for v in node.inputs]
    target = b.put(node, perm)
    b.operator(
        "CONCATENATION",
        operands,
        [target],
        "Concatenation",
        2 if integer else 1,
        axis=perm.index(op.axis),
        fusedActivationFunction=0,
    )


def _pad(b: Lowering, node: Node, op: Pad) -> None:
    integer = is_int8(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    rank = x.type.rank
    amounts = b.ints("pads", [[op.pads[axis], op.pads[axis + rank]] for axis in perm])
    target = b.put(node, perm)
    version = 2 if integer else 1
    if op.value == 0:
        b.operator("PAD", [source, amounts], [target], "Pad", version)
    else:
        fill = b.constant(f"{b.layer}/fill", np.array(op.value, np.float32))
        b.operator("PADV2", [source, amounts, fill], [target], "PadV2", version)


def _slice(b: Lowering, node: Node, op: Slice) -> None:
    integer = is_int8(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    cuts = op.ranges(x.type)
    ranges = [cuts.get(axis, range(x.type.ints[axis])) for axis in perm]
    fields = ("begin", [r.start for r in ranges]), ("end", [r.stop for r in ranges])
    tensors = [b.ints(name, values) for name, values in fields]
    tensors.append(b.ints("strides", [r.step for r in ranges]))
    target = b.put(node, perm)
    version = 2 if integer else 1
    b.operator("STRIDED_SLICE", [source, *tensors], [target], "StridedSlice", version)


def _expand(b: Lowering, node: Node, op: Expand) -> None:
    x, out = node.inputs[0], node.output.type
    perm = b.common_perm(node, out.rank, integer=False)
    source = b.broadcastable(x, out.rank, perm, integer=False)
    shape = b.ints("shape", [out.ints[axis] for axis in perm])
    b.operator("BROADCAST_TO", [source, shape], [b.put(node, perm)], "BroadcastTo", 2)


def _forward(graph: Graph, node: Node) -> str | None:
    """A slice steps forwards."""
    steps = node.op.steps if isinstance(node.op, Slice) else ()
    return f"steps are {list(steps)}" if any(step < 1 for step in steps) else None


LOWERINGS = {
    Concat: Kernel(_concat),
    Expand: Kernel(_expand),
    Identity: Kernel(_identity),
    Pad: Kernel(_pad),
    Reshape: Kernel(_reshape),
    Slice: Kernel(_slice),
    Transpose: Kernel(_transpose),
}

CONSTRAINTS = (Constraint((Slice,), _forward),)
