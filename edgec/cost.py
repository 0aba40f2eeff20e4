"""What a graph costs, counted without running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgec.errors import InternalError, ModelError
from edgec.frontend.bodies import body_graph
from edgec.frontend.typing import plain
from edgec.ir import DType, Graph, Node, TensorType, Value
from edgec.ops import Dequantize, If, Loop, Quantize
from edgec.ops.control import ControlFlow

__all__ = ["Cost", "cost", "node_macs"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums over a graph.

    Parameters
    ----------
    parameters
        Elements of all constants, those of subgraphs included.
    macs
        Multiply-accumulates of one inference; untyped operators count as none. A subgraph
        counts as often as it runs, or once if only the data tell; of two branches the dearer.
    weight_bytes
        Bytes of all constants as they are stored, those of subgraphs included.
    peak_activation_bytes
        The most bytes of activations alive at once when nodes run in order, every value in
        its own place; 0 if a shape is not known. What only stands between a dequantize and
        a quantize is not stored by an integer runtime and not counted.
    """

    nodes: int
    parameters: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int


def cost(graph: Graph) -> Cost:
    """Return what `graph` costs; with a batch of one where the batch is open."""
    arrays = [c.array for c in graph.constants.values()]
    found = [(node, tuple(_bodies(graph, node))) for node in graph.nodes]
    inner = [body for _, bodies in found for body in bodies]
    return Cost(
        len(graph.nodes),
        sum(a.size for a in arrays) + sum(body.parameters for body in inner),
        sum(_macs(node, bodies) for node, bodies in found),
        sum(a.nbytes for a in arrays) + sum(body.weight_bytes for body in inner),
        _peak_activation_bytes(graph),
    )


def node_macs(graph: Graph, node: Node) -> int:
    """Return the multiply-accumulates of one node; 0 if a shape is not known."""
    return _macs(node, tuple(_bodies(graph, node)))


def _macs(node: Node, bodies: tuple[_Body, ...]) -> int:
    if bodies:
        return max(body.times * body.macs for body in bodies)
    inputs = [v.type.bound() for v in node.inputs]
    outputs = [v.type.bound() for v in node.outputs]
    operands = (*node.inputs, *node.outputs)
    known = zip(operands, (*inputs, *outputs), strict=True)
    if not all(v.is_absent or t.is_static for v, t in known):
        return 0
    return node.op.macs(inputs, outputs)


_ENDLESS = 2**31 - 1
"""The most steps from which on a loop runs until its condition fails: exporters write the
largest number of 32 or of 64 bits."""


class _Body(NamedTuple):
    """A subgraph, and how often it runs."""

    times: int
    macs: int
    parameters: int
    weight_bytes: int


def _bodies(graph: Graph, node: Node) -> Iterator[_Body]:
    """Yield what the subgraphs of a node cost, each of its own."""
    op = node.op
    if not isinstance(op, ControlFlow):
        return
    count = len(node.inputs) - len(op.captures)
    inputs, outer = node.inputs[:count], node.inputs[count:]
    times, types = _steps(graph, op, inputs)
    known = [(v, graph.constant(v)) for v in outer]
    for subgraph in op.bodies.values():
        try:
            body = body_graph(op, subgraph, types, {}, known)
        except (InternalError, ModelError, ValueError):
            continue  # what cannot be read counts as nothing, like untyped operators
        inner = cost(body)
        shared = [a for v, a in known if a is not None and v.name in body.constants]
        yield _Body(
            times,
            inner.macs,
            inner.parameters - sum(a.size for a in shared),
            inner.weight_bytes - sum(a.nbytes for a in shared),
        )


def _steps(
    graph: Graph, op: ControlFlow, inputs: Sequence[Value]
) -> tuple[int, list[TensorType]]:
    """Return how often a subgraph runs, and the types of what it is given each time."""
    if isinstance(op, If):
        return 1, []
    if isinstance(op, Loop):
        most = None if inputs[0].is_absent else graph.constant(inputs[0])
        times = _ENDLESS if most is None else max(int(most.reshape(-1)[0]), 0)
        times = 1 if times >= _ENDLESS else times
        number, again = TensorType(DType.INT64, ()), TensorType(DType.BOOL, ())
        return times, [number, again, *(v.type for v in inputs[2:])]
    attributes = {a.name: plain(a) for a in op.node_proto().attribute}
    scanned = attributes["num_scan_inputs"]
    axes = attributes.get("scan_input_axes", (0,) * scanned)
    times, split = 1, len(inputs) - scanned
    types = [v.type for v in inputs[:split]]
    for value, axis in zip(inputs[split:], axes, strict=True):
        shape = list(value.type.shape)
        length = shape.pop(axis % len(shape))
        times = length if isinstance(length, int) else times
        types.append(value.type.with_shape(tuple(shape)))
    return times, types


def _is_virtual(graph: Graph, value: Value) -> bool:
    """Whether a value exists only on the way from one integer value to the next."""
    if value in graph.outputs:
        return False
    producer, users = graph.producers.get(value), graph.users.get(value, ())
    if producer is not None and isinstance(producer.op, Dequantize):
        return all(_is_virtual(graph, out) for node in users for out in node.outputs)
    return bool(users) and all(isinstance(node.op, Quantize) for node in users)


def _peak_activation_bytes(graph: Graph) -> int:
    """Return the most bytes alive at once; inputs and outputs of a node overlap in time."""
    values = [*graph.inputs, *(v for node in graph.nodes for v in node.outputs)]
    if not all(v.type.bound().is_static for v in values):
        return 0
    virtual = {v.name for v in values if _is_virtual(graph, v)}
    size = {v.name: 0 if v.name in virtual else v.type.bound().size_bytes for v in values}
    last: dict[str, int] = {}
    for i, node in reversed(list(enumerate(graph.nodes))):
        # One kernel reads what is dequantized and writes what is quantized behind it.
        ends = [last.get(v.name, i) for v in node.outputs if v.name in virtual]
        for value in node.reads:
            last[value.name] = max(last.get(value.name, -1), i, *ends)
    last.update({v.name: len(graph.nodes) for v in graph.outputs})
    alive = sum(size[v.name] for v in graph.inputs)
    peak = alive
    ending: dict[int, list[str]] = {}
    for name in size:
        ending.setdefault(last.get(name, -1), []).append(name)
    for i, node in enumerate(graph.nodes):
        alive += sum(size[v.name] for v in node.outputs)
        peak = max(peak, alive)
        alive -= sum(size[name] for name in ending.get(i, ()))
        alive -= sum(size[v.name] for v in node.outputs if v.name not in last)
    return peak
