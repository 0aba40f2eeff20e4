"""What each layer of a model may compute in, and what that costs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgec.cost import node_macs
from edgec.ir import DType, Graph, Node, SameAsInput
from edgec.passes import Pass, Precision, QuantizeGraph, StoreWeights
from edgec.quantizing import Quantizing
from edgec.targets import Tflite

__all__ = ["Choices", "choices"]

_BITS: Mapping[Precision, int] = {
    "int4": 4, "int8": 8, "int16": 8, "float16": 16, "float32": 32,
}  # fmt: skip
"""Of a weight."""

_ORDER: tuple[Precision, ...] = ("int4", "int8", "int16", "float16", "float32")

_STORED: Mapping[DType, Precision] = {
    DType.INT4: "int4", DType.INT8: "int8", DType.FLOAT16: "float16"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choices:
    """The precisions of one layer, from what the recipe gives it up to float32.

    Parameters
    ----------
    name
        Of what it yields.
    layer, operator
        As the user knows it.
    precisions
        The recipe's first.
    costs
        For each precision the share that it adds to all weight bytes, and to all time as far
        as that can be predicted, one plus the other.
    """

    name: str
    layer: str
    operator: str
    precisions: tuple[Precision, ...]
    costs: tuple[float, ...]


def choices(way: Quantizing) -> tuple[Choices, ...]:
    """Return the choices for every layer that a recipe quantizes, in order of the graph."""
    found = list(_ladders(way))
    sizes = {node.outputs[0].name: _size(way.graph, node) for node, _ in found}
    base_bytes = sum(sizes[n.outputs[0].name][0] * _BITS[p[0]] for n, p in found) or 1
    times = {n.outputs[0].name: way.target.precisions(n.op) for n, _ in found}
    names = [(n.outputs[0].name, p[0]) for n, p in found]
    base_time = sum(sizes[name][1] * times[name][base] for name, base in names) or 1
    timed = way.target.recipe.activations != "float"  # else all kernels read floats

    def cost(node: Node, base: Precision, other: Precision) -> float:
        name = node.outputs[0].name
        (weights, work), beside = sizes[name], times[name]
        extra = weights * (_BITS[other] - _BITS[base]) / base_bytes
        slower = max(beside[other] - beside[base], 0.0)  # floats are faster than 16 bits: free
        return extra + (work * slower / base_time if timed else 0.0)

    return tuple(
        Choices(
            node.outputs[0].name,
            node.layer,
            type(node.op).__name__,
            ladder,
            tuple(cost(node, ladder[0], p) for p in ladder),
        )
        for node, ladder in found
    )


def _ladders(way: Quantizing) -> Iterator[tuple[Node, tuple[Precision, ...]]]:
    """Yield each layer that may be raised, with its precisions."""
    first = way.passes(effort="fast")[0]
    edges = _edges(way)
    for node in way.graph.nodes:
        base = _base(way.graph, node, first)
        if base is None:
            continue
        weights, _ = _size(way.graph, node)
        higher = _ORDER[_ORDER.index(base) + 1 :]
        allowed = [p for p in higher if p in way.target.precisions()]
        kept = [p for p in allowed if _fits(p, node, weights, first)]
        if node in edges:
            kept = [p for p in kept if not p.startswith("float")]
        if kept:
            yield node, (base, *kept)


def _edges(way: Quantizing) -> Collection[Node]:
    """Return the layers next to inputs and outputs, where these are to be integers.

    On floats these layers would leave no grid to store them on.
    """
    graph, target = way.graph, way.target
    if not isinstance(target, Tflite) or target.io_dtype == "float32":
        return ()
    found = [n for v in graph.inputs for n in graph.users.get(v, ())]
    makers = [graph.producers[v] for v in graph.outputs if v in graph.producers]
    while makers:
        found.append(node := makers.pop())
        rule = node.op.quant_rule()
        if rule is not None and isinstance(rule.output, SameAsInput):
            # It moves what others make.
            makers += [graph.producers[v] for v in node.data if v in graph.producers]
    return found


def _base(graph: Graph, node: Node, first: Pass) -> Precision | None:
    """Return what the recipe computes a layer in; ``None`` if it does not quantize it."""
    if isinstance(first, StoreWeights):
        stored = first.channel(graph, node) is not None
        return _STORED[first.dtype(node)] if stored else None
    if not isinstance(first, QuantizeGraph):
        return None
    rule = first.plan(graph).nodes.get(node.output_names)
    moves = rule is not None and isinstance(rule.output, SameAsInput)
    if rule is None or (moves and len(node.data) == 1):
        return None
    if first.scheme.activation is DType.INT16:
        return "int16"
    packed = _size(graph, node)[0] > 0 and first.weights_of(node)[0] is DType.INT4
    return "int4" if packed else "int8"


def _fits(precision: Precision, node: Node, weights: int, first: Pass) -> bool:
    """Whether a layer can have a precision that is above the recipe's."""
    if precision == "float16":
        return weights > 0  # else it is float32
    if precision != "int16":
        return True
    if not isinstance(first, QuantizeGraph) or isinstance(node.op, first.scheme.narrow):
        return False
    rule = node.op.quant_rule()
    return rule is not None and not isinstance(rule.output, SameAsInput)


def _size(graph: Graph, node: Node) -> tuple[int, int]:
    """Return the number of weights of a layer, and of its steps."""
    array = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    steps = int(np.prod([d for d in node.outputs[0].type.shape if isinstance(d, int)]))
    weights = 0 if array is None or array.ndim < 2 else array.size
    return weights, max(node_macs(graph, node), steps)
