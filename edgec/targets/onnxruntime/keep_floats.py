"""Keep layers between integers in float where they are to be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, Graph, Node, QuantParams, SameAsInput, Value
from edgec.ops import Cast, Convolution, ConvTranspose, Dequantize, FullyConnected, Gemm, Max
from edgec.passes import Exact, Pass, Promise

__all__ = ["KeepFloats"]

_WEIGHT = 1


@dataclass(frozen=True, slots=True)
class KeepFloats(Pass):
    """Give a float layer that reads integers a dequantization with a scale for each channel.

    Where a convolution or product with float weights stands between a dequantization and a
    quantization, ONNX Runtime 1.31 quantizes these weights itself, to 8 bits with one scale for
    all channels (``WeightBiasQuantization``): a layer that was kept in float, because it does
    not bear that, loses more than if it had been quantized well. It does so only where what the
    layer reads has one scale; here it has the same scale for every channel. A layer that reads
    other than straight from a dequantization, which ONNX Runtime may move towards it, gets a
    maximum in between, which nothing moves over.

    Exact: the same scale, and no number is below the lowest there is.
    """

    name: ClassVar[str] = "keep-floats"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        if not any(isinstance(node.op, Dequantize) for node in graph.nodes):
            return graph
        b = Builder(graph)
        for node in graph.nodes:
            if not _has_float_weights(graph, node):
                b.copy(node)
                continue
            x = _apart(b, node)
            b.add(node.op, x, *(b.now(v) for v in node.inputs[1:]), like=node)
        return b.finish()


def _has_float_weights(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Convolution | ConvTranspose | FullyConnected | Gemm):
        return False
    weight = node.inputs[_WEIGHT]
    made = graph.producers.get(weight)
    if made is not None and isinstance(made.op, Cast):
        weight = made.inputs[0]
    return graph.constant(weight) is not None


def _apart(b: Builder, node: Node) -> Value:
    """Return what a layer reads, in a form that ONNX Runtime does not quantize around."""
    x = b.now(node.inputs[0])
    back = b.producer(x)
    if back is None or not isinstance(back.op, Dequantize):
        return _past_a_maximum(b, node, x) if _moves_integers(b, x) else x
    params, shape = back.op.params, x.type.shape
    if params.axis is not None:
        return x
    for axis, length in enumerate(shape):
        if isinstance(length, int) and length > 1:
            each = QuantParams(params.scale * length, params.zero_point * length, axis)
            return b.step(replace(back.op, params=each), back.inputs[0], of=node, near=x.name)
    return _past_a_maximum(b, node, x)


def _moves_integers(b: Builder, x: Value) -> bool:
    """Whether a value is one that was dequantized, moved to other places."""
    made = b.producer(x)
    while made is not None and not isinstance(made.op, Dequantize):
        rule = made.op.quant_rule()
        if rule is None or not isinstance(rule.output, SameAsInput) or len(made.data) != 1:
            return False
        made = b.producer(made.data[0])
    return made is not None


def _past_a_maximum(b: Builder, node: Node, x: Value) -> Value:
    lowest = np.array(np.finfo(x.type.dtype.name.lower()).min)
    return b.step(Max(), x, b.constant(lowest, "lowest"), of=node, near=x.name)
