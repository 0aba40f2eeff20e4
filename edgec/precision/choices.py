"""What each layer of a model may compute in, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgec.cost import node_macs
from edgec.ir import DType, Graph, Node, SameAsInput
from edgec.passes import Precision, QuantizeGraph, StoreWeights
from edgec.quantizing import Quantizing

__all__ = ["Choices", "choices"]

_BITS: Mapping[Precision, int] = {
    "int4": 4, "int8": 8, "int16": 8, "float16": 16, "float32": 32,
}  # fmt: skip
"""Of a weight."""

_TIMES: Mapping[Precision, float] = {
    "int4": 1.0, "int8": 1.0, "int16": 12.0, "float16": 3.0, "float32": 3.0,
}  # fmt: skip
"""How long a layer takes beside its 8-bit form: a prediction, to rank choices by. On CPUs
floats take two to four times as long; no delegate has kernels for 16-bit activations."""


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
    base_time = sum(sizes[n.outputs[0].name][1] * _TIMES[p[0]] for n, p in found) or 1
    timed = way.target.recipe.activations != "float"  # else all kernels read floats

    def cost(node: Node, base: Precision, other: Precision) -> float:
        weights, work = sizes[node.outputs[0].name]
        extra = weights * (_BITS[other] - _BITS[base]) / base_bytes
        return extra + (work * (_TIMES[other] - _TIMES[base]) / base_time if timed else 0.0)

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
    for node in way.graph.nodes:
        if isinstance(first, StoreWeights):
            if first.channel(way.graph, node) is not None:
                yield node, _from(first.dtype(node))
        elif isinstance(first, QuantizeGraph):
            rule = first.plan(way.graph).nodes.get(node.output_names)
            moves = rule is not None and isinstance(rule.output, SameAsInput)
            if rule is not None and not (moves and len(node.data) == 1):
                yield node, _computing(way, first, node)


def _from(stored: DType) -> tuple[Precision, ...]:
    names: dict[DType, Precision] = {
        DType.INT4: "int4", DType.INT8: "int8", DType.FLOAT16: "float16"
    }  # fmt: skip
    ladder: tuple[Precision, ...] = ("int4", "int8", "float16", "float32")
    return ladder[ladder.index(names[stored]) :]


def _computing(way: Quantizing, step: QuantizeGraph, node: Node) -> tuple[Precision, ...]:
    """Return the precisions of a layer between integers."""
    weights, _ = _size(way.graph, node)
    packed = weights > 0 and step.weights_of(node)[0] is DType.INT4
    whole: tuple[Precision, ...] = ("int4", "int8") if packed else ("int8",)
    return (*whole, *(("float16",) if weights else ()), "float32")


def _size(graph: Graph, node: Node) -> tuple[int, int]:
    """Return the number of weights of a layer, and of its steps."""
    array = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    steps = int(np.prod([d for d in node.outputs[0].type.shape if isinstance(d, int)]))
    weights = 0 if array is None or array.ndim < 2 else array.size
    return weights, max(node_macs(graph, node), steps)
