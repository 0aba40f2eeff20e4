"""Write a graph down with its channels in the order of a plan."""

from __future__ import annotations

from collections.abc import Iterable

from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.ops import Concat, Slice, Split
from edgec.passes.channel_moves import CHANNELS, ports
from edgec.passes.channel_plan import Part, Plan, plan

__all__ = ["folded"]


def folded(graph: Graph) -> Graph:
    """Return the graph with as few moves of channels as `plan` finds."""
    made = plan(graph)
    return graph if made is None else folded(_Rewriting(made).run())


class _Rewriting:
    def __init__(self, made: Plan) -> None:
        self.plan, self.graph = made, made.moves.graph
        self.b = Builder(self.graph)
        self._cuts = made.cuts()
        self._parts: dict[Part, Value] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            if not self.plan.is_dropped(node):
                self._add(node)
            for value in node.outputs:
                if value in self.plan.parts:
                    self._join(node, value)
        return self.b.finish()

    def _add(self, node: Node) -> None:
        """Add a node with its constants in the order of what they meet."""
        order = self.plan.order
        orders: list[tuple[int, Array]] = [
            (i, order[v]) for i, v in enumerate(node.inputs) if v in order
        ]
        for k, value in enumerate(node.outputs):
            if value in self.plan.chosen and value in order:
                orders.append((len(node.inputs) + k, order[value]))
        if not orders:
            self.b.copy(node)
            return
        inputs = [self.b.now(v) for v in node.inputs]
        for end, indices in orders:
            found = ports(self.graph, node, end)
            for position, axis in found.constants if found else ():
                array = self.b.array(inputs[position])
                if array is not None:
                    taken = array.take(indices, axis)
                    inputs[position] = self.b.constant(taken, node.inputs[position].name)
        names = [self._name(v) for v in node.outputs]
        outputs = self.b.add(node.op, *inputs, names=names, absorbs=(node,))
        for old, new in zip(node.outputs, outputs, strict=True):
            self.b.replace(old, new)

    def _name(self, value: Value) -> str:
        """Return a name of its own for what is stored in another order."""
        if value in self.plan.order:
            return self.b.fresh(f"{value.name}.reordered")
        return value.name

    def _join(self, node: Node, sink: Value) -> None:
        """Let the parts of a value stand for it."""
        parts = self.plan.parts[sink]
        values = [self._part(part, node) for part in parts]
        if len(values) == 1:
            self.b.replace(sink, values[0])
            return
        (new,) = self.b.add(
            Concat(CHANNELS),
            *values,
            names=[self._name(sink)],
            absorbs=self._moves(node, parts),
        )
        self.b.replace(sink, new)

    def _moves(self, node: Node, parts: Iterable[Part]) -> tuple[Node, ...]:
        """Return the moves between the roots of some parts and what `node` makes."""
        roots = {part.root for part in parts}
        found: dict[tuple[str, ...], Node] = {}
        todo = [node]
        while todo:
            at = todo.pop()
            if at.output_names in found:
                continue
            found[at.output_names] = at
            for value in at.reads:
                maker = self.graph.producers.get(value)
                if maker is not None and value not in roots and self.plan.is_dropped(maker):
                    todo.append(maker)
        return tuple(n for n in self.graph.nodes if n.output_names in found)

    def _part(self, part: Part, node: Node) -> Value:
        stored = self.b.now(part.root)
        if part.is_whole:
            return stored
        if part not in self._parts:
            cut, is_partition = self._cuts[part.root]
            near = f"{part.root.name}.part"
            if is_partition:
                op = Split(CHANNELS, tuple(p.stop - p.start for p in cut))
                names = [self.b.fresh(near) for _ in cut]
                values = self.b.add(op, stored, names=names, absorbs=(node,))
                self._parts.update(zip(cut, values, strict=True))
            else:
                cutting = Slice((part.start,), (part.stop,), (CHANNELS,), (1,))
                self._parts[part] = self.b.step(cutting, stored, of=node, near=near)
        return self._parts[part]
