"""Layers over more than one leading axis, as layers over one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, DType, Graph, Node, QuantParams, Value
from edgec.ops import (
    Activation,
    Add,
    Dequantize,
    FullyConnected,
    MatMul,
    Quantize,
    Reshape,
)
from edgec.passes.base import Pass, Promise, Within

__all__ = ["FlattenProducts"]


@dataclass(frozen=True, slots=True)
class FlattenProducts(Pass):
    """Write ``MatMul(x, w) + b`` with a constant matrix ``w`` as ``FullyConnected``.

    ``x [..., I]`` is reshaped to ``[N, I]`` before, and the result to ``[..., O]`` after;
    ``w [I, O]`` becomes ``[O, I]``. The bias is taken up, with the activation of the sum, where
    it is a constant of ``O`` elements, or of one, and nothing else reads the product. All are
    floats of known shape; a plain product of two matrices is left to `FuseFullyConnected`.
    ``w`` may be stored as integers and dequantized, and then stays so; so does a product of
    dequantized operands that is quantized again, with pairs around the reshapes.

    For runtimes whose fully connected layer sees the last axis only, and pays nothing for the
    reshapes. Within rounding: the bias is added inside the product.
    """

    name: ClassVar[str] = "flatten-products"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            match node.op:
                case MatMul():
                    done = _product(b, node)
                case Add():
                    done = _bias(b, node, node.op)
                case _:
                    done = False
            if not done:
                b.copy(node)
        return b.finish()


def _product(b: Builder, node: Node) -> bool:
    x, w = map(b.now, node.inputs)
    if not x.type.is_static or not x.type.dtype.is_float:
        return False
    if b.array(w) is not None and x.type.rank == w.type.rank == 2:
        return False  # `FuseFullyConnected` writes these
    weight = _weight(b, node, x, w)
    if weight is None:
        return False
    if x.type.rank == w.type.rank == 2:
        b.add(FullyConnected(), x, weight, like=node)
        return True
    rows = math.prod(x.type.ints[:-1])
    flat = b.step(Reshape((rows, x.type.ints[-1])), x, of=node, near=x.name)
    before, after = _grid_before(b, x), _grid_after(b.source, node)
    if before is not None and after is not None:  # an integer product, which it stays
        flat = _on_grid(b, node, flat, before)
        y = _on_grid(b, node, b.step(FullyConnected(), flat, weight, of=node), after)
    else:
        y = b.step(FullyConnected(), flat, weight, of=node)
    b.add(Reshape(node.output.type.ints), y, like=node)
    return True


def _grid_before(b: Builder, x: Value) -> Dequantize | None:
    """Return how a value is dequantized, if it is and has one scale for all."""
    node = b.producer(x)
    op = None if node is None else node.op
    return op if isinstance(op, Dequantize) and op.params.axis is None else None


def _grid_after(graph: Graph, node: Node) -> Dequantize | None:
    """Return how a node's output is quantized, if nothing reads its real values."""
    users = graph.users.get(node.output, ())
    op = users[0].op if len(users) == 1 and node.output not in graph.outputs else None
    return Dequantize(op.params, op.dtype) if isinstance(op, Quantize) else None


def _on_grid(b: Builder, node: Node, value: Value, grid: Dequantize) -> Value:
    """Return a value after a pair that moves none of its numbers: they are on the grid."""
    stored = b.step(Quantize(grid.params, grid.dtype), value, of=node, near=value.name)
    return b.step(grid, stored, of=node, near=value.name)


def _weight(b: Builder, node: Node, x: Value, w: Value) -> Value | None:
    """Return the weight of a layer, ``[O, I]``, for a constant ``w [I, O]`` or a stored one."""
    matrix = _matrix(b.array(w))
    if matrix is not None:
        return b.constant(np.ascontiguousarray(matrix.T), near=w.name)
    stored = b.producer(w)
    if stored is None or not isinstance(stored.op, Dequantize):
        return None
    matrix, params = _matrix(b.array(stored.inputs[0])), stored.op.params
    if matrix is None or (params.axis is not None and params.axis < w.type.rank - 2):
        return None
    if _grid_before(b, x) is not None and _grid_after(b.source, node) is not None:
        # An integer product, whose weights have no zero points.
        eight = stored.op.dtype is DType.INT8 and int(matrix.min(initial=0)) >= -127
        if any(params.zero_point) or not eight:
            return None
    axis = None if params.axis is None else w.type.rank - 1 - params.axis
    turned = b.constant(np.ascontiguousarray(matrix.T), near=stored.inputs[0].name)
    grid = QuantParams(params.scale, params.zero_point, axis)
    return b.step(Dequantize(grid, stored.op.dtype), turned, of=node, near=w.name)


def _matrix(array: Array | None) -> Array | None:
    """Return what is multiplied with: a matrix, or one with axes of length 1 before it."""
    if array is None or array.ndim < 2 or math.prod(array.shape[:-2]) != 1:
        return None
    return array.reshape(array.shape[-2:])


def _bias(b: Builder, node: Node, op: Add) -> bool:
    for product, offset in (node.inputs, reversed(node.inputs)):
        after, array = b.producer(b.now(product)), b.array(b.now(offset))
        if after is None or array is None:
            continue
        layer = b.producer(after.inputs[0]) if isinstance(after.op, Reshape) else after
        if layer is None or layer.op != FullyConnected() or len(layer.inputs) > 2:
            continue
        units = layer.output.type.ints[1]
        fits = array.size == 1 or (array.size == units == array.shape[-1])
        kept = node.output.type == after.output.type
        others = b.source.users.get(layer.output, ())[1:] if after is not layer else ()
        alone = not others and layer.output not in b.source.outputs
        if not (fits and kept and alone and b.source.is_only_read_by(product, node)):
            continue
        _layer(b, node, op.activation, layer, after, b.now(offset))
        return True
    return False


def _layer(
    b: Builder, node: Node, activation: Activation, layer: Node, after: Node, offset: Value
) -> None:
    """Write the layer again, with its bias."""
    units, array = layer.output.type.ints[1], b.array(offset)
    row = np.broadcast_to(np.reshape(np.asarray(array), -1), (units,))
    bias = b.constant(np.ascontiguousarray(row), near=offset.name)
    if after is layer:
        b.add(FullyConnected(activation), *layer.inputs, bias, like=node, absorbs=(layer,))
        return
    names = [b.fresh(layer.output.name)]
    absorbed = (layer, after, node)
    (y,) = b.add(FullyConnected(activation), *layer.inputs, bias, names=names, absorbs=absorbed)
    b.add(after.op, y, like=node, absorbs=(layer, after))
