"""Choose layouts of values such that as few nodes as possible convert between them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from edgec.ir import Builder, Graph, Node, Op, Value
from edgec.ops import Identity
from edgec.passes.min_cut import Network
from edgec.passes.views import View

__all__ = ["place"]

_NODE = 1 << 50
"""What one conversion costs beside the bytes it moves, which only decide between equals."""

_SEEN, _STORED = "seen", "stored"
_FOREVER = float("inf")


def place(graph: Graph, view: View) -> Graph:
    """Return the graph with as few conversions to and from `view` as there can be.

    The graph itself if it has as few already, and moves as few bytes in them. Every node that
    can compute in either layout, its operands and results alike, is a place where the choice
    is free; what is converted at the borders is a minimum cut.
    """
    plan = _Plan(graph, view)
    if not plan.cost:
        return graph
    cost, stored = plan.best()
    if cost >= plan.cost:
        return graph
    after = _rewritten(plan, stored)
    # What a view takes for a conversion need not be one: a transpose of a single axis.
    return graph if set(after.nodes) == set(graph.nodes) else after


@dataclass
class _Plan:
    """What the choice is about.

    Attributes
    ----------
    turned
        By node that computes in either layout: the operator for stored operands.
    makers
        By node that makes either layout of the same operands: the operator for the stored one.
    cost
        Of the graph as it is.
    """

    graph: Graph
    view: View
    turned: dict[tuple[str, ...], Op] = field(default_factory=dict)
    makers: dict[tuple[str, ...], Op] = field(default_factory=dict)
    seers: set[tuple[str, ...]] = field(default_factory=set)
    storers: set[tuple[str, ...]] = field(default_factory=set)
    cost: float = 0

    def __post_init__(self) -> None:
        graph, view = self.graph, self.view
        near = self._near()
        from_seen: set[Value] = set()
        for node in graph.nodes:
            if node.output_names not in near:
                continue
            if node.output_names in self.turned:
                if not from_seen.isdisjoint(node.inputs):
                    from_seen.update(node.outputs)
            elif not self._converts(node):
                if (op := self._made(node)) is not None:
                    self.makers[node.output_names] = op
            # A conversion may be its own inverse. It is taken for what undoes the one before.
            elif view.is_stored(node) and (
                not view.is_seen(node) or node.inputs[0] in from_seen
            ):
                self.storers.add(node.output_names)
                self.cost += self.price(node.inputs[0])
            else:
                self.seers.add(node.output_names)
                from_seen.add(node.output)
                self.cost += self.price(node.output)

    def _near(self) -> set[tuple[str, ...]]:
        """Return the nodes at or between which conversions may move; fill `turned`."""
        graph = self.graph
        todo = [n for n in graph.nodes if self._converts(n)]
        near = {n.output_names for n in todo}
        while todo:
            node = todo.pop()
            values = (*node.inputs, *node.outputs)
            for value in values:
                if not self.view.stores(value.type) and not self._converts(node):
                    continue
                maker = graph.producers.get(value)
                for other in (*([maker] if maker else ()), *graph.users.get(value, ())):
                    if other.output_names in near:
                        continue
                    near.add(other.output_names)
                    if (op := self._turned(other)) is not None:
                        self.turned[other.output_names] = op
                        todo.append(other)
        return near

    def _converts(self, node: Node) -> bool:
        """Whether a node converts between the layouts; what it does to constants is folded."""
        converts = self.view.is_seen(node) or self.view.is_stored(node)
        return converts and self.graph.constant(node.inputs[0]) is None

    def _made(self, node: Node) -> Op | None:
        if len(node.outputs) != 1 or not self.view.stores(node.output.type):
            return None
        return self.view.makes_either(node)

    def _turned(self, node: Node) -> Op | None:
        """Return the operator of a node for stored operands and results, if it has one."""
        graph, view = self.graph, self.view
        if not all(view.stores(v.type) for v in node.outputs):
            return None
        op = view.turned(node)
        if op is None:
            return None
        for value in node.inputs:
            array = graph.constant(value)
            if array is not None:
                if view.constant(array, node.outputs[0].type) is None:
                    return None
            elif value.is_absent or not (view.stores(value.type) or view.is_same(value.type)):
                return None
        return op

    def price(self, value: Value) -> float:
        """Return what it costs to convert a value."""
        return _NODE + self.view.cost_bytes(value.type)

    def best(self) -> tuple[float, set[Hashable]]:
        """Return the least cost, and the names of the nodes that compute as stored."""
        network = Network(_SEEN, _STORED)
        for value in self._values():
            readers = list(self._readers(value))
            if not readers:
                continue
            maker = self._maker(value)
            if maker != _STORED:
                wants = (value, _STORED)
                network.add(maker, wants, self.price(value))
                for reader in readers:
                    network.add(wants, reader, _FOREVER)
            if maker != _SEEN:
                wants = (value, _SEEN)
                network.add(wants, maker, self.price(value))
                for reader in readers:
                    network.add(reader, wants, _FOREVER)
        return network.cut()

    def _values(self) -> Iterator[Value]:
        """Yield the values that may be laid out in two ways."""
        for value in (*self.graph.inputs, *(v for n in self.graph.nodes for v in n.outputs)):
            if self.view.stores(value.type) and not self.view.is_same(value.type):
                yield value

    def _maker(self, value: Value) -> Hashable:
        """Return how a value is made: in one layout, or as its node is."""
        node = self.graph.producers.get(value)
        if node is None:
            return _SEEN
        if node.output_names in self.turned or node.output_names in self.makers:
            return node.output_names
        return _STORED if node.output_names in self.seers else _SEEN

    def _readers(self, value: Value) -> Iterator[Hashable]:
        """Yield how a value is read, by those readers to which it matters."""
        if value in self.graph.outputs:
            yield _SEEN
        for node in self.graph.users.get(value, ()):
            if node.output_names in self.turned:
                yield node.output_names
            elif node.output_names in self.storers:
                yield _STORED
            elif node.output_names in self.seers or self.view.takes_either(node) is None:
                yield _SEEN


class _Layouts:
    """Both layouts of each value in a graph that is being rewritten, made when first needed."""

    def __init__(self, plan: _Plan) -> None:
        self.plan, self.view = plan, plan.view
        self.b = Builder(plan.graph)
        self._stored: dict[Value, Value] = {}
        self._unseen: dict[Value, Node] = {}

    def seen(self, old: Value) -> Value:
        """Return the value that stands for `old`, as it was."""
        if old in self._unseen:
            node = self._unseen.pop(old)
            op = self.view.see(old.type)
            (new,) = self.b.add(op, self._stored[old], names=[old.name], absorbs=(node,))
            self.b.replace(old, new)
        return self.b.now(old)

    def has_seen(self, old: Value) -> bool:
        """Whether `old` is there as it was, without a conversion."""
        return old not in self._unseen

    def has_stored(self, old: Value) -> bool:
        """Whether what `old` is stored as is there, without a conversion."""
        return old in self._stored

    def stored(self, old: Value, node: Node) -> Value:
        """Return what `old` is stored as, for a `node` that reads it."""
        if self.view.is_same(old.type):
            return self.seen(old)
        if old not in self._stored:
            array = self.plan.graph.constant(old)
            if array is not None:
                made = self.view.constant(array, node.outputs[0].type)
                if made is None or made is array:
                    return self.b.now(old)
                return self.b.constant(made, near=old.name)
            maker = self.plan.graph.producers.get(old, node)
            op = self.view.store(old.type)
            (self._stored[old],) = self.b.add(
                op, self.b.now(old), names=[self.name(old)], absorbs=(maker,)
            )
        return self._stored[old]

    def name(self, old: Value) -> str:
        """Return the name of an output of the graph that is what `old` is stored as, or one."""
        for reader in self.plan.graph.users.get(old, ()):
            if (
                reader.output_names in self.plan.storers
                and reader.output in self.plan.graph.outputs
            ):
                return reader.output.name
        return self.b.fresh(f"{old.name}.stored")

    def hold(self, old: Value, new: Value, node: Node) -> None:
        """Let `new` be what `old` is stored as; `node` made `old`, which is not there now."""
        self._stored[old] = new
        self._unseen[old] = node

    def hold_too(self, old: Value, new: Value) -> None:
        """Let `new` be what `old` is stored as, beside `old` itself."""
        self._stored.setdefault(old, new)


def _rewritten(plan: _Plan, chosen: set[Hashable]) -> Graph:
    at = _Layouts(plan)
    for node in plan.graph.nodes:
        first = node.inputs[0] if node.inputs else None
        if node.output_names in plan.seers:
            at.hold(node.output, at.seen(node.inputs[0]), node)
        elif node.output_names in plan.storers and first and at.has_stored(first):
            _bind(at, node)
        elif node.output_names in chosen:
            _store(at, node)
        elif (op := _on_stored(at, node)) is not None:
            at.b.add(op, *(at.stored(v, node) for v in node.inputs), like=node)
        else:
            at.b.add(node.op, *map(at.seen, node.inputs), like=node)
            if node.output_names in plan.storers and first:
                at.hold_too(first, at.b.now(node.output))
    for value in plan.graph.outputs:
        at.seen(value)
    return at.b.finish()


def _bind(at: _Layouts, node: Node) -> None:
    """Drop a conversion whose result is there already."""
    new = at.stored(node.inputs[0], node)
    if node.output not in at.plan.graph.outputs:
        at.b.replace(node.output, new)
    elif new.name != node.output.name:
        at.b.add(Identity(), new, like=node)


def _store(at: _Layouts, node: Node) -> None:
    """Add a node that computes as stored."""
    view, plan = at.view, at.plan
    if (op := plan.makers.get(node.output_names)) is not None:
        inputs = [at.seen(v) for v in node.inputs]
    else:
        op = plan.turned[node.output_names]
        inputs = [at.stored(v, node) for v in node.inputs]
    names = [v.name if view.is_same(v.type) else at.name(v) for v in node.outputs]
    outputs = at.b.add(op, *inputs, names=names, absorbs=(node,))
    for old, new in zip(node.outputs, outputs, strict=True):
        if not view.is_same(old.type):
            at.hold(old, new, node)


def _on_stored(at: _Layouts, node: Node) -> Op | None:
    """Return how a node computes the same from stored operands, if these are all there is."""
    if node.output_names in at.plan.turned or all(map(at.has_seen, node.inputs)):
        return None
    return at.view.takes_either(node)
