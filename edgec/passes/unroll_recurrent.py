"""Recurrent layers as the steps they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.frontend.typing import plain, typed
from edgec.ir import Builder, Graph, Node, OnnxNode, TensorType, Value
from edgec.ops import Concat, Greater, Opaque, Recurrent, Reshape, Transpose, Where
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.recurrent_cells import CELL, CELLS, LENGTHS, STATE, Writer

__all__ = ["UnrollRecurrent"]

_SWAP = (1, 0, 2)


@dataclass(frozen=True, slots=True)
class UnrollRecurrent(Pass):
    """Write `RNN`, `GRU` and `LSTM` as their steps, one after the other.

    The products with the input are one layer for all steps; each step then is a layer on the
    state and the functions of the gates. A step behind the end of a sequence keeps the state
    and yields zero. A layer whose batch comes first is turned around before.

    Runtimes have operators of their own for some of these, but TFLite's carry the state over
    from one run of the model to the next. Layers of more than `steps` steps stay.

    Within rounding: sums in another order, and functions as other operators compute them.
    """

    name: ClassVar[str] = "unroll-recurrent"
    promise: ClassVar[Promise] = Within(1e-4)
    steps: int = 512

    @override
    def run(self, graph: Graph) -> Graph:
        graph = _time_first(graph)
        b = Builder(graph)
        for node in graph.nodes:
            if isinstance(node.op, Recurrent) and self._is_short(node):
                _write(Writer(b, node, node.op))
            else:
                b.copy(node)
        return b.finish()

    def _is_short(self, node: Node) -> bool:
        return all(v.type.is_static for v in node.reads) and (
            node.inputs[0].type.ints[0] <= self.steps
        )

    def reason(self, node: Node) -> str | None:
        """Return why a node stays; ``None`` if it is no recurrent layer, or would not stay."""
        if not isinstance(node.op, Recurrent) or self._is_short(node):
            return None
        return (
            f"it takes {node.inputs[0].type.shape[0]} steps, and up to {self.steps} are written"
        )


def _time_first(graph: Graph) -> Graph:
    """Turn layers around whose batch comes first; no typed operator stands for these."""
    b = Builder(graph)
    for node in graph.nodes:
        if not _turn(b, node):
            b.copy(node)
    return b.finish()


def _turn(b: Builder, node: Node) -> bool:
    if not isinstance(node.op, Opaque) or node.op.op_type not in ("GRU", "LSTM", "RNN"):
        return False
    attributes = {a.name: plain(a) for a in node.op.node_proto().attribute}
    if node.op.domain or attributes.pop("layout", 0) != 1:
        return False
    inputs = list(map(b.now, node.inputs))
    if any(v.type.dims is None for v in inputs if not v.is_absent):
        return False
    turned = [
        TensorType(v.type.dtype, tuple(v.type.shape[axis] for axis in _SWAP))
        if i in (0, STATE, CELL) and not v.is_absent
        else v.type
        for i, v in enumerate(inputs)
    ]
    constants = (None,) * len(inputs)
    op = typed(OnnxNode(node.op.op_type, node.op.opset, attributes, tuple(turned), constants))
    if not isinstance(op, Recurrent):
        return False
    for i in (0, STATE, CELL):
        if i < len(inputs) and not inputs[i].is_absent:
            inputs[i] = b.step(Transpose(_SWAP), inputs[i], of=node, near=inputs[i].name)
    names = [b.fresh(f"{v.name}.time_first") for v in node.outputs]
    made = b.add(op, *inputs, names=names, absorbs=(node,))
    for k, (value, result) in enumerate(zip(node.outputs, made, strict=False)):
        perm = _SWAP if k else (2, 0, 1, 3)
        (back,) = b.add(Transpose(perm), result, names=[value.name], absorbs=(node,))
        b.replace(value, back)
    return True


def _write(on: Writer) -> None:
    """Write all directions of a layer, and join what they yield."""
    x, node = on.inputs[0], on.node
    rows = on.add(Reshape((on.steps * on.batch, on.length)), x, name="rows")
    found = [_direction(on, rows, d) for d in range(on.op.directions)]
    on.place = ""
    for k, value in enumerate(node.outputs):
        if value not in on.b.source.users and value not in on.b.source.outputs:
            continue
        if k == 0:
            parts = [_sequence(on, steps) for steps, _ in found]
        else:
            shape = (1, on.batch, on.hidden)
            parts = [on.add(Reshape(shape), states[k - 1], name="last") for _, states in found]
        (new,) = on.b.add(Concat(int(k == 0)), *parts, names=[value.name], absorbs=(node,))
        on.b.replace(value, new)


def _sequence(on: Writer, steps: list[Value]) -> Value:
    rows = on.add(Concat(0), *steps, name="steps")
    return on.add(Reshape((on.steps, 1, on.batch, on.hidden)), rows, name="sequence")


def _direction(on: Writer, rows: Value, d: int) -> tuple[list[Value], list[Value]]:
    """Write one direction; return what each step yields, and the last states."""
    place = on.place = f"{d}/" if on.op.directions > 1 else ""
    cell = CELLS[type(on.op)](on, d)
    given = on.inputs[STATE : STATE + on.op.states]
    states = [on.zeros() if v.is_absent else on.of_direction(v, d, "initial") for v in given]
    projected = on.layer(rows, cell.w, cell.input_bias(), "projected")
    order = list(range(on.steps))
    outputs: dict[int, Value] = {}
    for t in reversed(order) if on.op.direction == "reverse" or d == 1 else order:
        on.place = f"{place}{t}/"
        mask = _mask(on, t)
        if mask is False:
            outputs[t] = on.zeros()
            continue
        new = cell.step(projected, t, states)
        outputs[t] = new[0]
        if isinstance(mask, Value):
            outputs[t] = on.add(Where(), mask, new[0], on.zeros(), name="kept")
            pairs = zip(new, states, strict=True)
            new = [on.add(Where(), mask, a, old, name="state") for a, old in pairs]
        states = new
    on.place = place
    return [outputs[t] for t in order], [_last(on, state) for state in states]


def _mask(on: Writer, t: int) -> Value | bool:
    """Return which sequences of the batch have a step `t`."""
    lengths = on.inputs[LENGTHS]
    if lengths.is_absent:
        return True
    array = on.b.array(lengths)
    if array is not None:
        there = (array > t).reshape(-1, 1)
        mixed = there.any() and not there.all()
        return on.const(there, "valid") if mixed else bool(there.any())
    column = on.add(Reshape((on.batch, 1)), lengths, name="lengths")
    step = on.const(np.array(t, np.int32), "t")
    return on.add(Greater(), column, step, name="valid")


def _last(on: Writer, state: Value) -> Value:
    """Return a last state: zero for an empty sequence, whatever it began with."""
    if on.inputs[LENGTHS].is_absent or all(v.is_absent for v in on.inputs[STATE : STATE + 2]):
        return state
    mask = _mask(on, 0)
    if isinstance(mask, Value):
        return on.add(Where(), mask, state, on.zeros(), name="last")
    return state if mask else on.zeros()
