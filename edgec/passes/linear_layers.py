"""Layers whose results are products of patches of their input with constant weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.ops import Convolution, FullyConnected, MatMul
from edgec.passes.patches import groups_of

__all__ = ["LinearLayer", "linear_layer", "linear_layers", "with_weights"]

_X, _WEIGHT, _BIAS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """A layer ``y = W x + b`` for each patch ``x`` of its input, in groups of channels.

    Parameters
    ----------
    weight
        ``[G, O, n]``, float64.
    bias
        ``[G, O]``, float64; zeros where there is none.
    shared
        Whether another node reads the weights or the bias, too.
    """

    node: Node
    weight: Array
    bias: Array
    shared: bool

    @property
    def name(self) -> str:
        """The name of its result, by which it is found."""
        return self.node.output.name

    @property
    def inputs(self) -> int:
        """How many numbers each result is a sum over."""
        return int(self.weight.shape[2])


def linear_layers(graph: Graph) -> dict[str, LinearLayer]:
    """Return the layers of a graph by the names of their results, in order."""
    found = (linear_layer(graph, node) for node in graph.nodes)
    return {layer.name: layer for layer in found if layer is not None}


def linear_layer(graph: Graph, node: Node) -> LinearLayer | None:
    """Return a node as a layer; ``None`` if it is none, or its weights are not constant."""
    if not isinstance(node.op, Convolution | FullyConnected | MatMul):
        return None
    arrays = [graph.constant(v) for v in node.reads[1:]]
    channels = node.inputs[_X].type.shape[1:2]
    if any(a is None or a.dtype != np.float32 for a in arrays) or not channels:
        return None
    stored = arrays[0]
    assert stored is not None
    if isinstance(node.op, MatMul):
        if stored.ndim != 2:
            return None
        stored, groups = stored.T, 1
    else:
        count = channels[0]
        found = groups_of(node.op, count) if isinstance(count, int) else None
        if found is None:
            return None
        groups = found
    weight = stored.astype(np.float64).reshape(groups, -1, math.prod(stored.shape[1:]))
    bias = np.zeros(weight.shape[:2])
    if len(arrays) > 1 and arrays[1] is not None:
        bias = arrays[1].astype(np.float64).reshape(bias.shape)
    shared = any(len(graph.users[v]) > 1 for v in node.reads[1:])
    return LinearLayer(node, weight, bias, shared)


def with_weights(graph: Graph, changes: Mapping[str, tuple[Array, Array | None]]) -> Graph:
    """Return a graph with other weights in some layers, in the shape of the weights stored.

    Parameters
    ----------
    changes
        Weights and bias by the name of a layer's result; without a bias a layer keeps its own,
        and a layer that has none takes one if its operator can.
    """
    b = Builder(graph)
    for node in graph.nodes:
        change = changes.get(node.outputs[0].name)
        if change is None:
            b.copy(node)
            continue
        weight, bias = change
        shape = node.inputs[_WEIGHT].type.ints
        stored = weight.reshape(shape[::-1]).T if isinstance(node.op, MatMul) else weight
        names = [v.name for v in node.inputs[_WEIGHT:]]
        operands = [_constant(b, stored.reshape(shape), f"{names[0]}.fitted")]
        if bias is not None and not isinstance(node.op, MatMul):
            near = names[1] if len(names) > 1 else f"{names[0]}.bias"
            operands.append(_constant(b, bias.reshape(-1), f"{near}.fitted"))
        else:
            operands += [b.now(v) for v in node.inputs[_BIAS:]]
        b.add(node.op, b.now(node.inputs[_X]), *operands, like=node)
    return b.finish()


def _constant(b: Builder, array: Array, near: str) -> Value:
    return b.constant(np.ascontiguousarray(array, np.float32), near)
