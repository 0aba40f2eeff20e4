"""Operators that move elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod

from edgec.ir import Array, DType, Node
from edgec.ops import (
    Concat,
    Expand,
    Identity,
    MirrorPad,
    Pad,
    Reshape,
    Slice,
    Split,
    Tile,
    Transpose,
    WrapPad,
)
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel, is_integer
from edgec.targets.tflite.kernels.moves import gathered, padded_axes, sliced, step
from edgec.targets.tflite.lower import Lowering, Stored, identity
from edgec.targets.tflite.views import grouped_perm, reshaped_perm

__all__ = ["CONSTRAINTS", "LOWERINGS", "unchanged"]


def _reshape(b: Lowering, node: Node, op: Reshape) -> None:
    integer = is_integer(b, node)
    x, out = node.inputs[0], node.output.type.ints
    held = b.order_of(x, integer=integer)
    perm = reshaped_perm(x.type.ints, held, out)
    if perm is None:  # the new axes cut across the order it is stored in
        held = grouped_perm(x.type.ints, held, out)
        perm = reshaped_perm(x.type.ints, held, out) or identity(len(out))
    source = b.get(x, held, integer=integer)
    index = b.reshaped(source, [out[axis] for axis in perm])
    b.alias(node, Stored(index, perm), quantized=integer)


def _transpose(b: Lowering, node: Node, op: Transpose) -> None:
    """Rename the axes; nothing is step until a consumer insists."""
    integer = is_integer(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.order_of(x, integer=integer)
    renamed = tuple(op.perm.index(axis) for axis in perm)
    b.alias(node, Stored(source, renamed), quantized=integer)


def _identity(b: Lowering, node: Node, op: Identity) -> None:
    unchanged(b, node)


def unchanged(b: Lowering, node: Node) -> None:
    """Let a node's output be its operand, on another grid if need be."""
    x = node.inputs[0]
    integer = is_integer(b, node)
    source = b.get(x, integer=integer)
    perm = b.order_of(x, integer=integer)
    if integer:  # the result may be on another grid
        b.operator("QUANTIZE", [source], [b.put(node, perm)], "Quantize")
    else:
        b.stored[node.output] = Stored(source, perm)


def _concat(b: Lowering, node: Node, op: Concat) -> None:
    integer = is_integer(b, node)
    out = node.output.type
    perm = b.common_perm(node, out.rank, integer=integer)
    operands = [b.get(v, perm, integer=integer) for v in node.inputs]
    target, axis = b.put(node, perm), perm.index(op.axis)
    fields = {"axis": axis, "fusedActivationFunction": 0}
    if out.rank <= _CONCAT_AXES:
        b.operator("CONCATENATION", operands, [target], "Concatenation", **fields)
        return
    flat = [_three(b.info(t).shape, axis) for t in operands]
    operands = [b.reshaped(t, shape) for t, shape in zip(operands, flat, strict=True)]
    shape = _three(b.info(target).shape, axis)
    joined = step(
        b, "CONCATENATION", operands, shape, "Concatenation", axis=1, fusedActivationFunction=0
    )
    b.reshaped(joined, b.info(target).shape, target)


_CONCAT_AXES = 6


def _three(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """Return a shape as what is before an axis, the axis and what is after it."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def _pad(b: Lowering, node: Node, op: Pad | MirrorPad | WrapPad) -> None:
    integer = is_integer(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.order_of(x, integer=integer)
    target = b.put(node, perm)
    pads = [op.ends()[axis] for axis in perm]
    shape = b.info(source).shape
    cuts = [range(max(-p, 0), n - max(-q, 0)) for n, (p, q) in zip(shape, pads, strict=True)]
    grows = [(max(p, 0), max(q, 0)) for p, q in pads]
    cutting = any(len(r) < n for r, n in zip(cuts, shape, strict=True))
    growing = any(p or q for p, q in grows)
    if cutting or not growing:
        source = sliced(b, source, cuts, None if growing else target)
    if not growing:
        return
    if isinstance(op, Pad):
        padded_axes(b, source, grows, op.value, target)
    elif isinstance(op, MirrorPad) and op.mode == "reflect":
        amounts = b.ints("pads", grows)
        b.operator("MIRROR_PAD", [source, amounts], [target], "MirrorPad", mode=_REFLECT)
    else:
        _continued(b, source, grows, op.places, target)


_REFLECT = 0  # enum MirrorPadMode


def _continued(
    b: Lowering,
    source: int,
    pads: Sequence[tuple[int, int]],
    places: Callable[[int, int, int], Array],
    target: int,
) -> None:
    """Pick the elements of each padded axis by their indices."""
    axes = [axis for axis, ends in enumerate(pads) if ends != (0, 0)]
    for axis in axes:
        indices = places(b.info(source).shape[axis], *pads[axis])
        source = gathered(b, source, indices, axis, target if axis == axes[-1] else None)


def _slice(b: Lowering, node: Node, op: Slice) -> None:
    integer = is_integer(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.order_of(x, integer=integer)
    cuts = op.ranges(x.type)
    ranges = [cuts.get(axis, range(x.type.ints[axis])) for axis in perm]
    sliced(b, source, ranges, b.put(node, perm))


def _split(b: Lowering, node: Node, op: Split) -> None:
    integer = is_integer(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.order_of(x, integer=integer)
    info, axis = b.info(source), perm.index(op.axis)
    given = [i for i, size in enumerate(op.sizes) if size]
    for i in set(range(len(op.sizes))) - set(given):
        b.put_empty(node, i)
    parts = [b.put(node, perm, i) for i in given]
    sizes = [op.sizes[i] for i in given]
    if info.dtype is DType.BOOL or len(set(sizes)) > 1:
        # No SPLIT takes bool, and XNNPACK takes slices, but no SPLIT_V.
        ranges = [range(n) for n in info.shape]
        for part, size, end in zip(parts, sizes, accumulate(sizes), strict=True):
            ranges[axis] = range(end - size, end)
            sliced(b, source, ranges, part)
    else:
        at = b.ints("axis", axis)
        b.operator("SPLIT", [at, source], parts, "Split", numSplits=len(parts))


def _expand(b: Lowering, node: Node, op: Expand) -> None:
    integer = is_integer(b, node)
    x, out = node.inputs[0], node.output.type
    perm = b.common_perm(node, out.rank, integer=integer)
    source = b.broadcastable(x, out.rank, perm, integer=integer)
    shape = b.ints("shape", [out.ints[axis] for axis in perm])
    b.operator("BROADCAST_TO", [source, shape], [b.put(node, perm)], "BroadcastTo")


def _tile(b: Lowering, node: Node, op: Tile) -> None:
    integer = is_integer(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.order_of(x, integer=integer)
    repeats = b.ints("repeats", [op.repeats[axis] for axis in perm])
    b.operator("TILE", [source, repeats], [b.put(node, perm)], "Tile")


LOWERINGS = {
    Concat: Kernel(_concat, ANY, axes=8),
    Expand: Kernel(_expand, ANY, axes=8),
    Identity: Kernel(_identity, ANY, axes=8),
    MirrorPad: Kernel(_pad, ANY, axes=8),
    Pad: Kernel(_pad, ANY, axes=8),
    Reshape: Kernel(_reshape, ANY, axes=8),
    Slice: Kernel(_slice, ANY, axes=8),
    Split: Kernel(_split, ANY, axes=8),
    Tile: Kernel(_tile, ANY, axes=8),
    Transpose: Kernel(_transpose, ANY, axes=8),
    WrapPad: Kernel(_pad, ANY, axes=8),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
