"""What quantization does to each layer: alone, and with all that comes before it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np

from edgec.cost import node_macs
from edgec.errors import InternalError
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, Node, SameAsInput, Value
from edgec.numerics import sqnr
from edgec.ops import Dequantize, Quantize
from edgec.passes.quantization_plan import Plan

__all__ = ["Difference", "LayerError", "waterfall"]


@dataclass(slots=True)
class Difference:
    """Running comparison of a float value with its quantized twin; sums only.

    Parameters
    ----------
    ends
        The real numbers that the grid of the quantized value covers, and its step.
    """

    ends: tuple[float, float, float]
    signal: float = 0.0
    other: float = 0.0
    noise: float = 0.0
    max_error: float = 0.0
    outside: int = 0
    elements: int = 0
    low: float = math.inf
    high: float = -math.inf

    def add(self, want: Array, got: Array) -> None:
        """Take up one sample."""
        if not want.size:
            return
        a, b = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        error = b - a
        # No product of vectors: numpy would start threads for that.
        self.signal += float((a * a).sum())
        self.other += float((b * b).sum())
        self.noise += float((error * error).sum())
        self.max_error = max(self.max_error, float(np.abs(error).max()))
        low, high, step = self.ends
        self.outside += int(np.count_nonzero((a < low - step / 2) | (a > high + step / 2)))
        self.elements += a.size
        self.low, self.high = min(self.low, float(a.min())), max(self.high, float(a.max()))

    def to_dict(self) -> dict[str, float]:
        """Return the figures.

        ``sqnr_db``, ``cosine``, ``max_error``; ``saturated`` is the share of float elements
        beyond the grid, and ``range_used`` the share of the grid that they span.
        """
        low, high, _ = self.ends
        # From the noise, since the cosine of what is nearly the same has no digits else.
        both = math.sqrt(self.signal * self.other)
        cosine = (self.signal + self.other - self.noise) / 2 / both if both else 1.0
        span = min(self.high, high) - max(self.low, low) if self.elements else 0.0
        return {
            "sqnr_db": round(sqnr(self.signal, self.noise), 2),
            "cosine": round(min(1.0, max(-1.0, cosine)), 6),
            "max_error": float(f"{self.max_error:.6g}"),
            "saturated": round(self.outside / self.elements, 6) if self.elements else 0.0,
            "range_used": round(max(0.0, span) / (high - low), 4) if high > low else 0.0,
        }


@dataclass(frozen=True, slots=True)
class LayerError:
    """One quantized layer.

    Parameters
    ----------
    alone
        With only this layer quantized, on float inputs.
    accumulated
        In the quantized graph as it is.
    """

    layer: str
    names: tuple[str, ...]
    operator: str
    output: str
    macs: int
    alone: Mapping[str, float]
    accumulated: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values of JSON."""
        return {
            "layer": self.layer,
            "operator": self.operator,
            "output": self.output,
            "macs": self.macs,
            "alone": dict(self.alone),
            "accumulated": dict(self.accumulated),
        }


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the float graph, and what it is in the quantized one.

    Parameters
    ----------
    node
        Of the float graph.
    twin, store, back
        Of the quantized graph: the layer between its pairs, and the pair behind it.
    """

    node: Node
    twin: Node
    store: Node
    back: Node

    @property
    def ends(self) -> tuple[float, float, float]:
        """The real numbers that the grid of the result covers, and its step."""
        if not isinstance(self.store.op, Quantize):
            raise InternalError(f"{self.node.layer} is not followed by a quantization")
        least, most = self.store.op.dtype.limits
        scale, zero = self.store.op.params.scale[0], self.store.op.params.zero_point[0]
        return (least - zero) * scale, (most - zero) * scale, scale


def waterfall(
    graph: Graph,
    plan: Plan,
    quantized: Graph,
    feeds: Iterable[Mapping[str, Array]],
    count: int,
) -> tuple[LayerError, ...]:
    """Return the error of every quantized layer, in the order of the graph.

    Parameters
    ----------
    graph
        The float graph.
    plan
        Which nodes of it are quantized.
    quantized
        The QDQ graph made from it; values have the same names.
    feeds
        Samples, of which `count` are taken.
    """
    layers = _layers(graph, plan, quantized)
    if not layers:
        return ()
    beside = _SideBySide(graph, quantized)
    for i, layer in enumerate(layers):
        beside.add(layer, _alone(i))
    both = Evaluator(beside.graph(), optimize=True)
    outputs = [layer.node.output for layer in layers]
    whole = Evaluator(quantized, outputs, optimize=True)
    alone = [Difference(layer.ends) for layer in layers]
    accumulated = [Difference(layer.ends) for layer in layers]
    for feed in islice(feeds, count):
        want, got = both.run(feed), whole.run(feed)
        for i, value in enumerate(outputs):
            alone[i].add(want[value.name], want[_alone(i)])
            accumulated[i].add(want[value.name], got[value.name])
    return tuple(
        LayerError(
            layer.node.layer,
            layer.node.origin,
            type(layer.node.op).__name__,
            layer.node.output.name,
            node_macs(graph, layer.node),
            one.to_dict(),
            all_.to_dict(),
        )
        for layer, one, all_ in zip(layers, alone, accumulated, strict=True)
    )


def _alone(i: int) -> str:
    return f"edgec.alone.{i}"


def _layers(graph: Graph, plan: Plan, quantized: Graph) -> list[_Layer]:
    """Return the layers that compute; what only moves values adds no error of its own."""
    made = {v.name: node for v, node in quantized.producers.items()}
    found: list[_Layer] = []
    for node in graph.nodes:
        rule = plan.nodes.get(node.output_names)
        if rule is None or len(node.outputs) != 1:
            continue
        if isinstance(rule.output, SameAsInput) and len(node.data) == 1:
            continue
        back = made.get(node.output.name)
        store = None if back is None else made.get(back.inputs[0].name)
        twin = None if store is None else made.get(store.inputs[0].name)
        if back is not None and store is not None and twin is not None:
            pair = isinstance(back.op, Dequantize) and isinstance(store.op, Quantize)
            found += [_Layer(node, twin, store, back)] if pair else []
    return found


class _SideBySide:
    """The float graph with a quantized copy of each layer beside it, on float inputs."""

    def __init__(self, graph: Graph, quantized: Graph) -> None:
        self.source, self.quantized = graph, quantized
        self.nodes = list(graph.nodes)
        self.constants = dict(graph.constants)
        self.known = {v.name: v for v in graph.values()}
        self.outputs: list[Value] = []
        self.operands: dict[str, Value] = {}

    def add(self, layer: _Layer, name: str) -> None:
        """Add the copy of a layer; its dequantized result is called `name`."""
        result = self._node(
            layer.twin, f"{name}.result", *map(self._operand, layer.twin.inputs)
        )
        stored = self._node(layer.store, f"{name}.stored", result)
        self.outputs += [layer.node.output, self._node(layer.back, name, stored)]

    def graph(self) -> Graph:
        """Return the graph, with every layer's result and that of its copy as outputs."""
        outputs = tuple(dict.fromkeys(self.outputs))
        constants = MappingProxyType(self.constants)
        return replace(
            self.source, nodes=tuple(self.nodes), outputs=outputs, constants=constants
        )

    def _node(self, like: Node, name: str, *inputs: Value) -> Value:
        value = Value(name, like.output.type)
        self.nodes.append(replace(like, inputs=inputs, outputs=(value,)))
        return value

    def _operand(self, value: Value) -> Value:
        """Return what stands for an operand of a layer of the quantized graph."""
        if value.is_absent:
            return value
        if value.name not in self.operands:
            self.operands[value.name] = self._made(value)
        return self.operands[value.name]

    def _made(self, value: Value) -> Value:
        back = self.quantized.producers.get(value)
        if back is None and value.name in self.quantized.constants:
            return self._constant(value)
        if back is None or not isinstance(back.op, Dequantize):
            return self.known[value.name]
        name, (stored,) = f"edgec.dequantized.{value.name}", back.inputs
        if stored.name in self.quantized.constants:
            return self._node(back, name, self._constant(stored))
        store = self.quantized.producers[stored]
        # What a quantized layer yields has the name that the float layer's result has.
        source = self.known.get(value.name) or self.known[store.inputs[0].name]
        return self._node(back, name, self._node(store, f"edgec.{stored.name}", source))

    def _constant(self, value: Value) -> Value:
        taken = f"edgec.{value.name}"
        self.constants[taken] = self.quantized.constants[value.name]
        return Value(taken, value.type)
