"""Operators that put elements at indices.

The value becomes a table of rows, and each index the number of a row. Putting is picking: of
the rows there are and those that come, each place picks the last one meant for it. No element
is touched by that, so it is exact for all types.
"""

from __future__ import annotations

from math import prod

import numpy as np

from edgec.ir import DType, Graph, Node, Value
from edgec.ops import ScatterElements, ScatterND, TensorScatter
from edgec.targets.tflite.kernels.index import (
    Places,
    element_places,
    offset,
    slice_places,
    stored,
)
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel, cast, is_integer
from edgec.targets.tflite.kernels.moves import step
from edgec.targets.tflite.lower import Lowering, Stored, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _scatter_elements(b: Lowering, node: Node, op: ScatterElements) -> None:
    x, indices, updates = node.inputs
    places = element_places(b, indices, x.type.ints, op.axis)
    _scatter(b, node, updates, x.type.size, places, op.reduction)


def _scatter_nd(b: Lowering, node: Node, op: ScatterND) -> None:
    x, indices, updates = node.inputs
    named = x.type.ints[: indices.type.ints[-1]]
    places = slice_places(b, indices, named)
    _scatter(b, node, updates, prod(named), places, op.reduction)


def _tensor_scatter(b: Lowering, node: Node, op: TensorScatter) -> None:
    cache, update = (v.type.ints for v in node.inputs[:2])
    batch, outer, length = cache[0], prod(cache[1 : op.axis]), cache[op.axis]
    first: Places = np.zeros((batch, 1, 1), np.int64)
    if len(node.inputs) > 2:
        array = b.graph.constant(node.inputs[2])
        if array is None:
            tensor = cast(b, b.get(node.inputs[2]), DType.INT32)
            first = b.reshaped(tensor, (batch, 1, 1))
        else:
            first = array.reshape(batch, 1, 1)
    along = offset(b, first, np.arange(update[op.axis]))
    if op.circular and isinstance(along, int):
        by = b.ints("length", length)
        along = step(b, "FLOOR_MOD", [along, by], None, "FloorMod")
    elif op.circular:
        along = along % length
    starts = np.arange(batch * outer).reshape(batch, outer, 1) * length
    places = offset(b, along, starts)
    _scatter(b, node, node.inputs[1], batch * outer * length, places, "none")


def _scatter(
    b: Lowering, node: Node, updates: Value, count: int, places: Places, reduction: str
) -> None:
    """Put rows at their places in the first operand, looked at as a table of `count` rows."""
    integer = is_integer(b, node)
    x = node.inputs[0]
    width = x.type.size // count
    rows = b.reshaped(b.row_major(x, integer=integer), (count, width))
    added = updates.type.size // width
    if added == 0:
        result = rows
    else:
        new = b.reshaped(b.row_major(updates, integer=integer), (added, width))
        flat = b.reshaped(places, (added,)) if isinstance(places, int) else places.ravel()
        if reduction == "none":
            result = _picked(b, rows, new, flat)
        else:
            result = _combined(b, rows, new, stored(b, flat), reduction)
    whole = b.reshaped(result, x.type.ints)
    b.alias(node, Stored(whole, identity(x.type.rank)), quantized=integer)


def _picked(b: Lowering, rows: int, new: int, places: Places) -> int:
    """Return the table whose rows are replaced by the last new one at their place."""
    (count, width), added = b.info(rows).shape, b.info(new).shape[0]
    if isinstance(places, int):
        numbers, size = b.ints("numbers", np.arange(added)), b.ints("rows", count)
        last = step(  # where nothing comes, the lowest number of all
            b, "UNSORTED_SEGMENT_MAX", [numbers, places, size], (count,), "UnsortedSegmentMax"
        )
        beyond = offset(b, last, np.array(count))
        own = b.ints("own", np.arange(count))
        source = step(b, "MAXIMUM", [stored(b, beyond), own], None, "MaximumMinimum")
    else:
        chosen = np.arange(count)
        chosen[places] = count + np.arange(added)  # the last of several stays
        if (chosen >= count).all():
            where = b.ints("indices", chosen - count)
            return step(b, "GATHER", [new, where], (count, width), "Gather", axis=0)
        source = b.ints("indices", chosen)
    both = step(
        b,
        "CONCATENATION",
        [rows, new],
        (count + added, width),
        "Concatenation",
        axis=0,
        fusedActivationFunction=0,
    )
    return step(b, "GATHER", [both, source], (count, width), "Gather", axis=0)


_SEGMENTS = {
    "mul": ("UNSORTED_SEGMENT_PROD", "UnsortedSegmentProd"),
    "max": ("UNSORTED_SEGMENT_MAX", "UnsortedSegmentMax"),
    "min": ("UNSORTED_SEGMENT_MIN", "UnsortedSegmentMin"),
}


def _combined(b: Lowering, rows: int, new: int, places: int, reduction: str) -> int:
    """Return the table whose rows are combined with all new ones at their place."""
    info = b.info(rows)
    wide = {DType.FLOAT32, DType.INT32} | ({DType.INT64} if reduction == "add" else set())
    dtype = info.dtype if info.dtype in wide else DType.INT32
    rows, new, shape = cast(b, rows, dtype), cast(b, new, dtype), info.shape
    if reduction == "add":
        where = b.reshaped(places, (*b.info(places).shape, 1))
        size = b.ints("shape", shape)
        total = step(b, "SCATTER_ND", [where, new, size], shape, "ScatterNd", dtype=dtype)
        result = step(b, "ADD", [rows, total], None, "Add", fusedActivationFunction=0)
        return cast(b, result, info.dtype)
    code, options = _SEGMENTS[reduction]
    size = b.ints("rows", shape[0])
    found = step(b, code, [new, places, size], shape, options)
    if reduction == "mul":
        result = step(b, "MUL", [rows, found], None, "Mul", fusedActivationFunction=0)
        return cast(b, result, info.dtype)
    extreme = {"max": "MAXIMUM", "min": "MINIMUM"}[reduction]
    result = step(b, extreme, [rows, found], None, "MaximumMinimum")
    if dtype is DType.FLOAT32:
        # Where nothing comes, or only an infinity, the kernel gives the largest finite number.
        infinity = b.constant(f"{b.layer}/infinity", np.array(_INFINITY[reduction], np.float32))
        code, options = {"max": ("GREATER", "Greater"), "min": ("LESS", "Less")}[reduction]
        counts = cast(
            b, step(b, code, [new, infinity], None, options, dtype=DType.BOOL), DType.INT32
        )
        segments = [counts, places, size]
        any_ = step(b, "UNSORTED_SEGMENT_MAX", segments, shape, "UnsortedSegmentMax")
        zero = b.ints("zero", 0)
        inside = step(b, "GREATER", [any_, zero], None, "Greater", dtype=DType.BOOL)
        chosen = [inside, result, rows]
        result = step(b, "SELECT_V2", chosen, shape, "SelectV2", dtype=dtype)
    return cast(b, result, info.dtype)


_INFINITY = {"max": -np.inf, "min": np.inf}


def _narrow(graph: Graph, node: Node) -> str | None:
    """What is multiplied or compared at an index is not int64."""
    reduction = getattr(node.op, "reduction", "none")
    wide = node.inputs[0].type.dtype is DType.INT64
    return f"{node.inputs[0]} is" if wide and reduction not in ("none", "add") else None


LOWERINGS = {
    ScatterElements: Kernel(_scatter_elements, ANY, axes=8),
    ScatterND: Kernel(_scatter_nd, ANY, axes=8),
    TensorScatter: Kernel(_tensor_scatter, ANY, axes=8),
}

CONSTRAINTS = (
    Constraint((ScatterElements, ScatterND), _narrow, "compute in int32 or float32"),
)
