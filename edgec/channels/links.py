"""Which indices of a node's operands and results go together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array, Graph, Node, TensorType, Tie
from edgec.ops import Gather, GroupedConv, Pad, Reshape, Slice, Split

__all__ = ["Link", "Links", "links_of", "splits"]

Place = tuple[int, int]
"""An operand and an axis of it; operands count the inputs first, then the outputs."""


@dataclass(frozen=True, slots=True)
class Link:
    """Indices of two axes that must be kept or removed together, pair by pair.

    Parameters
    ----------
    left_at, right_at
        As many of one as of the other; an index may come more than once.
    """

    left: Place
    right: Place
    left_at: Array
    right_at: Array


@dataclass(frozen=True, slots=True)
class Links:
    """What a node says of the axes of its operands and results.

    Parameters
    ----------
    unread
        Indices that the node never looks at, or fills with a constant: for all it knows they
        may go.
    """

    pairs: tuple[Link, ...]
    unread: tuple[tuple[Place, Array], ...] = ()


def links_of(graph: Graph, node: Node, *, trailing: bool = False) -> Links:
    """Return which indices of a node's axes go together.

    An index that is in no link and is not unread cannot be removed. Shapes must be known along
    the axes in question; others have no links.

    Parameters
    ----------
    trailing
        Of an axis that a reshape splits in two, or joins of two, only one can lose indices,
        since the other counts them: the first unless this is given.
    """
    inputs = [v.type for v in node.inputs]
    outputs = [v.type for v in node.outputs]
    if not all(t.dims is not None for t in (*inputs, *outputs)):
        return Links(())
    match node.op:
        case Reshape():
            return Links(tuple(_reshaped(inputs[0], outputs[0], trailing=trailing)))
        case GroupedConv():
            return Links(tuple(_grouped(node.op, inputs, outputs[0])))
        case Split(axis=axis, sizes=sizes):
            places = [(1 + k, axis) for k in range(len(sizes))]
            starts = np.cumsum([0, *sizes])
            parts = (
                _link((0, axis), place, start + np.arange(size), np.arange(size))
                for place, start, size in zip(places, starts, sizes, strict=False)
            )
            return Links((*_tied(node, inputs, outputs), *parts))
        case Pad():
            return _padded(node, node.op, inputs[0], outputs)
        case Slice():
            return _sliced(node, node.op, inputs[0], outputs)
        case Gather(axis=axis):
            return _gathered(graph, node, axis, inputs, outputs)
    return Links(tuple(_tied(node, inputs, outputs)))


def splits(node: Node) -> bool:
    """Whether a node has a choice of the axis that may lose indices."""
    if not isinstance(node.op, Reshape) or any(
        not t.is_static for t in (node.inputs[0].type, node.output.type)
    ):
        return False
    parts = _segments(node.inputs[0].type.ints, node.output.type.ints)
    return any(len(a) != len(b) and min(len(a), len(b)) == 1 for a, b in parts)


def _link(left: Place, right: Place, left_at: Array, right_at: Array) -> Link:
    return Link(left, right, np.asarray(left_at), np.asarray(right_at))


def _whole(left: Place, right: Place, length: int) -> Link:
    return _link(left, right, np.arange(length), np.arange(length))


def _tied(
    node: Node, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
) -> Iterator[Link]:
    """Yield what the operator itself declares."""
    operands = (*inputs, *outputs)
    for tie in _declared(node, inputs, outputs):
        (left, left_axis), (right, right_axis) = tie.left, tie.right
        length = operands[left].shape[left_axis]
        other = operands[right].shape[right_axis]
        if not isinstance(length, int) or not isinstance(other, int):
            continue
        at = tie.offset + np.arange(length * tie.repeat)
        if at.size and at[-1] >= other:
            continue  # it broadcasts
        yield _link(tie.left, tie.right, np.repeat(np.arange(length), tie.repeat), at)


def _declared(
    node: Node, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
) -> tuple[Tie, ...]:
    try:
        return node.op.ties(inputs, outputs)
    except ValueError:  # a length that is not known
        return ()


def _segments(
    x: Sequence[int], y: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the shortest runs of axes of two shapes that hold the same elements.

    Axes of length 1 are left out: nothing can be removed from them.
    """
    left = [a for a, d in enumerate(x) if d != 1]
    right = [a for a, d in enumerate(y) if d != 1]
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = i + 1, j + 1
        while math.prod(x[k] for k in left[i:a]) != math.prod(y[k] for k in right[j:b]):
            less = math.prod(x[k] for k in left[i:a]) < math.prod(y[k] for k in right[j:b])
            if (less and a == len(left)) or (not less and b == len(right)):
                return found  # a length of 0
            a, b = (a + 1, b) if less else (a, b + 1)
        found.append((tuple(left[i:a]), tuple(right[j:b])))
        i, j = a, b
    return found


def _reshaped(x: TensorType, y: TensorType, *, trailing: bool) -> Iterator[Link]:
    if not (x.is_static and y.is_static) or 0 in (*x.ints, *y.ints):
        return
    for left, right in _segments(x.ints, y.ints):
        if len(left) == len(right) == 1:
            yield _whole((0, left[0]), (1, right[0]), x.ints[left[0]])
        elif min(len(left), len(right)) == 1:
            one, many = ((0, left[0]), right) if len(left) == 1 else ((1, right[0]), left)
            operand, t = (1, y) if len(left) == 1 else (0, x)
            sizes = [t.ints[a] for a in many]
            axis, inner = (many[-1], 1) if trailing else (many[0], math.prod(sizes[1:]))
            count = math.prod(sizes)
            at = np.arange(count) // inner % t.ints[axis]
            yield _link((operand, axis), one, at, np.arange(count))


def _grouped(op: GroupedConv, inputs: Sequence[TensorType], y: TensorType) -> Iterator[Link]:
    """Yield links with which a group of channels goes as a whole."""
    x, w = inputs[:2]
    if not isinstance(x.shape[1], int):
        return
    inner, outer = x.shape[1] // op.groups, w.ints[0] // op.groups
    group_in = np.arange(x.shape[1]) // inner
    group_out = np.arange(w.ints[0]) // outer
    yield _link((0, 1), (0, 1), group_in * inner, np.arange(x.shape[1]))
    yield _link((0, 1), (1, 0), group_out * inner, np.arange(w.ints[0]))
    ends = [(len(inputs), 1), *([(2, 0)] if len(inputs) > 2 else [])]
    for end in ends:
        yield _whole((1, 0), end, w.ints[0])


def _padded(node: Node, op: Pad, x: TensorType, outputs: Sequence[TensorType]) -> Links:
    """Return links of the values in the middle; the constant ends may go one by one."""
    pairs, unread = list(_tied(node, [x], outputs)), []
    for axis, (before, after) in enumerate(op.ends()):
        length = x.shape[axis]
        if isinstance(length, int) and (before, after) != (0, 0) and min(before, after) >= 0:
            inner = before + np.arange(length)
            pairs.append(_link((0, axis), (1, axis), np.arange(length), inner))
            ends = np.setdiff1d(np.arange(before + length + after), inner)
            unread.append(((1, axis), ends))
    return Links(tuple(pairs), tuple(unread))


def _sliced(node: Node, op: Slice, x: TensorType, outputs: Sequence[TensorType]) -> Links:
    pairs, unread = list(_tied(node, [x], outputs)), []
    if all(isinstance(x.shape[axis], int) for axis in op.axes):
        for axis, taken in op.ranges(x).items():
            if op.steps[op.axes.index(axis)] == 1:
                at = np.array(taken, np.int64)
                pairs.append(_link((0, axis), (1, axis), at, np.arange(len(at))))
                unread.append(((0, axis), np.setdiff1d(np.arange(x.ints[axis]), at)))
    return Links(tuple(pairs), tuple(unread))


def _gathered(
    graph: Graph,
    node: Node,
    axis: int,
    inputs: Sequence[TensorType],
    outputs: Sequence[TensorType],
) -> Links:
    pairs = list(_tied(node, inputs, outputs))
    indices, length = graph.constant(node.inputs[1]), inputs[0].shape[axis]
    if indices is None or indices.ndim != 1 or not isinstance(length, int):
        return Links(tuple(pairs))
    if graph.users.get(node.inputs[1], ()) != (node,) or node.inputs[1] in graph.outputs:
        return Links(tuple(pairs))  # others count by them too
    at = np.where(indices < 0, indices + length, indices).astype(np.int64)
    order = np.arange(len(at))
    pairs += [_link((0, axis), (2, axis), at, order), _link((1, 0), (2, axis), order, order)]
    unread = np.setdiff1d(np.arange(length), at)
    return Links(tuple(pairs), (((0, axis), unread),))
