"""Weights stored in fewer bits, beside activations that stay floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.ir import Array, Builder, DType, Graph, Node, Op, Role, Value
from edgec.ops import Cast, Dequantize, MatMul, quantize_array
from edgec.passes.base import Lossy, Pass, Promise
from edgec.passes.weight_grids import weight_params

__all__ = ["StoreWeights"]

_LEAST_BYTES = 256
"""Below, what the file would save is no more than the operator that reads it back."""


@dataclass(frozen=True, slots=True)
class StoreWeights(Pass):
    """Store the weights of layers in float16, int8 or int4, and read them back as floats.

    Integers are symmetric, with one scale an output channel or one for all; a scale of 4 bits
    is that of the least squared error. Layers are those that have weights by their rule of
    quantization, and products with a constant matrix. Biases stay as they are.

    Lossy. The result runs in ONNX Runtime as it is.

    Parameters
    ----------
    bits
        16 for float16, 8 or 4 for integers.
    packed
        Layers whose weights may have 4 bits; others have 8.
    keep_float
        Names of layers whose weights stay as they are.
    only
        Names of the layers whose weights are stored; all if ``None``.
    power_of_two
        Whether scales are powers of two.
    """

    name: ClassVar[str] = "store-weights"
    promise: ClassVar[Promise] = Lossy()
    bits: int = 8
    per_channel: bool = True
    packed: tuple[type[Op], ...] = ()
    keep_float: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    power_of_two: bool = False

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        made: dict[tuple[Value, int, DType], Value] = {}
        for node in graph.nodes:
            channel = self.channel(graph, node)
            if channel is None:
                b.copy(node)
                continue
            inputs = [b.now(v) for v in node.inputs]
            key = node.inputs[1], channel, self.dtype(node)
            if key not in made:
                made[key] = self._stored(b, node, channel)
            inputs[1] = made[key]
            b.add(node.op, *inputs, like=node)
        return b.finish()

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        if self.bits != 16:
            return ()
        most = float(np.finfo(np.float16).max)
        return tuple(
            Diagnostic(f"has weights beyond {most:.0f}, which float16 ends at", node.layer)
            for node in graph.nodes
            if self.channel(graph, node) is not None
            and (w := graph.constant(node.inputs[1])) is not None
            and float(np.abs(w).max(initial=0.0)) > most
        )

    def channel(self, graph: Graph, node: Node) -> int | None:
        """Return the axis of a layer's output channels if its weights are to be stored."""
        names = (*node.origin, *node.output_names)
        if self.only is not None and set(self.only).isdisjoint(names):
            return None
        return _channel(graph, node) if set(self.keep_float).isdisjoint(names) else None

    def dtype(self, node: Node) -> DType:
        """Return what the weights of a layer are stored as."""
        if self.bits == 16:
            return DType.FLOAT16
        return DType.INT4 if self.bits == 4 and isinstance(node.op, self.packed) else DType.INT8

    def _stored(self, b: Builder, node: Node, channel: int) -> Value:
        """Return the weights of a layer, stored and read back."""
        value, dtype = node.inputs[1], self.dtype(node)
        array = b.array(b.now(value))
        assert array is not None
        names = [b.fresh(f"{value.name}.dequantized")]
        if dtype is DType.FLOAT16:
            if not _fits_half(array):
                return b.now(value)
            stored = b.constant(array.astype(np.float16), near=f"{value.name}.f16")
            return b.add(Cast(DType.FLOAT32), stored, names=names)[0]
        top = dtype.limits[1]
        axis = channel if self.per_channel else None
        params = weight_params(array, axis, top, power_of_two=self.power_of_two)
        on_grid = quantize_array(array, params, dtype, most=top)
        stored = b.constant(on_grid, near=f"{value.name}.quantized")
        return b.add(Dequantize(params, dtype), stored, names=names)[0]


def _fits_half(array: Array) -> bool:
    return float(np.abs(array).max(initial=0.0)) <= float(np.finfo(np.float16).max)


def _channel(graph: Graph, node: Node) -> int | None:
    """Return the axis of output channels of a layer's weights; ``None`` if it has none."""
    if len(node.inputs) < 2:
        return None
    array = graph.constant(node.inputs[1])
    if array is None or array.dtype != np.float32 or array.nbytes < _LEAST_BYTES:
        return None
    if isinstance(node.op, MatMul):
        return array.ndim - 1 if array.ndim > 1 else None
    rule = node.op.quant_rule()
    return rule.channel if rule is not None and rule.role(1) is Role.WEIGHT else None
