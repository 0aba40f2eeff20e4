"""Layers of a quantized graph, beside the float layers they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgec.errors import InternalError
from edgec.ir import Array, Builder, DType, Graph, Node, QuantParams, Value
from edgec.ops import (
    Activation,
    Convolution,
    ConvTranspose,
    Dequantize,
    FullyConnected,
    Quantize,
    dequantize_array,
)

__all__ = ["Parameters", "QuantizedLayer", "quantized_layers", "with_parameters"]

_WEIGHT, _BIAS = 1, 2


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a quantized layer stores: integers for its weights and its bias, and their grid.

    Parameters
    ----------
    grid
        Of the weights; that of the bias follows from it and the layer's input.
    """

    weight: Array
    bias: Array
    grid: QuantParams


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A convolution or product between its pairs, with stored weights.

    Parameters
    ----------
    node
        The layer in the quantized graph.
    name
        Name of its result in the float graph.
    stored
        What it stores; zeros where it has no bias.
    dtype
        Element type of the stored weights.
    input_scale
        Of the integers it reads.
    shared
        Whether other layers read the same stored weights.
    """

    node: Node
    name: str
    stored: Parameters
    dtype: DType
    input_scale: float
    shared: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """What the fused activation cuts results off at."""
        op = self.node.op
        if isinstance(op, Convolution | FullyConnected):
            return op.activation.bounds
        return Activation.NONE.bounds

    @property
    def channel(self) -> int:
        """The axis of the weights that has the output channels, or their groups."""
        rule = self.node.op.quant_rule()
        return 0 if rule is None else rule.channel

    def bias_grid(self, grid: QuantParams) -> QuantParams:
        """Return the grid of the bias for a grid of the weights: that of their products."""
        scales = tuple(float(np.float32(self.input_scale) * np.float32(s)) for s in grid.scale)
        return QuantParams(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)

    def plain(self, parameters: Parameters) -> tuple[Node, Mapping[Value, Array]]:
        """Return the layer without its activation, with given parameters, to run in a walk.

        Returns
        -------
        node
            With the same output.
        constants
            Its weights and bias as real numbers.
        """
        op = self.node.op
        if isinstance(op, Convolution | FullyConnected):
            op = replace(op, activation=Activation.NONE)
        weight = dequantize_array(parameters.weight, parameters.grid)
        bias = dequantize_array(parameters.bias, self.bias_grid(parameters.grid))
        values = [
            Value(f"{self.name}/{what}", replace(self.node.output.type, dims=a.shape))
            for what, a in (("weight", weight), ("bias", bias))
        ]
        node = replace(self.node, op=op, inputs=(self.node.inputs[0], *values))
        return node, dict(zip(values, (weight, bias), strict=True))


def quantized_layers(graph: Graph) -> Iterator[QuantizedLayer]:
    """Yield the layers that compute on integers only, in order."""
    for node in graph.nodes:
        if isinstance(node.op, Convolution | ConvTranspose | FullyConnected):
            found = _layer(graph, node)
            if found is not None:
                yield found


def _layer(graph: Graph, node: Node) -> QuantizedLayer | None:
    sources = [graph.producers.get(v) for v in node.inputs]
    pairs = [s for s in sources if s is not None and isinstance(s.op, Dequantize)]
    users = graph.users.get(node.output, ())
    if len(pairs) < len(sources) or len(users) != 1 or not isinstance(users[0].op, Quantize):
        return None
    x, *rest = pairs
    arrays = [graph.constant(s.inputs[0]) for s in rest]
    after = graph.users.get(users[0].output, ())
    if not arrays or not after or not isinstance(after[0].op, Dequantize):
        return None
    weight, bias = arrays[0], arrays[1] if len(arrays) > 1 else None
    by, given = rest[0].op, x.op
    if weight is None or (bias is None and len(arrays) > 1):
        return None
    if not isinstance(by, Dequantize) or not isinstance(given, Dequantize):
        raise InternalError(f"{node.layer} is no quantized layer")
    channels = node.output.type.shape[1]
    if not isinstance(channels, int):
        return None
    if bias is None:
        bias = np.zeros(channels, np.int32)
    shared = len(graph.users[rest[0].inputs[0]]) + len(graph.users[rest[0].output]) > 2
    return QuantizedLayer(
        node,
        after[0].output.name,
        Parameters(weight, bias, by.params),
        by.dtype,
        given.params.scale[0],
        shared,
    )


def with_parameters(
    graph: Graph, changes: Mapping[str, tuple[QuantizedLayer, Parameters]]
) -> Graph:
    """Return the graph with other parameters for some layers, by the names of their outputs.

    What a change leaves as it is stays the very constant that it was.
    """
    b = Builder(graph)
    for node in graph.nodes:
        change = changes.get(node.outputs[0].name)
        if change is None:
            b.copy(node)
            continue
        layer, now = change
        weight, bias = b.now(node.inputs[_WEIGHT]), None
        if now.weight is not layer.stored.weight or now.grid != layer.stored.grid:
            weight = _stored(b, node, _WEIGHT, now.weight, now.grid, layer.dtype)
        if len(node.inputs) > _BIAS:
            bias = b.now(node.inputs[_BIAS])
        if now.bias is not layer.stored.bias or now.grid != layer.stored.grid:
            grid = layer.bias_grid(now.grid)
            bias = _stored(b, node, _BIAS, now.bias, grid, DType.INT32)
        rest = (weight,) if bias is None else (weight, bias)
        b.add(node.op, b.now(node.inputs[0]), *rest, like=node)
    return b.finish()


def _stored(
    b: Builder, node: Node, operand: int, array: Array, grid: QuantParams, dtype: DType
) -> Value:
    """Add an operand of a layer as integers, dequantized."""
    has = len(node.inputs) > operand
    near = node.inputs[operand].name if has else f"{node.layer}/bias"
    stored = b.constant(array, near=f"{near}.recovered")
    names = [b.fresh(f"{near}.real")]
    return b.add(Dequantize(grid, dtype), stored, names=names, absorbs=(node,))[0]
