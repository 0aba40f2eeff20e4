"""Loops as the steps they take, and both branches of a condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import InternalError, ModelError
from edgec.evaluate import evaluate
from edgec.frontend.bodies import body_graph, inline
from edgec.frontend.typing import plain
from edgec.ir import Array, Builder, Constant, ContainerType, Graph, Node, Op, Value
from edgec.ops import And, Concat, Identity, Opaque, Reshape, Slice, Where
from edgec.ops.control import ControlFlow
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.eliminate_identities import EliminateIdentities
from edgec.passes.expand_functions import ExpandFunctions
from edgec.passes.fold_constants import FoldConstants
from edgec.passes.pipelines import lossless

__all__ = ["UnrollLoops"]

_SMALL = 64
"""Constants of up to so many elements may decide what a body is, as counters do."""


@dataclass(frozen=True, slots=True)
class UnrollLoops(Pass):
    """Write `Loop` and `Scan` as their steps, one after the other, and `If` as a choice.

    A `Loop` must tell how often it runs at most; one that may end before keeps its values from
    then on, and can return no list of steps. A body is simplified once for all steps, or for
    each step where it depends on the step's number. Of an `If` both branches are computed and
    `Where` takes one; their results must have the same known shapes. Sequences stay.

    No more than `nodes` nodes are written for one loop. Within rounding: bodies are simplified
    by passes that promise no more.
    """

    name: ClassVar[str] = "unroll-loops"
    promise: ClassVar[Promise] = Within(1e-4)
    nodes: int = 20_000

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            results = self._written(b, node)
            if results is None or isinstance(results, str):
                b.copy(node)
                continue
            for value, result in zip(node.outputs, results, strict=False):
                if result is not None:
                    (named,) = b.add(Identity(), result, names=[value.name], absorbs=(node,))
                    b.replace(value, named)
        after = b.finish()
        if after is graph:
            return graph
        return EliminateIdentities().run(FoldConstants().run(after))

    def reason(self, graph: Graph, node: Node) -> str | None:
        """Return why a node of `graph` stays; ``None`` if it is no loop, or would not stay."""
        found = self._written(Builder(graph), node)
        return found if isinstance(found, str) else None

    def _written(self, b: Builder, node: Node) -> Sequence[Value | None] | str | None:
        op = node.op
        if not isinstance(op, ControlFlow):
            return None
        if any(isinstance(v.type, ContainerType) for v in (*node.inputs, *node.outputs)):
            return "it has sequences"
        try:
            results = _WRITERS[op.op_type](_Site(b, node, op, self))
        except _Stays as reason:
            return str(reason)
        except (InternalError, ModelError, ValueError, KeyError, IndexError) as error:
            # Nobody has looked at bodies until now: whether they fit shows as they are written.
            found = getattr(error, "diagnostics", ()) or (error,)
            return f"its body makes no sense: {found[0]}"
        for value, result in zip(node.outputs, results, strict=False):
            if result is not None and not result.type.refines(value.type):
                return f"it yields {result.type} where the model says {value.type}"
        return results


class _Stays(Exception):  # noqa: N818  (a signal within this module)
    """Says why a node is not written out."""


class _Site:
    """One node with subgraphs, and the place where its steps are written."""

    def __init__(self, b: Builder, node: Node, op: ControlFlow, step: UnrollLoops) -> None:
        self.b, self.node, self.op, self.step = b, node, op, step
        inputs = list(map(b.now, node.inputs))
        count = len(inputs) - len(op.captures)
        self.inputs, self.outer = inputs[:count], inputs[count:]
        self.attributes: dict[str, Any] = {
            a.name: plain(a) for a in op.node_proto().attribute if not a.HasField("g")
        }
        self.bodies = op.bodies
        self.graphs: dict[Any, tuple[Graph, dict[str, Value]]] = {}
        self.written = 0
        self.goes_on = False
        self.computed: set[Value] = set()  # from what the model is given

    def add(self, op: Op, *inputs: Value, name: str) -> Value:
        return self.b.step(
            op, *inputs, of=self.node, near=f"{self.node.outputs[0].name}/{name}"
        )

    def const(self, array: Array, name: str) -> Value:
        return self.b.constant(array, near=f"{self.node.outputs[0].name}/{name}")

    def is_read(self, output: int) -> bool:
        if output >= len(self.node.outputs):
            return False
        value = self.node.outputs[output]
        return value in self.b.source.users or value in self.b.source.outputs

    def run(self, name: str, arguments: Sequence[Value], place: str) -> list[Value]:
        """Write a subgraph once, and return what it yields."""
        graph, constants = self.graph(name, arguments)
        self.written += max(len(graph.nodes), 1)
        self.goes_on = _goes_on(graph)
        self.check_room(1)
        now = {v: v for v in self.outer}
        for info, value in zip(self.bodies[name].input, arguments, strict=True):
            now |= {v: value for v in graph.inputs if v.name == f"{info.name}.given"}
        return [self.plain(v) for v in inline(self.b, graph, now, constants, self.node, place)]

    def check_room(self, steps: int) -> None:
        """Raise if what was written so far, so many times over, is too much."""
        if self.written * steps > self.step.nodes:
            raise _Stays(f"it takes more than {self.step.nodes} nodes")

    def graph(self, name: str, arguments: Sequence[Value]) -> tuple[Graph, dict[str, Value]]:
        """Return a subgraph for arguments of these types, and its constants written so far.

        What the arguments contain is made use of only if the subgraph is not clear without.
        """
        types = tuple(v.type for v in arguments)
        if (name, types) not in self.graphs:
            self.graphs[name, types] = self.simplified(name, arguments, {})
        found = self.graphs[name, types]
        if _is_clear(found[0]) and (self.op.op_type != "Loop" or _goes_on(found[0])):
            return found
        arrays = [self.b.array(v) for v in arguments]
        known = {k: a for k, a in enumerate(arrays) if a is not None and a.size <= _SMALL}
        return self.simplified(name, arguments, known) if known else found

    def simplified(
        self, name: str, arguments: Sequence[Value], known: dict[int, Array]
    ) -> tuple[Graph, dict[str, Value]]:
        if len(self.bodies[name].input) != len(arguments):
            raise _Stays("its body takes other inputs")
        outer = [(v, self.b.array(v)) for v in self.outer]
        types = [v.type for v in arguments]
        graph = body_graph(self.op, self.bodies[name], types, known, outer)
        for step in (ExpandFunctions(), FoldConstants(), self.step, *lossless()):
            graph = step.run(graph)
        return graph, {v.name: v for v, array in outer if array is not None}

    def constant(self, value: Value) -> Array | None:
        """Return a value that depends on constants only, or ``None``."""
        array = self.b.array(value)
        part = None if array is not None else self._part(value)
        return array if part is None else evaluate(part, {})[value.name]

    def _part(self, value: Value) -> Graph | None:
        """Return what a value is computed by, or ``None`` if not from constants alone.

        Steps read each other, hundreds in a row: no recursion, and none is looked at twice.
        """
        nodes: list[Node] = []
        constants: dict[str, Constant] = {}
        known: set[Value] = set()
        path = [value]
        while path:
            node, array = self.b.producer(path[-1]), self.b.array(path[-1])
            if array is not None:
                constants[path[-1].name] = Constant(array)
                known.add(path.pop())
                continue
            if node is None or isinstance(node.op, Opaque) or path[-1] in self.computed:
                self.computed.update(path)
                return None
            unknown = [v for v in node.reads if v not in known]
            if unknown:
                path.append(unknown[0])
            else:
                nodes.append(node)
                known.update(node.outputs)
                path.pop()
        return Graph("constant", (), (value,), tuple(nodes), constants)

    def settled(self, value: Value) -> Value:
        """Return a counter as the constant it is."""
        t = value.type
        if t.dtype.is_float or not t.is_static or t.size > _SMALL:
            return value
        array = None if self.b.array(value) is not None else self.constant(value)
        return value if array is None else self.const(array, "counter")

    def plain(self, value: Value) -> Value:
        """Return what a value is a copy of."""
        while (producer := self.b.producer(value)) and isinstance(producer.op, Identity):
            value = producer.inputs[0]
        return value


def _is_clear(graph: Graph) -> bool:
    """Whether all is known of a body that can be known."""
    types = [v.type for n in graph.nodes for v in n.outputs]
    typed = not any(isinstance(n.op, Opaque) for n in graph.nodes)
    return typed and all(t.is_static for t in types)


def _goes_on(graph: Graph) -> bool:
    """Whether the body of a loop has the same to say of every next step."""
    producer = graph.producers.get(graph.outputs[0])
    return producer is not None and isinstance(producer.op, Identity)


def _joined(on: _Site, parts: list[Value], axis: int, name: str) -> Value:
    """Return values with a new axis along which they follow each other."""
    if not parts:
        raise _Stays("it takes no step, and returns a list of them")
    rows: list[Value] = []
    for part in parts:
        if not part.type.is_static:
            raise _Stays("the shape of what a step yields is not known")
        shape = list(part.type.ints)
        shape.insert(axis % (len(shape) + 1), 1)
        rows.append(on.add(Reshape(tuple(shape)), part, name=name))
    return on.add(Concat(axis % rows[0].type.rank), *rows, name=name)


# ---- Loop ---------------------------------------------------------------------------------


def _loop(on: _Site) -> Sequence[Value | None]:
    most, condition, *states = on.inputs
    limit = _count(on, most)
    running = _known(on, condition)
    yields = len(on.bodies["body"].output) - 1 - len(states)
    lists = [k for k in range(yields) if on.is_read(len(states) + k)]
    steps: list[list[Value]] = []
    while running is not False and (limit is None or len(steps) < limit):
        open_ended = limit is None or limit > on.step.nodes
        if isinstance(running, Value) and (open_ended or lists):
            raise _Stays("how often it runs is computed")
        t = len(steps)
        given = running if isinstance(running, Value) else on.const(np.array(True), "condition")
        number = on.const(np.array(t, np.int64), "t")
        again, *found = on.run("body", [number, given, *states], f"{t}/")
        if limit is not None and on.goes_on and t == 0:
            on.check_room(limit)  # rather than after many steps
        steps.append(found[len(states) :])
        new, after = found[: len(states)], _known(on, again)
        if isinstance(running, Value):
            states = [_chosen(on, running, a, old) for a, old in zip(new, states, strict=True)]
            if isinstance(after, Value):
                after = on.add(And(), running, after, name="condition")
            running = running if after is True else after
        else:
            states, running = list(map(on.settled, new)), after
    joined: list[Value | None] = [None] * yields
    for k in lists:
        joined[k] = _joined(on, [step[k] for step in steps], 0, "steps")
    return [*states, *joined]


def _count(on: _Site, value: Value) -> int | None:
    if value.is_absent:
        return None
    array = on.b.array(value)
    if array is None:
        raise _Stays("how often it runs is computed")
    return int(array.reshape(-1)[0])


def _known(on: _Site, condition: Value) -> Value | bool:
    """Return a condition as a scalar, or as what it always is."""
    if condition.is_absent:
        return True
    array = on.constant(condition)
    if array is not None:
        return bool(array.all())
    if condition.type.dims == ():
        return condition
    return on.add(Reshape(()), condition, name="condition")


def _chosen(on: _Site, condition: Value, yes: Value, no: Value) -> Value:
    if yes == no:
        return yes
    if yes.type != no.type or not yes.type.is_static:
        raise _Stays(f"its result is {yes.type} or {no.type}")
    return on.add(Where(), condition, yes, no, name="chosen")


# ---- Scan ---------------------------------------------------------------------------------


def _scan(on: _Site) -> Sequence[Value | None]:
    count = on.attributes["num_scan_inputs"]
    if on.op.opset < 9 or count > len(on.inputs):
        raise _Stays("it is of a form before opset 9")
    states, sequences = on.inputs[:-count], on.inputs[-count:]
    yields = len(on.bodies["body"].output) - len(states)
    in_axes = on.attributes.get("scan_input_axes", [0] * count)
    backwards = on.attributes.get("scan_input_directions", [0] * count)
    if not all(v.type.is_static for v in sequences):
        raise _Stays("the length of a sequence is not known")
    total = sequences[0].type.ints[in_axes[0] % sequences[0].type.rank]
    outputs: list[list[Value]] = [[] for _ in range(yields)]
    for t in range(total):
        parts = [
            _part(on, x, axis, total - 1 - t if back else t)
            for x, axis, back in zip(sequences, in_axes, backwards, strict=True)
        ]
        found = on.run("body", [*states, *parts], f"{t}/")
        if t == 0:
            on.check_room(total)
        states = found[: len(states)]
        for steps, value in zip(outputs, found[len(states) :], strict=True):
            steps.append(value)
    out_axes = on.attributes.get("scan_output_axes", [0] * yields)
    ends = on.attributes.get("scan_output_directions", [0] * yields)
    joined: list[Value | None] = []
    for k, steps in enumerate(outputs):
        ordered = steps[::-1] if ends[k] else steps
        read = on.is_read(len(states) + k)
        joined.append(_joined(on, ordered, out_axes[k], "steps") if read else None)
    return [*states, *joined]


def _part(on: _Site, x: Value, axis: int, t: int) -> Value:
    """Return one index of an axis, without the axis."""
    axis %= x.type.rank
    array = on.b.array(x)
    if array is not None:
        return on.const(np.array(array.take(t, axis)), "part")
    cut = on.add(Slice((t,), (t + 1,), (axis,), (1,)), x, name="part")
    shape = tuple(length for k, length in enumerate(x.type.ints) if k != axis)
    return on.add(Reshape(shape), cut, name="part")


# ---- If -----------------------------------------------------------------------------------


def _if(on: _Site) -> Sequence[Value | None]:
    condition = _known(on, on.inputs[0])
    if not isinstance(condition, Value):
        raise _Stays("its condition is known")  # constant folding takes the branch
    yes, no = (on.run(f"{name}_branch", [], f"{name}/") for name in ("then", "else"))
    return [
        _chosen(on, condition, a, z) if on.is_read(k) else None
        for k, (a, z) in enumerate(zip(yes, no, strict=True))
    ]


_WRITERS: dict[str, Callable[[_Site], Sequence[Value | None]]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
}
