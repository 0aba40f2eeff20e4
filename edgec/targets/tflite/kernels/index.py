"""Operators that pick elements by index, and the places that indices stand for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from edgec.ir import Array, DType, Node, Value
from edgec.ops import Gather, GatherElements, GatherND
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel, cast, is_integer
from edgec.targets.tflite.kernels.moves import step
from edgec.targets.tflite.lower import Lowering, identity

__all__ = [
    "CONSTRAINTS",
    "LOWERINGS",
    "Places",
    "element_places",
    "offset",
    "slice_places",
    "stored",
]

Places = Array | int
"""Indices into an axis: known, or a tensor of int32."""


def _gather(b: Lowering, node: Node, op: Gather) -> None:
    integer = is_integer(b, node)
    x, indices = node.inputs
    perm = b.perm_of(x, integer=integer) if indices.type.rank < 2 else None
    perm = perm or identity(x.type.rank)
    source = b.get(x, perm, integer=integer)
    where = stored(b, _counted(b, indices, x.type.ints[op.axis]))
    kept = perm if indices.type.rank == 1 else identity(node.output.type.rank)
    if indices.type.rank == 0:  # the axis is gone, the order of the others stays
        kept = tuple(a - (a > op.axis) for a in perm if a != op.axis)
    axis = perm.index(op.axis)
    step(b, "GATHER", [source, where], None, "Gather", b.put(node, kept), axis=axis)


def _gather_elements(b: Lowering, node: Node, op: GatherElements) -> None:
    x, indices = node.inputs
    places = element_places(b, indices, x.type.ints, op.axis)
    _pick(b, node, [x.type.size], places)


def _gather_nd(b: Lowering, node: Node, op: GatherND) -> None:
    x, indices = node.inputs
    shape, named = x.type.ints, op.batch_dims + indices.type.ints[-1]
    places = slice_places(b, indices, shape[:named], op.batch_dims)
    _pick(b, node, [prod(shape[:named]), *shape[named:]], places)


def _pick(b: Lowering, node: Node, shape: Sequence[int], places: Places) -> None:
    """Pick slices of the first operand, looked at under another shape."""
    integer = is_integer(b, node)
    rows = b.reshaped(b.row_major(node.inputs[0], integer=integer), shape)
    target = b.put(node, identity(node.output.type.rank))
    step(b, "GATHER", [rows, stored(b, places)], None, "Gather", target, axis=0)


def element_places(b: Lowering, indices: Value, shape: Sequence[int], axis: int) -> Places:
    """Return where elements are in row-major order, given their indices along one axis."""
    strides = [prod(shape[a + 1 :]) for a in range(len(shape))]
    along = np.zeros(indices.type.ints, np.int64)
    for a, (length, stride) in enumerate(zip(indices.type.ints, strides, strict=True)):
        if a != axis:
            ways = [-1 if i == a else 1 for i in range(len(shape))]
            along += (np.arange(length) * stride).reshape(ways)
    counted = _counted(b, indices, shape[axis])
    return offset(b, _times(b, counted, strides[axis]), along)


def slice_places(
    b: Lowering, indices: Value, shape: Sequence[int], batch_dims: int = 0
) -> Places:
    """Return where slices are in row-major order, given their indices along the last axis.

    Parameters
    ----------
    shape
        Lengths of the axes that are shared, which are `batch_dims`, and of those named.
    """
    named = shape[batch_dims:]
    strides = [prod(named[a + 1 :]) for a in range(len(named))]
    counted = _counted(b, indices, *named)
    parts = _times(b, counted, *strides)
    rest = indices.type.ints[:-1]
    if not isinstance(parts, int):
        flat: Places = parts.sum(-1)
    elif len(named) == 1:
        flat = b.reshaped(parts, rest)
    else:
        last = b.ints("last", [len(rest)])
        flat = step(b, "SUM", [parts, last], rest, "Reducer", keepDims=False)
    batches = rest[:batch_dims]
    starts = np.arange(prod(batches)).reshape(*batches, *(1,) * (len(rest) - batch_dims))
    return offset(b, flat, starts * prod(named))


def _counted(b: Lowering, indices: Value, *lengths: int) -> Places:
    """Return indices counted from the front, which is how the kernels want them.

    Parameters
    ----------
    lengths
        Of the axis, or of the axes that the elements of the last axis name.
    """
    array = b.graph.constant(indices)
    length = np.array(lengths if len(lengths) > 1 else lengths[0])
    if array is not None:
        return np.where(array < 0, array + length, array).astype(np.int64)
    tensor = b.get(indices, identity(indices.type.rank))
    if b.info(tensor).dtype not in (DType.INT32, DType.INT64):
        tensor = cast(b, tensor, DType.INT32)
    info = b.info(tensor)
    by = b.constant(f"{b.layer}/length", length.astype(info.dtype.numpy))
    return cast(b, step(b, "FLOOR_MOD", [tensor, by], info.shape, "FloorMod"), DType.INT32)


def _times(b: Lowering, places: Places, *strides: int) -> Places:
    if not isinstance(places, int):
        return np.asarray(places * np.array(strides))
    if set(strides) == {1}:
        return places
    by = b.ints("stride", strides if len(strides) > 1 else strides[0])
    return step(b, "MUL", [places, by], None, "Mul", fusedActivationFunction=0)


def offset(b: Lowering, places: Places, by: Array) -> Places:
    """Return places moved by known distances, which broadcast with them."""
    if not isinstance(places, int):
        return np.asarray(places + by)
    shape = b.info(places).shape
    if not by.any() and np.broadcast_shapes(by.shape, shape) == shape:
        return places
    return step(b, "ADD", [places, b.ints("start", by)], None, "Add", fusedActivationFunction=0)


def stored(b: Lowering, places: Places) -> int:
    """Return the tensor of places."""
    return places if isinstance(places, int) else b.ints("indices", places)


LOWERINGS = {
    Gather: Kernel(_gather, ANY, axes=8),
    GatherElements: Kernel(_gather_elements, ANY, axes=8),
    GatherND: Kernel(_gather_nd, ANY, axes=8),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
