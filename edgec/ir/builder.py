"""The only way to make a graph from another: replay it, changing what differs."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from edgec.errors import Diagnostic, InternalError
from edgec.ir.graph import Constant, Graph, Node, Value
from edgec.ir.op import Array, Op

__all__ = ["Builder"]


class Builder:
    """Replays `source` node by node into a new graph.

    Types are inferred as nodes are added, so no shape is ever stale; what is no longer
    reachable from the outputs is dropped by :meth:`finish`.
    """

    def __init__(self, source: Graph) -> None:
        self.source = source
        self._now: dict[Value, Value] = {}
        self._nodes: list[Node] = []
        self._producers: dict[Value, Node] = {}
        self._constants: dict[str, Constant] = dict(source.constants)
        self._names = {value.name for value in source.values()}
        self._numbers: dict[str, int] = {}  # the last that followed each name

    def now(self, value: Value) -> Value:
        """The value that stands for a value of the source."""
        return self._now.get(value, value)

    def producer(self, value: Value) -> Node | None:
        """The node of the new graph that defines `value`."""
        return self._producers.get(value)

    def array(self, value: Value) -> Array | None:
        """The array of a constant of the new graph, or ``None`` if `value` is computed."""
        found = self._constants.get(value.name)
        return None if found is None else found.array

    def constant(self, array: Array, near: str) -> Value:
        """Add a constant named after `near`."""
        const, name = Constant(array), self.fresh(near)
        self._constants[name] = const
        return Value(name, const.type)

    def add(
        self,
        op: Op,
        *inputs: Value,
        like: Node | None = None,
        names: Sequence[str] | None = None,
        absorbs: Sequence[Node] = (),
    ) -> tuple[Value, ...]:
        """Add a node, in place of `like` unless `names` are given for its outputs.

        The origin of the new node is that of the nodes it `absorbs` and of `like`. Outputs
        beyond the names get names of their own; names beyond the outputs are left over.

        Raises
        ------
        InternalError
            If the operator does not take these inputs; names the layer.
        """
        origin = tuple(
            dict.fromkeys(o for n in (*absorbs, *((like,) if like else ())) for o in n.origin)
        )
        try:
            types = op.infer_node([v.type for v in inputs], [self.array(v) for v in inputs])
        except ValueError as error:
            place = f"{op}({', '.join(f'{v}: {v.type}' for v in inputs)})"
            layer = " + ".join(origin) or "a new node"
            problem = Diagnostic(f"inputs do not fit: {error}", f"{layer}: {place}")
            raise InternalError("an operator cannot take its inputs", (problem,)) from error
        if names is None:
            if like is None:
                raise InternalError(f"{op} was added without names and without a likeness")
            names = [o.name for o in like.outputs]
        more = [self.fresh(f"{names[0]}.{i}") for i in range(len(names), len(types))]
        outputs = tuple(Value(name, t) for name, t in zip((*names, *more), types, strict=False))
        node = Node(op, inputs, outputs, origin)
        self._nodes.append(node)
        self._producers.update(dict.fromkeys(outputs, node))
        if like is not None and [o.name for o in like.outputs] == list(names):
            self._now.update(zip(like.outputs, outputs, strict=False))
        return outputs

    def step(self, op: Op, *inputs: Value, of: Node, near: str = "") -> Value:
        """Add a node on the way to what `of`, a node of the source, computes.

        It has the origin of `of`, and an output named after `near` or that of `of`.
        """
        names = [self.fresh(near or of.outputs[0].name)]
        return self.add(op, *inputs, names=names, absorbs=(of,))[0]

    def copy(self, node: Node) -> tuple[Value, ...]:
        """Add a node of the source again, on the values that now stand for its inputs."""
        inputs = tuple(map(self.now, node.inputs))
        if inputs != node.inputs:
            return self.add(node.op, *inputs, like=node)
        self._nodes.append(node)  # nothing about it can have changed
        self._producers.update(dict.fromkeys(node.outputs, node))
        return node.outputs

    def replace(self, old: Value, new: Value) -> None:
        """Let `new` stand for `old`, a value of the source, from here on."""
        if old in self.source.outputs and old.name != new.name:
            raise InternalError(f"{old} is a graph output and must keep its name")
        self._now[old] = new

    def rename(self, value: Value, old: Value) -> None:
        """Give a new node's output the name of `old`, a value of the source it stands for.

        Nothing may have read `value` yet.
        """
        node = self._producers.pop(value)
        outputs = tuple(Value(old.name, v.type) if v == value else v for v in node.outputs)
        renamed = Node(node.op, node.inputs, outputs, node.origin)
        position = next(i for i, n in enumerate(self._nodes) if n is node)
        self._nodes[position] = renamed
        self._producers.update(dict.fromkeys(outputs, renamed))
        self._now[old] = Value(old.name, value.type)

    def fresh(self, near: str) -> str:
        """Return a name that nothing has yet, and reserve it."""
        name, n = near, self._numbers.get(near, 0)
        while name in self._names:
            n += 1
            name = f"{near}.{n}"
        self._numbers[near] = n
        self._names.add(name)
        return name

    def finish(self) -> Graph:
        """Return the new graph, or `source` itself if nothing changed."""
        outputs = tuple(map(self.now, self.source.outputs))
        live = {value.name for value in outputs}
        nodes: list[Node] = []
        for node in reversed(self._nodes):
            if any(out.name in live for out in node.outputs):
                nodes.append(node)
                live.update(value.name for value in node.reads)
        graph = Graph(
            self.source.name,
            self.source.inputs,
            outputs,
            tuple(reversed(nodes)),
            MappingProxyType({k: v for k, v in self._constants.items() if k in live}),
        )
        return self.source if graph == self.source else graph
