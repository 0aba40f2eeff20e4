"""Fold per-channel scales and offsets into the layer before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.ops import Activation, Add, BatchNorm, Convolution, FullyConnected, Mul, Sub
from edgec.passes.base import Pass, Promise, Within

__all__ = ["FoldBatchNorm"]


@dataclass(frozen=True, slots=True)
class FoldBatchNorm(Pass):
    """Fold ``BatchNorm`` and per-channel ``Mul``, ``Add`` and ``Sub`` into weights and bias.

    A layer ``y = w * x + b`` followed by ``k * y + d``, with constants ``k`` and ``d`` for
    each channel, is the layer with ``w' = k * w`` and ``b' = k * b + d``. For ``BatchNorm``,
    ``k = gamma / sqrt(var + epsilon)`` and ``d = beta - k * mean``. Convolutions of all kinds
    and fully connected layers have their output channels first in ``w``.

    The layer must have constant weights, no activation, and no other reader.
    Computed in float64 and rounded once. Within rounding.
    """

    name: ClassVar[str] = "fold-batchnorm"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._fold(b, node):
                b.copy(node)
        return b.finish()

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        left = (n for n in self.run(graph).nodes if isinstance(n.op, BatchNorm))
        message = "this batch norm follows no layer it can be folded into; it stays a node"
        return tuple(Diagnostic(message, node.layer) for node in left)

    def _fold(self, b: Builder, node: Node) -> bool:
        found = _affine(b, node)
        if found is None:
            return False
        y, k, d = found
        layer = b.producer(b.now(y))
        if layer is None or not isinstance(layer.op, Convolution | FullyConnected):
            return False
        if layer.op.activation is not Activation.NONE or not b.source.is_only_read_by(y, node):
            return False
        w, *bias = (b.array(v) for v in layer.inputs[1:])
        if w is None or None in [None if a is None else 0 for a in bias]:
            return False
        channels = w.shape[0]
        if k.size not in (1, channels) or d.size not in (1, channels):
            return False
        if node.output.type != layer.output.type:
            return False
        k64 = np.broadcast_to(k.astype(np.float64).reshape(-1), (channels,))
        old = bias[0].astype(np.float64) if bias and bias[0] is not None else np.zeros(channels)
        weight = w if (k64 == 1).all() else w * k64.reshape(-1, *(1,) * (w.ndim - 1))
        inputs = [
            layer.inputs[1]
            if weight is w
            else b.constant(weight.astype(w.dtype), near=layer.inputs[1].name),
            b.constant((k64 * old + d.reshape(-1)).astype(w.dtype), near=f"{y.name}.bias"),
        ]
        b.add(layer.op, layer.inputs[0], *inputs, like=node, absorbs=(layer,))
        return True


def _affine(b: Builder, node: Node) -> tuple[Value, Array, Array] | None:
    """Return operand, factor and offset of a per-channel affine node, or ``None``."""
    if isinstance(node.op, BatchNorm):
        arrays = [b.array(b.now(v)) for v in node.inputs[1:]]
        if any(a is None for a in arrays):
            return None
        gamma, beta, mean, var = (a.astype(np.float64) for a in arrays if a is not None)
        k = gamma / np.sqrt(var + node.op.epsilon)
        return node.inputs[0], k, beta - k * mean
    if not isinstance(node.op, Mul | Add | Sub) or node.op.activation is not Activation.NONE:
        return None
    left, right = node.inputs
    pairs = [(left, right)] if isinstance(node.op, Sub) else [(left, right), (right, left)]
    for y, other in pairs:
        array = b.array(b.now(other))
        if array is None or not _is_per_channel(array, y):
            continue
        wide = array.astype(np.float64)
        if isinstance(node.op, Mul):
            return y, wide, np.zeros(1)
        return y, np.ones(1), -wide if isinstance(node.op, Sub) else wide
    return None


def _is_per_channel(array: Array, y: Value) -> bool:
    """Whether `array` has one value for all, or one for each index of axis 1 of `y`."""
    if array.size == 1:
        return True
    if y.type.dims is None or len(y.type.dims) < 2:
        return False
    aligned = (1,) * (y.type.rank - array.ndim) + array.shape
    return all(length == 1 for axis, length in enumerate(aligned) if axis != 1)
