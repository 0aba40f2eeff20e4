"""Fold per-channel scales and offsets into the layer before them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.ir import Array, Builder, Graph, Node, Op, Value
from edgec.ops import (
    Activation,
    Add,
    BatchNorm,
    Binary,
    Convolution,
    ConvTranspose,
    FullyConnected,
    MatMul,
    Reshape,
    Transpose,
)
from edgec.passes.affine import Affine, affine_of, along
from edgec.passes.base import Pass, Promise, Within

__all__ = ["FoldBatchNorm"]


@dataclass(frozen=True, slots=True)
class FoldBatchNorm(Pass):
    """Fold ``BatchNorm``, ``Mul``, ``Div``, ``Add``, ``Sub`` and ``Neg`` into weights and bias.

    A layer ``y = w * x + b`` followed by ``k * y + d``, with constants ``k`` and ``d`` for
    each output channel, is the layer with ``w' = k * w`` and ``b' = k * b + d``. For
    ``BatchNorm``, ``k = gamma / sqrt(var + epsilon)`` and ``d = beta - k * mean``. Layers are
    convolutions of all kinds, transposed ones too, fully connected layers, and products with
    a constant matrix, whose bias is an ``Add`` of its own. Where ``k`` and ``d`` are single
    numbers, reshapes and transposes may come between.

    The layer must have constant weights, no activation, and no other reader; it takes over
    an activation of what is folded. Computed in float64 and rounded once. Within rounding.
    """

    name: ClassVar[str] = "fold-batchnorm"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not _fold(b, node):
                b.copy(node)
        after = b.finish()
        return after if after is graph else self.run(after)

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        left = (n for n in self.run(graph).nodes if isinstance(n.op, BatchNorm))
        message = "this batch norm follows no layer it can be folded into; it stays a node"
        return tuple(Diagnostic(message, node.layer) for node in left)


def _fold(b: Builder, node: Node) -> bool:
    found = affine_of(b, node)
    if found is None or not b.source.is_only_read_by(found.x, node):
        return False
    moves: list[Node] = []  # from the last to the first
    value, reader = found.x, node
    while (maker := b.source.producers.get(value)) is not None and _is_move(maker, found):
        moves.append(maker)
        value, reader = maker.inputs[0], maker
        if not b.source.is_only_read_by(value, reader):
            return False
    layer = b.producer(b.now(value))
    if layer is None:
        return False
    activation = node.op.activation if isinstance(node.op, Binary) else Activation.NONE
    scaled = _scaled(b, layer, found, value.name, activation)
    if scaled is None:
        return False
    *before, (op, inputs) = scaled
    absorbed = [layer]
    if before:  # a product and its bias
        ((product, operands),) = before
        (inner,) = (n for v in layer.inputs if (n := b.producer(v)) is not None)
        y = b.add(product, *operands, names=[b.fresh(inner.output.name)], absorbs=(inner,))
        inputs = (*y, *inputs)
    for move in reversed(moves):
        inputs = b.add(op, *inputs, names=[b.fresh(value.name)], absorbs=absorbed)
        op, absorbed = move.op, [move]
    b.add(op, *inputs, like=node, absorbs=absorbed)
    return True


def _is_move(node: Node, found: Affine) -> bool:
    """Whether a node can change places with a factor and an offset."""
    return isinstance(node.op, Reshape | Transpose) and found.k.size == found.d.size == 1


Step = tuple[Op, tuple[Value, ...]]


def _scaled(
    b: Builder, layer: Node, found: Affine, near: str, activation: Activation
) -> tuple[Step, ...] | None:
    """Return the operators and operands that compute what the affine node makes of a layer."""
    plain = activation is Activation.NONE
    match layer.op:
        case Convolution() | FullyConnected() as op if op.activation is Activation.NONE:
            new: Op = replace(op, activation=activation)
            inputs = _weights(b, layer, found, near)
        case ConvTranspose() if plain:
            new, inputs = layer.op, _weights(b, layer, found, near)
        case MatMul() if plain and not found.d.any():
            new, inputs = layer.op, _matrix(b, layer, found)
        case Add(activation=Activation.NONE) if not (found.k == 1).all():
            return _product_and_bias(b, layer, found, near, activation)
        case _:
            return None
    return None if inputs is None else ((new, inputs),)


def _weights(b: Builder, layer: Node, found: Affine, near: str) -> tuple[Value, ...] | None:
    """Return the operands of a layer with weights and bias for the scaled result."""
    w, *bias = (b.array(v) for v in layer.inputs[1:])
    channels = layer.output.type.shape[1]
    if w is None or any(a is None for a in bias) or not isinstance(channels, int):
        return None
    k, d = (along(a, found.x.type.rank, 1, channels) for a in (found.k, found.d))
    if k is None or d is None:
        return None
    old = bias[0].astype(np.float64) if bias and bias[0] is not None else np.zeros(channels)
    groups = layer.op.groups if isinstance(layer.op, ConvTranspose) else None
    inputs = list(layer.inputs[:2])
    if (k != 1).any():
        inputs[1] = b.constant(_times(w, k, groups), near=layer.inputs[1].name)
    if bias or d.any():
        inputs.append(b.constant((k * old + d).astype(w.dtype), near=f"{near}.bias"))
    return tuple(inputs)


def _times(w: Array, k: Array, groups: int | None) -> Array:
    """Return weights times one factor for each output channel.

    Output channels come first; in a transposed convolution, which has `groups`, second, after
    the input channels, which are parted in groups.
    """
    tail = (1,) * (w.ndim - 2)
    if groups is None:
        factors = k.reshape(-1, 1, *tail)
    else:
        factors = np.repeat(k.reshape(groups, -1), len(w) // groups, axis=0).reshape(
            len(w), -1, *tail
        )
    return (w * factors).astype(w.dtype)


def _matrix(b: Builder, product: Node, found: Affine) -> tuple[Value, ...] | None:
    """Return the operands of a product with a constant matrix, times a factor a column."""
    x, w = product.inputs
    matrix = b.array(w)
    if matrix is None or matrix.ndim != 2 or not x.type.dtype.is_float:
        return None
    rank = found.x.type.rank
    k = along(found.k, rank, rank - 1, matrix.shape[1])
    return (
        None if k is None else (x, b.constant((matrix * k).astype(matrix.dtype), near=w.name))
    )


def _product_and_bias(
    b: Builder, layer: Node, found: Affine, near: str, activation: Activation
) -> tuple[Step, ...] | None:
    """Return a product with a constant matrix, and its bias without the product."""
    for value, other in (layer.inputs, layer.inputs[::-1]):
        product, bias = b.producer(value), b.array(other)
        if product is None or bias is None or not isinstance(product.op, MatMul):
            continue
        old = b.source.producers.get(value)
        reader = b.source.producers.get(layer.output)
        alone = (
            old is not None and reader is not None and b.source.is_only_read_by(value, reader)
        )
        inputs = _matrix(b, product, found)
        if not alone or inputs is None or bias.ndim > found.x.type.rank:
            return None
        offset = found.k * bias.astype(np.float64) + found.d
        if offset.size > max(bias.size, found.d.size):
            return None
        made = b.constant(np.asarray(offset).astype(bias.dtype), near=f"{near}.bias")
        return (product.op, inputs), (Add(activation), (made,))
    return None
