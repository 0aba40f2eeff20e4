"""A graph without some of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgec.errors import InternalError
from edgec.ir import Array, Builder, Graph, Node, Op, Value
from edgec.ops import Gather, GroupedConv, Pad, Reshape, Slice, Split

__all__ = ["without"]

Removal = Mapping[tuple[str, int], Array]


def without(graph: Graph, removed: Removal) -> Graph:
    """Return a graph without some indices of some axes.

    What is removed must go together, as a :class:`~edgec.channels.ChannelGroup` has it.

    Parameters
    ----------
    removed
        Indices by value and axis.

    Raises
    ------
    InternalError
        If what is left does not fit together.
    """
    if not any(at.size for at in removed.values()):
        return graph
    b = Builder(graph)
    for value in graph.values():
        array = graph.constant(value)
        if array is not None and (cut := _cut(array, value, removed)) is not array:
            b.replace(value, b.constant(cut, near=value.name))
    for node in graph.nodes:
        inputs = [b.now(v) for v in node.inputs]
        touched = any(v != b.now(v) for v in node.inputs) or any(
            (v.name, axis) in removed
            for v in (*node.inputs, *node.outputs)
            for axis in range(len(v.type.dims or ()))
        )
        if not touched:
            b.copy(node)
            continue
        if isinstance(node.op, Gather) and (node.inputs[1].name, 0) in removed:
            inputs[1] = _renumbered(b, graph, node, removed)
        b.add(_adapted(node, removed), *inputs, like=node)
        _check(b, node, removed)
    return b.finish()


def _cut(array: Array, value: Value, removed: Removal) -> Array:
    for axis in range(array.ndim):
        at = removed.get((value.name, axis))
        if at is not None and at.size:
            array = np.delete(array, at, axis)
    return array


def _kept(value: Value, axis: int, removed: Removal) -> int:
    """Return the length of an axis that is left; -1 where it is not known."""
    length = value.type.shape[axis]
    if not isinstance(length, int):
        return -1
    return length - len(removed.get((value.name, axis), ()))


def _adapted(node: Node, removed: Removal) -> Op:
    """Return the operator of a node, with lengths and places that are still right."""
    op = node.op
    match op:
        case Reshape():
            y = node.output
            shape = tuple(_kept(y, axis, removed) for axis in range(len(op.shape)))
            return replace(op, shape=shape)
        case Split(axis=axis):
            return replace(op, sizes=tuple(_kept(v, axis, removed) for v in node.outputs))
        case GroupedConv():
            weight = node.inputs[1]
            outer = weight.type.ints[0] // op.groups
            return replace(op, groups=_kept(weight, 0, removed) // outer)
        case Pad():
            return replace(op, pads=_ends(node, op, removed))
        case Slice():
            return _moved(node, op, removed)
    return op


def _ends(node: Node, op: Pad, removed: Removal) -> tuple[int, ...]:
    """Return the pads that are left."""
    found = np.array(op.ends()).T
    for axis, (before, after) in enumerate(op.ends()):
        gone = removed.get((node.output.name, axis))
        length = node.output.type.shape[axis]
        if gone is not None and isinstance(length, int):
            found[0, axis] -= (gone < before).sum()
            found[1, axis] -= (gone >= length - after).sum()
    return tuple(int(n) for n in found.ravel())


def _moved(node: Node, op: Slice, removed: Removal) -> Slice:
    x = node.inputs[0]
    starts, ends = list(op.starts), list(op.ends)
    for k, axis in enumerate(op.axes):
        gone = removed.get((x.name, axis))
        if gone is None:
            continue
        taken = op.ranges(x.type)[axis]
        starts[k] = taken.start - int((gone < taken.start).sum())
        ends[k] = starts[k] + _kept(node.output, axis, removed)
    return replace(op, starts=tuple(starts), ends=tuple(ends))


def _renumbered(b: Builder, graph: Graph, node: Node, removed: Removal) -> Value:
    """Return indices into what is left, for those that are left."""
    x, indices = node.inputs
    array = graph.constant(indices)
    if array is None or not isinstance(node.op, Gather):
        raise InternalError(f"{node.layer} gathers by indices that are not known")
    length = x.type.ints[node.op.axis]
    at = np.where(array < 0, array + length, array)
    at = np.delete(at, removed[indices.name, 0])
    gone = removed.get((x.name, node.op.axis), np.zeros(0, np.int64))
    left = at - np.searchsorted(np.sort(gone), at)
    return b.constant(left.astype(array.dtype), near=indices.name)


def _check(b: Builder, node: Node, removed: Removal) -> None:
    """Raise if a result is not of the length that is left."""
    for value in node.outputs:
        now = b.now(value)
        for axis, length in enumerate(now.type.dims or ()):
            want = _kept(value, axis, removed)
            if isinstance(length, int) and want != -1 and length != want:
                raise InternalError(
                    f"{node.layer}: {value} has {length} along axis {axis}, {want} are left"
                )
