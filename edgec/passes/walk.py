"""A quantized graph, run one node at a time on several samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edgec.evaluate import Evaluator
from edgec.ir import Array, Constant, Graph, Node, Op, Value
from edgec.ops import Dequantize, Softmax, dequantize_array

__all__ = ["Walk", "output_error"]


class Walk:
    """Runs the nodes of a graph in order, each on all samples before the next.

    So a step may look at what a layer makes of the layers before it, change it, and go on.
    Held is only what later nodes read, and of quantized values the integers: with ``n``
    samples about a quarter of ``n`` times the peak activations of the float model.

    Parameters
    ----------
    feeds
        One array for each graph input, for each sample.
    """

    def __init__(self, graph: Graph, feeds: Sequence[Mapping[str, Array]]) -> None:
        self.graph, self.count = graph, len(feeds)
        self.nodes = tuple(n for n in graph.nodes if not isinstance(n.op, Dequantize))
        self._held = {v.name: [np.asarray(f[v.name]) for f in feeds] for v in graph.inputs}
        self._last = {
            source.name: i for i, n in enumerate(self.nodes) for source in self._sources(n)
        }
        self._held = {name: arrays for name, arrays in self._held.items() if name in self._last}
        self._position = {n.outputs[0].name: i for i, n in enumerate(self.nodes)}

    def _sources(self, node: Node) -> tuple[Value, ...]:
        """Return the computed values that a node reads, or that what it reads is made of."""
        found: dict[Value, None] = {}
        for value in node.reads:
            made = self.graph.producers.get(value)
            stored = made.inputs[0] if made and isinstance(made.op, Dequantize) else value
            if self.graph.constant(stored) is None:
                found[stored] = None
        return tuple(found)

    @property
    def held(self) -> tuple[str, ...]:
        """The names of values that later nodes will read."""
        return tuple(self._held)

    def inputs(self, node: Node, operand: int) -> list[Array]:
        """Return an operand of a node on every sample, as real numbers if it is dequantized."""
        value = node.inputs[operand]
        made = self.graph.producers.get(value)
        if made is None or not isinstance(made.op, Dequantize):
            return self._held[value.name]
        params = made.op.params
        return [dequantize_array(a, params) for a in self._held[made.inputs[0].name]]

    def run(
        self, node: Node, op: Op | None = None, constants: Mapping[Value, Array] | None = None
    ) -> list[dict[str, Array]]:
        """Return the outputs of a node on every sample, by name.

        Parameters
        ----------
        op
            What to compute instead of the node's own operator.
        constants
            Operands that are something else than in the graph.
        """
        given = dict(constants or {})
        pairs: list[Node] = []
        for value in node.reads:
            made = self.graph.producers.get(value)
            if value in given:
                continue
            if (array := self.graph.constant(value)) is not None:
                given[value] = array
            elif made is not None and isinstance(made.op, Dequantize):
                stored = self.graph.constant(made.inputs[0])
                if stored is None:
                    pairs.append(made)
                else:
                    given[value] = dequantize_array(stored, made.op.params)
        computed = Node(op or node.op, node.inputs, node.outputs, node.origin)
        known = {v.name: Constant(a) for v, a in given.items()}
        sources = tuple(v for v in self._sources(node))
        graph = Graph(
            node.layer, sources, node.outputs, (*pairs, computed), MappingProxyType(known)
        )
        evaluator = Evaluator(graph)
        return [
            evaluator.run({v.name: self._held[v.name][k] for v in sources})
            for k in range(self.count)
        ]

    def hold(self, node: Node, results: Sequence[Mapping[str, Array]]) -> None:
        """Take the outputs of a node for what they are from here on."""
        now = self._position[node.outputs[0].name]
        for value in node.outputs:
            if self._last.get(value.name, -1) > now:
                self._held[value.name] = [r[value.name] for r in results]
        for value in self._sources(node):
            if self._last[value.name] == now:
                self._held.pop(value.name, None)


def output_error(reference: Graph, graph: Graph, feeds: Sequence[Mapping[str, Array]]) -> float:
    """Return the squared error of a graph's outputs, relative to the reference's.

    Each output and each sample counts alike, whatever its magnitude. A softmax is judged by
    what it reads, as it flattens all but the largest numbers; what they have in common does not
    count, as it does not change the result.
    """
    outputs, axes = _judged(reference)
    found = {v.name: v for v in graph.values()}
    want = Evaluator(reference, outputs, optimize=True)
    got = Evaluator(graph, [found[v.name] for v in outputs], optimize=True)
    total = 0.0
    for feed in feeds:
        wanted, made = want.run(feed), got.run(feed)
        for name, axis in axes.items():
            real, error = wanted[name].astype(np.float64), made[name].astype(np.float64)
            error -= real
            if axis is not None:
                error -= error.mean(axis, keepdims=True)
                real -= real.mean(axis, keepdims=True)
            total += float((error**2).sum() / max(float((real**2).sum()), 1e-30))
    return total


def _judged(graph: Graph) -> tuple[tuple[Value, ...], dict[str, int | None]]:
    """Return the values that stand for the outputs, and the axis of the softmax behind each."""
    values: dict[Value, int | None] = {}
    for value in graph.outputs:
        made = graph.producers.get(value)
        if made is not None and isinstance(made.op, Softmax):
            values[made.inputs[0]] = made.op.axis
        elif value.type.dtype.is_float:
            values[value] = None
    return tuple(values), {v.name: axis for v, axis in values.items()}
