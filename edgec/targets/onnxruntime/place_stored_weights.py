"""Stored weights in the forms that ONNX Runtime reads fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, DType, Graph, Node, QuantParams
from edgec.ops import Activation, Add, Cast, Dequantize, FullyConnected, MatMul, Mul, Sub
from edgec.passes import Pass, Promise, Within

__all__ = ["PlaceStoredWeights"]


@dataclass(frozen=True, slots=True)
class PlaceStoredWeights(Pass):
    """Rewrite ``Dequantize`` of constants that float layers read.

    * A fully connected layer becomes a product with ``[I, O]`` and its bias: ONNX Runtime
      takes that up with the stored weights in one kernel (``MatMulNBits``), which quantizes
      what it reads to 8 bits as it runs. With Gemm it would unpack them on every run.
    * For other layers, ``(cast(w) - zero) * scale``: ONNX Runtime computes that once, as it
      loads, where it would run a ``DequantizeLinear`` every time.

    Probed on ONNX Runtime 1.31. Layers between pairs stay as they are: their kernels are on
    integers. The same numbers are multiplied; the promise is that of the kernel.
    """

    name: ClassVar[str] = "place-stored-weights"
    promise: ClassVar[Promise] = Within(0.02)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            stored = None if isinstance(node.op, Dequantize) else _stored(b, node)
            if stored is None or not _place(b, node, *stored):
                b.copy(node)
        return b.finish()


def _stored(b: Builder, node: Node) -> tuple[Node, Array] | None:
    """Return how the weights of a float layer are read, and what is stored."""
    if len(node.inputs) < 2:
        return None
    data, source = b.producer(b.now(node.inputs[0])), b.producer(b.now(node.inputs[1]))
    if source is None or not isinstance(source.op, Dequantize):
        return None
    array = b.array(source.inputs[0])
    if array is None or (data is not None and isinstance(data.op, Dequantize)):
        return None
    return source, array


def _place(b: Builder, node: Node, source: Node, array: Array) -> bool:
    op, x = node.op, b.now(node.inputs[0])
    assert isinstance(source.op, Dequantize)
    grid, dtype = source.op.params, source.op.dtype
    if isinstance(op, MatMul):
        return False
    if isinstance(op, FullyConnected):
        turned = b.constant(np.ascontiguousarray(array.T), near=source.inputs[0].name)
        axis = None if grid.axis is None else 1 - grid.axis
        params = QuantParams(grid.scale, grid.zero_point, axis)
        real = b.step(Dequantize(params, dtype), turned, of=node, near=source.output.name)
        bias = [b.now(v) for v in node.inputs[2:]]
        if not bias and op.activation is Activation.NONE:
            b.add(MatMul(), x, real, like=node)
            return True
        units = node.output.type.ints[1]
        if not bias:
            zeros = np.zeros(units, np.float32)
            bias = [b.constant(zeros, near=f"{node.output.name}.bias")]
        product = b.step(MatMul(), x, real, of=node)
        b.add(Add(op.activation), product, *bias, like=node)
        return True
    if dtype is not DType.INT8:
        return False
    shape = [1] * array.ndim
    if grid.axis is not None:
        shape[grid.axis] = -1
    real = b.step(Cast(DType.FLOAT32), source.inputs[0], of=source)
    if any(grid.zero_point):
        zero = np.array(grid.zero_point, np.float32).reshape(shape)
        real = b.step(
            Sub(), real, b.constant(zero, near=f"{source.output.name}.zero"), of=source
        )
    scale = np.array(grid.scale, np.float32).reshape(shape)
    scales = b.constant(scale, near=f"{source.output.name}.scale")
    real = b.step(Mul(), real, scales, of=source)
    b.add(op, x, real, *(b.now(v) for v in node.inputs[2:]), like=node)
    return True
