"""Channels that can only be removed together, over the whole graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.channels.links import Links, links_of, splits
from edgec.ir import Array, Graph, Node
from edgec.ops import Convolution, ConvTranspose, FullyConnected, Gemm, MatMul

__all__ = ["ChannelGroup", "Channels", "Member", "channels_of"]

Axis = tuple[str, int]
"""A value by its name, and an axis of it."""

_NAMED = 2


@dataclass(frozen=True, slots=True)
class Member:
    """The part of a group in one axis of one value.

    Parameters
    ----------
    at
        Indices along the axis, ``[units, n]``: those that go with each unit.
    """

    value: str
    axis: int
    at: Array

    @property
    def place(self) -> Axis:
        """The value and the axis."""
        return self.value, self.axis


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Units that can be removed one by one, each from all its members at once.

    A unit is what people call a channel: a row of the weights that make it, its place in every
    value on the way, and the columns of all weights that read it. It may be several indices of
    an axis, such as the places of an image behind a flatten.

    Parameters
    ----------
    makers, readers
        Layers that make the channels, and that sum over them, in order of the graph.
    """

    members: tuple[Member, ...]
    makers: tuple[Node, ...]
    readers: tuple[Node, ...]

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.members[0].at)

    @property
    def layer(self) -> str:
        """The layers that make the channels, as users call them."""
        rest = len(self.makers) - _NAMED
        more = f" and {rest} more" if rest > 0 else ""
        return " + ".join(n.layer for n in self.makers[:_NAMED]) + more

    def removal(self, units: Sequence[int] | Array) -> dict[Axis, Array]:
        """Return the indices that go with some units, by axis."""
        return {
            m.place: np.sort(m.at[np.asarray(units, np.int64)].ravel()) for m in self.members
        }


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of a graph.

    Parameters
    ----------
    groups
        Those that can be removed.
    reasons
        Why the channels that a layer makes cannot, by the layer's node, where none of them can.
    """

    groups: tuple[ChannelGroup, ...]
    reasons: Mapping[Node, str]

    def made(self, graph: Graph) -> dict[Node, int]:
        """Return how many channels each layer makes with stored weights."""
        return {
            node: length
            for node in graph.nodes
            if (place := _makes(node)) is not None
            and graph.constant(node.inputs[1]) is not None
            and isinstance(length := node.output.type.shape[place[1]], int)
        }

    def free(self, graph: Graph) -> int:
        """Return how many of these can be removed."""
        places = {_makes(node) for node in self.made(graph)}
        return sum(m.at.size for g in self.groups for m in g.members if m.place in places)


def channels_of(graph: Graph) -> Channels:
    """Return which channels of a graph go together, and which cannot be removed.

    Operators declare which axes are tied (see :meth:`edgec.ir.Op.ties`); what they do not is
    not removed. A reshape that splits an axis leaves a choice of what may go; the one that
    leaves more to remove is taken, one reshape after the other.
    """
    found = _Slots(graph, {})
    trailing: dict[Node, bool] = {}
    for node in graph.nodes:
        if splits(node):
            other = _Slots(graph, {**trailing, node: True})
            if other.free_count > found.free_count:
                trailing[node], found = True, other
    return found.channels()


class _Slots:
    """A number for every index of every axis, joined where they go together."""

    def __init__(self, graph: Graph, trailing: Mapping[Node, bool]) -> None:
        self.graph = graph
        self.first: dict[Axis, int] = {}
        self.length: dict[Axis, int] = {}
        self.count = 0
        for value in graph.values():
            for axis, length in enumerate(value.type.dims or ()):
                if isinstance(length, int):
                    self.first[value.name, axis] = self.count
                    self.length[value.name, axis] = length
                    self.count += length
        self.why: list[tuple[Array, Node | None, str]] = []
        lefts: list[Array] = []
        rights: list[Array] = []
        for node in graph.nodes:
            links = links_of(graph, node, trailing=trailing.get(node, False))
            for left, right in self._pairs(node, links):
                lefts.append(left)
                rights.append(right)
            self._block(node, links)
        for value, text in (
            *((v, "they are an input of the model") for v in graph.inputs),
            *((v, "they are an output of the model") for v in graph.outputs),
        ):
            for axis in range(len(value.type.dims or ())):
                if (value.name, axis) in self.first:
                    self.why.append((self._slots(value.name, axis), None, text))
        empty = [np.zeros(0, np.int64)]
        self.root = _joined(
            self.count, np.concatenate(lefts or empty), np.concatenate(rights or empty)
        )
        blocked = np.zeros(self.count, bool)
        for slots, _, _ in self.why:
            blocked[self.root[slots]] = True
        self.free = ~blocked[self.root]

    @property
    def free_count(self) -> int:
        """How many indices can be removed."""
        return int(self.free.sum())

    def _slots(self, name: str, axis: int) -> Array:
        start = self.first[name, axis]
        return np.arange(start, start + self.length[name, axis])

    def _pairs(self, node: Node, links: Links) -> Iterator[tuple[Array, Array]]:
        operands = (*node.inputs, *node.outputs)
        for link in links.pairs:
            ends = [(operands[o].name, a) for o, a in (link.left, link.right)]
            if all(end in self.first for end in ends):
                left, right = (self.first[end] for end in ends)
                yield left + link.left_at, right + link.right_at

    def _block(self, node: Node, links: Links) -> None:
        """Note the indices of which a node does not say what goes with them."""
        operands = (*node.inputs, *node.outputs)
        known: dict[tuple[int, int], list[Array]] = {}
        for link in links.pairs:
            known.setdefault(link.left, []).append(link.left_at)
            known.setdefault(link.right, []).append(link.right_at)
        for place, at in links.unread:
            known.setdefault(place, []).append(at)
        captured = {v.name for v in node.reads} - {v.name for v in operands}
        for name in captured:
            self._block_all(node, name)
        for operand, value in enumerate(operands):
            for axis, length in enumerate(value.type.dims or ()):
                if not isinstance(length, int) or value.is_absent:
                    continue
                rest = np.ones(length, bool)
                for at in known.get((operand, axis), ()):
                    rest[at] = False
                if rest.any():
                    slots = self.first[value.name, axis] + np.flatnonzero(rest)
                    self.why.append((slots, node, f"{node.op} needs all of them"))

    def _block_all(self, node: Node, name: str) -> None:
        for place in self.first:
            if place[0] == name:
                text = "a subgraph reads them"
                self.why.append((self._slots(*place), node, text))

    def channels(self) -> Channels:
        """Return the groups, and why layers are in none."""
        units: dict[int, dict[Axis, list[int]]] = {}
        for place, start in self.first.items():
            at = start + np.arange(self.length[place])
            for i in np.flatnonzero(self.free[at]):
                unit = units.setdefault(int(self.root[at[i]]), {})
                unit.setdefault(place, []).append(int(i))
        kinds: dict[tuple[tuple[Axis, int], ...], list[dict[Axis, list[int]]]] = {}
        for unit in units.values():
            key = tuple((place, len(at)) for place, at in unit.items())
            kinds.setdefault(key, []).append(unit)
        groups = [
            group
            for key, alike in kinds.items()
            if (group := self._group([place for place, _ in key], alike)) is not None
        ]
        return Channels(tuple(groups), self._reasons(groups))

    def _group(
        self, places: Sequence[Axis], units: Sequence[Mapping[Axis, list[int]]]
    ) -> ChannelGroup | None:
        """Return a group if layers make its channels and others read them."""
        members = tuple(
            Member(*place, np.array([unit[place] for unit in units])) for place in places
        )
        touched = set(places)
        makers = tuple(
            n for n in self.graph.nodes if _makes(n) in touched and _rows(n) & touched
        )
        readers = tuple(n for n in self.graph.nodes if _reads(n) & touched)
        return ChannelGroup(members, makers, readers) if makers and readers else None

    def _reasons(self, groups: Sequence[ChannelGroup]) -> dict[Node, str]:
        free = {m.place for group in groups for m in group.members}
        found: dict[Node, str] = {}
        for node in self.graph.nodes:
            place = _makes(node)
            if place is None or place in free or place not in self.first:
                continue
            roots = set(self.root[self._slots(*place)].tolist())
            found[node] = next(
                (
                    text if by is None or by is node else f"{by.layer}: {text}"
                    for slots, by, text in self.why
                    if roots.intersection(self.root[slots].tolist())
                ),
                "no layer sums over them",
            )
        return found


def _makes(node: Node) -> Axis | None:
    """Return the axis of the channels that a layer makes with weights of its own."""
    if isinstance(node.op, Convolution | ConvTranspose | FullyConnected | Gemm):
        return node.output.name, 1
    if isinstance(node.op, MatMul):
        return node.output.name, len(node.output.type.shape) - 1
    return None


def _rows(node: Node) -> set[Axis]:
    """Return the axes of a layer's weights that have its output channels."""
    weight = node.inputs[1]
    axes = {ConvTranspose: 1, MatMul: len(weight.type.shape) - 1}
    axis = next((a for kind, a in axes.items() if isinstance(node.op, kind)), 0)
    return {(weight.name, axis)}


def _reads(node: Node) -> set[Axis]:
    """Return the axis of what a layer reads over which it sums."""
    if isinstance(node.op, MatMul):
        return {(node.inputs[0].name, len(node.inputs[0].type.shape) - 1)}
    if isinstance(node.op, Convolution | ConvTranspose | FullyConnected | Gemm):
        return {(node.inputs[0].name, 1)}
    return set()


def _joined(count: int, left: Array, right: Array) -> Array:
    """Return for each number the least one that it is joined with, over pairs of equals."""
    root = np.arange(count)
    while True:
        least = root.copy()
        np.minimum.at(least, left, root[right])
        np.minimum.at(least, right, root[left])
        least = least[least]
        if np.array_equal(least, root):
            return root
        root = least
