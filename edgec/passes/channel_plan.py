"""In which order channels are to be stored so that few of them have to be moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from edgec.ir import Array, Graph, Node, Value
from edgec.ops import Concat, Reshape
from edgec.passes.channel_moves import CHANNELS, ChannelMoves, ports

__all__ = ["Part", "Plan", "plan"]


class Part(NamedTuple):
    """Channels `start` up to `stop` of a root, in the order in which it is stored."""

    root: Value
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the root."""
        return self.stop - self.start == self.root.type.ints[CHANNELS]


@dataclass
class Plan:
    """What replaces the moves of a graph.

    Attributes
    ----------
    free
        Values that need not keep the order of their channels.
    order
        By value that is stored in another order: channel ``i`` as stored is channel
        ``order[i]``.
    chosen
        The values among them whose order the node that makes them is free to choose.
    parts
        By value that moves make and that others read: what it is stored as, put together.
    """

    moves: ChannelMoves
    free: set[Value]
    order: dict[Value, Array] = field(default_factory=dict)
    chosen: set[Value] = field(default_factory=set)
    parts: dict[Value, tuple[Part, ...]] = field(default_factory=dict)

    def is_dropped(self, node: Node) -> bool:
        """Whether nothing needs what a move makes as it is."""
        graph = self.moves.graph
        used = (v for v in node.outputs if v in graph.users or v in graph.outputs)
        return self.moves.is_move(node) and self.free.issuperset(used)

    def cuts(self) -> dict[Value, tuple[tuple[Part, ...], bool]]:
        """Return the parts of each root that is cut, and whether they are a partition of it."""
        cut: dict[Value, set[Part]] = defaultdict(set)
        for parts in self.parts.values():
            for part in parts:
                if not part.is_whole:
                    cut[part.root].add(part)
        found = {}
        for root, some in cut.items():
            parts = tuple(sorted(some, key=lambda p: p[1:]))
            ends = [0, *(p.stop for p in parts)]
            full = [*(p.start for p in parts), root.type.ints[CHANNELS]]
            found[root] = parts, ends == full
        return found


def plan(graph: Graph) -> Plan | None:
    """Return a plan with which fewer bytes are moved, in no more nodes; ``None`` if none is."""
    moves = ChannelMoves(graph)
    # Concatenations alone bring nothing into another order.
    if all(isinstance(graph.producers[v].op, Concat) for v in moves.origins):
        return None
    roots = {root for origin in moves.origins.values() for root in origin.root}
    rigid = roots & moves.within.keys()  # images by themselves, not only on the way
    while True:
        made = Plan(moves, moves.free(rigid))
        _fill(graph, made, rigid)
        worse = set(_worse(made)) - rigid
        if not worse:
            return made if made.parts else None
        rigid |= worse


def _fill(graph: Graph, made: Plan, rigid: set[Value]) -> None:
    """Choose orders and parts."""
    moves = made.moves
    sinks = [
        v
        for v in moves.origins
        if v in made.free and not all(map(moves.is_move, graph.users.get(v, ())))
    ]
    readers: dict[Value, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, sink in enumerate(sinks):
        origin = moves.origins[sink]
        for root, index in zip(origin.root, origin.index.tolist(), strict=True):
            readers[root][index].append(number)
    wishes: dict[Value, Array] = {}
    for root, by in readers.items():
        maker = _chooser(graph, made, root)
        if maker is not None:
            count = root.type.ints[CHANNELS]
            wish = np.array(sorted(range(count), key=lambda c: by.get(c, [len(sinks)])))
            wishes.setdefault(maker, wish)
    for node in graph.nodes:
        for value in node.outputs:
            if value in moves.origins:
                if value in sinks:
                    _join(made, value)
            elif value in wishes:
                made.chosen.add(value)
                _store(made, value, wishes[value])
        if not moves.is_move(node):
            _pass_on(graph, made, node)


def _chooser(graph: Graph, made: Plan, root: Value) -> Value | None:
    """Return the value in whose order `root` is stored, if that can be any order."""
    value = root
    while value in made.free and (node := graph.producers.get(value)) is not None:
        found = ports(graph, node, len(node.inputs) + node.outputs.index(value))
        if found is None or made.moves.is_move(node) or len(found.outputs) > 1:
            return None
        if not found.data:
            return value
        (before, *others) = (node.inputs[i] for i in found.data)
        if others:
            return None
        value = before
    return None


def _join(made: Plan, sink: Value) -> None:
    """Put a value together of as few parts as there can be."""
    origin = made.moves.origins[sink]
    rank: dict[Value, int] = {}
    places: dict[Value, Array] = {}
    for root in origin.root:
        if root not in rank:
            rank[root] = len(rank)
            count = root.type.ints[CHANNELS]
            order = made.order.get(root)
            places[root] = np.arange(count) if order is None else np.argsort(order)
    at = [
        (rank[root], int(places[root][index]))
        for root, index in zip(origin.root, origin.index, strict=True)
    ]
    order = np.array(sorted(range(len(at)), key=at.__getitem__))
    parts: list[Part] = []
    for channel in order:
        root, place = origin.root[channel], at[channel][1]
        if parts and parts[-1].root == root and parts[-1].stop == place:
            parts[-1] = parts[-1]._replace(stop=place + 1)
        else:
            parts.append(Part(root, place, place + 1))
    made.parts[sink] = tuple(parts)
    _store(made, sink, order)


def _store(made: Plan, value: Value, order: Array) -> None:
    if (order != np.arange(len(order))).any():
        made.order[value] = order


def _pass_on(graph: Graph, made: Plan, node: Node) -> None:
    for position, value in enumerate(node.inputs):
        if value in made.order:
            found = ports(graph, node, position)
            for k in found.outputs if found else ():
                made.order[node.outputs[k]] = made.order[value]


def _worse(made: Plan) -> Iterator[Value]:
    """Yield the moved values that had better be made as they are."""
    moves, graph = made.moves, made.moves.graph
    group: dict[Value, Value] = {}

    def find(value: Value) -> Value:
        while (up := group.get(value, value)) != value:
            value = up
        return value

    for origin in moves.origins.values():
        for root in dict.fromkeys(origin.root):
            group[find(root)] = find(origin.root[0])
    before: dict[Value, list[int]] = defaultdict(lambda: [0, 0])
    after: dict[Value, list[int]] = defaultdict(lambda: [0, 0])
    members: dict[Value, list[Value]] = defaultdict(list)
    for node in graph.nodes:
        if not made.is_dropped(node):
            continue
        first = node.outputs[0]
        image = moves.within.get(first, first)
        key = find(moves.origin(image).root[0])
        members[key].extend(node.outputs)
        moved = (
            0 if isinstance(node.op, Reshape) else sum(v.type.size_bytes for v in node.outputs)
        )
        _count(before[key], 1, moved)
    for sink, parts in made.parts.items():
        if len(parts) > 1:
            _count(after[find(parts[0].root)], 1, sink.type.size_bytes)
    for root, (cut, is_partition) in made.cuts().items():
        each = root.type.size_bytes // root.type.ints[CHANNELS]
        moved = sum(part.stop - part.start for part in cut) * each
        _count(after[find(root)], 1 if is_partition else len(cut), moved)
    for key, (nodes, moved) in before.items():
        if after[key][1] >= moved or after[key][0] > nodes:
            yield from members[key]


def _count(total: list[int], nodes: int, moved: int) -> None:
    total[0] += nodes
    total[1] += moved
