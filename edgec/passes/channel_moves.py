"""Where channels come from that moves bring together, and who may take them in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgec.ir import Array, Graph, Node, Value
from edgec.ops import Concat, Gather
from edgec.passes.strided_views import MOVES, StridedView

__all__ = ["CHANNELS", "ChannelMoves", "Origin", "Ports", "ports"]

CHANNELS = 1
"""The axis of channels in values of at least one spatial axis."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where each channel of a value comes from.

    Parameters
    ----------
    root
        By channel: the value, made by no move, that holds it.
    index
        By channel: its index there.
    """

    root: tuple[Value, ...]
    index: Array

    def take(self, channels: Array) -> Origin:
        """Return the origin of some channels."""
        return Origin(tuple(self.root[c] for c in channels), self.index[channels])


@dataclass(frozen=True, slots=True)
class Ports:
    """What of a node goes with the channels of one of its values.

    Parameters
    ----------
    data
        Operands, by position, whose channels are in the same order.
    constants
        Constant operands and the axis of each that is in the same order.
    outputs
        Results whose channels are in the same order.
    """

    data: tuple[int, ...]
    constants: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]


def ports(graph: Graph, node: Node, operand: int) -> Ports | None:
    """Return what goes with the channels of an operand, which may be an output.

    Operands count the inputs first, then the outputs. ``None`` if channels cannot change
    places there: because the node does not tie them to anything, ties them to something that
    is in no order of channels, or repeats them.
    """
    end, count = (operand, CHANNELS), len(node.inputs)
    reads = [v.type for v in node.inputs]
    makes = [v.type for v in node.outputs]
    if not all(v.is_absent or v.type.is_static for v in (*node.inputs, *node.outputs)):
        return None
    ties = node.op.ties(reads, makes)
    found, todo = {end}, [end]
    while todo:
        at = todo.pop()
        for tie in ties:
            if at not in (tie.left, tie.right):
                continue
            if tie.repeat != 1 or tie.offset:
                return None
            other = tie.right if tie.left == at else tie.left
            if other not in found:
                found.add(other)
                todo.append(other)
    if len(found) == 1:
        return None
    data, constants, outputs = [], [], []
    for position, axis in sorted(found):
        if position >= count:
            outputs.append(position - count)
        elif graph.constant(node.inputs[position]) is not None:
            constants.append((position, axis))
            continue
        else:
            data.append(position)
        if axis != CHANNELS:
            return None
    return Ports(tuple(data), tuple(constants), tuple(outputs))


def _is_image(value: Value) -> bool:
    """Whether a value has channels, and spatial axes beside."""
    t = value.type
    return t.dims is not None and len(t.dims) > 2 and t.is_static and 0 not in t.ints


@dataclass
class ChannelMoves:
    """The moves of a graph that only bring channels together in another order.

    Attributes
    ----------
    origins
        By value that such a move makes, and that is an image again.
    within
        By value on the way there: the image that it is a view of.
    """

    graph: Graph
    origins: dict[Value, Origin] = field(default_factory=dict)
    within: dict[Value, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.graph.nodes:
            for value in node.outputs:
                if _is_image(value) and (origin := self._origin(node, value)) is not None:
                    self.origins[value] = origin

    def origin(self, value: Value) -> Origin:
        """Return where the channels of a value come from, which may be itself."""
        if value in self.origins:
            return self.origins[value]
        count = value.type.ints[CHANNELS]
        return Origin((value,) * count, np.arange(count))

    def _origin(self, node: Node, value: Value) -> Origin | None:
        op, graph = node.op, self.graph
        if isinstance(op, Concat):
            if op.axis != CHANNELS or not all(map(_is_image, node.inputs)):
                return None
            parts = [self.origin(v) for v in node.inputs]
            roots = tuple(root for part in parts for root in part.root)
            return Origin(roots, np.concatenate([part.index for part in parts]))
        if not isinstance(op, MOVES):
            return None
        x = node.inputs[0]
        if isinstance(op, Gather):
            index = graph.constant(node.inputs[1])
            if op.axis == CHANNELS and index is not None and index.ndim == 1 and _is_image(x):
                return self.origin(x).take(index % x.type.ints[CHANNELS])
        way: list[tuple[Node, Value]] = [(node, value)]
        while True:
            if _is_image(x):
                view: StridedView | None = StridedView.whole(x.type.ints)
                for step, made in reversed(way):
                    view = None if view is None else view.through(graph, step, made)
                taken = None if view is None else view.along(CHANNELS, x.type.ints)
                if taken is not None and len(taken) == value.type.ints[CHANNELS]:
                    self.within.update((made, x) for _, made in way[1:])
                    return self.origin(x).take(taken)
            maker = graph.producers.get(x)
            if maker is None or not isinstance(maker.op, MOVES):
                return None
            way.append((maker, x))
            x = maker.inputs[0]

    def free(self, rigid: set[Value]) -> set[Value]:
        """Return the images whose channels may be in any order.

        All that read one either take it in any order, or pass the order on to values that
        are free too.

        Parameters
        ----------
        rigid
            Images that are to keep their order.
        """
        free: set[Value] = set()
        for node in reversed(self.graph.nodes):
            for value in node.outputs:
                known = _is_image(value) or value in self.within
                if known and value not in rigid and self._is_free(value, free):
                    free.add(value)
        return free

    def _is_free(self, value: Value, free: set[Value]) -> bool:
        readers = self.graph.users.get(value, ())
        if value in self.graph.outputs or not readers:
            return False
        return all(self._takes_any_order(node, value, free) for node in readers)

    def _takes_any_order(self, node: Node, value: Value, free: set[Value]) -> bool:
        if self.is_move(node):
            graph = self.graph
            return all(
                v in free for v in node.outputs if v in graph.users or v in graph.outputs
            )
        if value in self.within:
            return False
        for position, operand in enumerate(node.inputs):
            if operand == value:
                found = ports(self.graph, node, position)
                if found is None or found.data != (position,):
                    return False
                if not free.issuperset(node.outputs[k] for k in found.outputs):
                    return False
        return True

    def is_move(self, node: Node) -> bool:
        """Whether a node brings channels in another order, or is on the way there."""
        return any(v in self.origins or v in self.within for v in node.outputs)
