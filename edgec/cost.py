"""What a graph costs, counted without running it."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.ir import Graph, Node, Value
from edgec.ops import Dequantize, Quantize

__all__ = ["Cost", "cost", "node_macs"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums over a graph.

    Parameters
    ----------
    parameters
        Elements of all constants.
    macs
        Multiply-accumulates of one inference; untyped operators count as none.
    weight_bytes
        Bytes of all constants as they are stored.
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
    return Cost(
        len(graph.nodes),
        sum(a.size for a in arrays),
        sum(node_macs(node) for node in graph.nodes),
        sum(a.nbytes for a in arrays),
        _peak_activation_bytes(graph),
    )


def node_macs(node: Node) -> int:
    """Return the multiply-accumulates of one node; 0 if a shape is not known."""
    inputs = [v.type.bound() for v in node.inputs]
    outputs = [v.type.bound() for v in node.outputs]
    operands = (*node.inputs, *node.outputs)
    known = zip(operands, (*inputs, *outputs), strict=True)
    if not all(v.is_absent or t.is_static for v, t in known):
        return 0
    return node.op.macs(inputs, outputs)


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
    size = {v.name: 0 if _is_virtual(graph, v) else v.type.bound().size_bytes for v in values}
    last = {v.name: i for i, node in enumerate(graph.nodes) for v in node.reads}
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
