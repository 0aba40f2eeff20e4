"""Operators whose results are as long as the data say.

The kernels of the runtime find the lengths when they run; a length that is not known before
is -1 here.
"""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, Graph, Node
from edgec.ops import Compress, ConstantOfShape, NonZero, Range, Unique
from edgec.targets.tflite.kernels.kernel import ANY, NUMBERS, Constraint, Kernel, cast
from edgec.targets.tflite.kernels.moves import gathered, step
from edgec.targets.tflite.lower import Lowering, Stored, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _give(b: Lowering, node: Node, tensor: int, output: int = 0) -> None:
    stored = Stored(tensor, identity(node.outputs[output].type.rank))
    b.alias(node, stored, quantized=False, output=output)


def _positions(b: Lowering, mask: int) -> int:
    """Return where a mask holds, one position a row."""
    rank = len(b.info(mask).shape)
    return step(b, "WHERE", [mask], (-1, rank), dtype=DType.INT64)


def _nonzero(b: Lowering, node: Node, op: NonZero) -> None:
    x = node.inputs[0]
    source = b.get(x, identity(x.type.rank))
    if x.type.rank == 0:
        source = b.reshaped(source, (1,))
    rows = _positions(b, cast(b, source, DType.BOOL))
    rank = max(x.type.rank, 1)
    perm = b.ints("perm", (1, 0))
    _give(b, node, step(b, "TRANSPOSE", [rows, perm], (rank, -1), "Transpose"))


def _compress(b: Lowering, node: Node, op: Compress) -> None:
    x, condition = node.inputs
    source = b.row_major(x, integer=False)
    axis = 0 if op.axis is None else op.axis
    source = b.reshaped(source, (x.type.size,) if op.axis is None else x.type.ints)
    held = b.graph.constant(condition)
    if held is not None:
        _give(b, node, gathered(b, source, np.flatnonzero(held), axis))
        return
    rows = _positions(b, b.get(condition))
    shape = list(b.info(source).shape)
    shape[axis] = -1
    where = step(b, "SQUEEZE", [rows], (-1,), "Squeeze", squeezeDims=[1])
    _give(b, node, step(b, "GATHER", [source, where], shape, "Gather", axis=axis))


def _range(b: Lowering, node: Node, op: Range) -> None:
    given = node.inputs[0].type.dtype
    dtype = given if given in (DType.FLOAT32, DType.INT32, DType.INT64) else DType.INT32
    start, limit, delta = (cast(b, b.reshaped(b.get(v), ()), dtype) for v in node.inputs)
    # The kernel refuses a limit on the other side of the start, where nothing comes out.
    zero = b.constant(f"{b.layer}/zero", np.array(0, dtype.numpy))
    up = step(b, "MAXIMUM", [limit, start], (), "MaximumMinimum")
    down = step(b, "MINIMUM", [limit, start], (), "MaximumMinimum")
    falls = step(b, "LESS", [delta, zero], (), "Less", dtype=DType.BOOL)
    limit = step(b, "SELECT_V2", [falls, down, up], (), "SelectV2", dtype=dtype)
    result = step(b, "RANGE", [start, limit, delta], (-1,), "Range")
    _give(b, node, cast(b, result, given))


def _constant_of_shape(b: Lowering, node: Node, op: ConstantOfShape) -> None:
    t = node.output.type
    value = b.constant(f"{b.layer}/value", np.array(op.value).astype(t.dtype.numpy))
    dims = b.ints("shape", t.ints) if t.is_static else b.get(node.inputs[0])
    shape = t.ints if t.is_static else (-1,) * t.rank
    _give(b, node, step(b, "FILL", [dims, value], shape, "Fill", dtype=t.dtype))


def _unique(b: Lowering, node: Node, op: Unique) -> None:
    """Compare all pairs: a row is the number of other distinct rows that come before it."""
    x = node.inputs[0]
    rank = x.type.rank
    if op.axis is None:
        order, count = identity(rank), x.type.size
    else:
        order = (op.axis, *(a for a in range(rank) if a != op.axis))
        count = x.type.ints[op.axis]
    width = x.type.size // count
    source = b.reshaped(b.get(x, order), (count, width))
    if b.info(source).dtype not in (DType.FLOAT32, DType.INT32, DType.INT64):
        source = cast(b, source, DType.INT32)
    equal, before = _compared(b, source)
    first = step(  # the first of its equals
        b,
        "ARG_MAX",
        [cast(b, equal, DType.INT32), b.ints("axis", 1)],
        (count,),
        "ArgMax",
        dtype=DType.INT32,
        outputType=DType.INT32,
    )
    numbers = b.ints("numbers", np.arange(count))
    is_first = step(b, "EQUAL", [first, numbers], None, "Equal", dtype=DType.BOOL)
    ones = cast(b, is_first, DType.INT32)
    if op.sorted:
        counted = step(b, "MUL", [cast(b, before, DType.INT32), ones], None, "Mul",
                       fusedActivationFunction=0)  # fmt: skip
        rank_of = _total(b, counted, 1)
    else:
        axis = b.ints("axis", 0)
        earlier = step(b, "CUMSUM", [ones, axis], None, "Cumsum", exclusive=True)
        rank_of = step(b, "GATHER", [earlier, first], (count,), "Gather", axis=0)
    # Each distinct row tells its number the place of its first; the others tell one beyond.
    nowhere = b.ints("count", count)
    told = step(b, "SELECT_V2", [is_first, rank_of, nowhere], (count,), "SelectV2",
                dtype=DType.INT32)  # fmt: skip
    size = b.ints("size", count + 1)
    places = step(b, "UNSORTED_SEGMENT_MAX", [numbers, told, size], (count + 1,),
                  "UnsortedSegmentMax")  # fmt: skip
    end = b.reshaped(_total(b, ones, 0), (1,))
    cut = [places, b.ints("begin", [0]), end, b.ints("strides", [1])]
    places = step(b, "STRIDED_SLICE", cut, (-1,), "StridedSlice")
    whole = b.get(x, identity(rank))
    if op.axis is None:
        whole = b.reshaped(whole, (count,))
    axis_of = op.axis or 0
    shape = list(b.info(whole).shape)
    shape[axis_of] = -1
    times = _total(b, cast(b, equal, DType.INT32), 1)
    _give(b, node, step(b, "GATHER", [whole, places], shape, "Gather", axis=axis_of))
    _give(b, node, cast(b, places, DType.INT64), 1)
    _give(b, node, cast(b, rank_of, DType.INT64), 2)
    often = step(b, "GATHER", [times, places], (-1,), "Gather", axis=0)
    _give(b, node, cast(b, often, DType.INT64), 3)


def _total(b: Lowering, tensor: int, axis: int) -> int:
    shape = [n for i, n in enumerate(b.info(tensor).shape) if i != axis]
    where = b.ints("axes", [axis])
    return step(b, "SUM", [tensor, where], shape, "Reducer", keepDims=False)


def _compared(b: Lowering, rows: int) -> tuple[int, int]:
    """Return which rows equal each row, and which come before it, as two square masks."""
    count, width = b.info(rows).shape
    mine, theirs = b.reshaped(rows, (count, 1, width)), b.reshaped(rows, (1, count, width))
    same = step(b, "EQUAL", [mine, theirs], None, "Equal", dtype=DType.BOOL)
    less = step(b, "LESS", [theirs, mine], None, "Less", dtype=DType.BOOL)
    square = (count, count)
    if width == 1:
        return b.reshaped(same, square), b.reshaped(less, square)
    axis = b.ints("along", [2])
    equal = step(b, "REDUCE_ALL", [same, axis], square, "Reducer", keepDims=False)
    # The first element that differs decides: none before it does.
    differ = cast(b, step(b, "LOGICAL_NOT", [same], None, "LogicalNot"), DType.INT32)
    seen = step(b, "CUMSUM", [differ, b.ints("last", 2)], None, "Cumsum", exclusive=True)
    zero = b.ints("zero", 0)
    opening = step(b, "EQUAL", [seen, zero], None, "Equal", dtype=DType.BOOL)
    decides = step(b, "LOGICAL_AND", [less, opening], None, "LogicalAnd")
    before = step(b, "REDUCE_ANY", [decides, axis], square, "Reducer", keepDims=False)
    return equal, before


_PAIRS = 1 << 24


def _few_pairs(graph: Graph, node: Node) -> str | None:
    """All pairs of elements that may be equal are few enough to compare."""
    op, x = node.op, node.inputs[0].type
    count = x.size if not isinstance(op, Unique) or op.axis is None else x.ints[op.axis]
    return None if 0 < count * x.size <= _PAIRS else f"there are {count} in {node.inputs[0]}"


LOWERINGS = {
    Compress: Kernel(_compress, ANY, axes=8, dynamic=True),
    ConstantOfShape: Kernel(_constant_of_shape, ANY, axes=8, dynamic=True),
    NonZero: Kernel(_nonzero, ANY, axes=8, dynamic=True),
    Range: Kernel(_range, NUMBERS, dynamic=True),
    Unique: Kernel(_unique, ANY, axes=8, dynamic=True),
}

CONSTRAINTS = (Constraint((Unique,), _few_pairs, "look for distinct values after the model"),)
