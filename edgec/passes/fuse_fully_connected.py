"""One form for a layer that multiplies by a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.ops import Add, FullyConnected, Gemm, MatMul
from edgec.passes.base import Pass, Promise, Within

__all__ = ["FuseFullyConnected"]


@dataclass(frozen=True, slots=True)
class FuseFullyConnected(Pass):
    """Write ``MatMul(x, w) + b`` and ``Gemm`` with constant weights as ``FullyConnected``.

    All are floats, ``x`` has two axes, ``w [I, O]`` is constant and becomes ``[O, I]``;
    ``alpha`` and ``beta`` are multiplied in. The bias is taken up where it is a constant of
    ``O`` elements, or of one, and the product has no other reader and no activation.

    Within rounding: the bias is added inside the product.
    """

    name: ClassVar[str] = "fuse-fully-connected"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            match node.op:
                case MatMul() if node.output.type.rank == 2:
                    done = self._matmul(b, node)
                case Gemm(trans_a=False):
                    done = self._gemm(b, node)
                case Add():
                    done = self._bias(b, node)
                case _:
                    done = False
            if not done:
                b.copy(node)
        return b.finish()

    def _matmul(self, b: Builder, node: Node) -> bool:
        x, w = map(b.now, node.inputs)
        array = b.array(w)
        if array is None or x.type.rank != 2 or not x.type.dtype.is_float:
            return False
        b.add(FullyConnected(), x, b.constant(_turned(array), near=w.name), like=node)
        return True

    def _gemm(self, b: Builder, node: Node) -> bool:
        op = node.op
        x, w, *rest = map(b.now, node.inputs)
        array = b.array(w)
        if not isinstance(op, Gemm) or array is None:
            return False
        offset = b.array(rest[0]) if rest else None
        if rest and (offset is None or not _is_row(offset, node.output.type.shape[1])):
            return False
        weight = array if op.trans_b else _turned(array)
        if op.alpha != 1:
            weight = (weight * array.dtype.type(op.alpha)).astype(array.dtype)
        inputs = [x, w if weight is array else b.constant(weight, near=w.name)]
        if offset is not None:
            row = np.broadcast_to(offset.reshape(-1), (len(weight),)) * op.beta
            inputs.append(b.constant(row.astype(offset.dtype), near=rest[0].name))
        b.add(FullyConnected(), *inputs, like=node)
        return True

    def _bias(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, Add) or node.op != Add():
            return False
        for product, offset in (node.inputs, reversed(node.inputs)):
            inner, array = b.producer(b.now(product)), b.array(b.now(offset))
            if inner is None or array is None or inner.op != FullyConnected():
                continue  # behind an activation the sum is no bias
            units = inner.output.type.shape[1]
            alone = b.source.is_only_read_by(product, node) and len(inner.inputs) == 2
            if not alone or not isinstance(units, int) or not _is_row(array, units):
                continue
            if node.output.type != inner.output.type:
                continue  # the bias adds rows of its own
            row = np.broadcast_to(array.reshape(-1), (units,)).astype(array.dtype)
            bias: Value = b.now(offset)
            if row.shape != array.shape:
                bias = b.constant(np.ascontiguousarray(row), near=offset.name)
            b.add(inner.op, *inner.inputs, bias, like=node, absorbs=(inner,))
            return True
        return False


def _turned(array: Array) -> Array:
    return np.ascontiguousarray(array.T)


def _is_row(array: Array, units: object) -> bool:
    """Whether `array` is one value, or one for each unit, along the last axis."""
    return array.size == 1 or (array.size == units == array.shape[-1])
