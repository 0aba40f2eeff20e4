"""Weights that are stored in ways that a runtime's tensors do not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.frontend.typing import plain
from edgec.ir import Array, Builder, DType, Graph, Node, QuantParams
from edgec.ops import Dequantize, Opaque, dequantize_array
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["UnpackWeights"]

_WIDER = {DType.INT4: DType.INT8, DType.UINT4: DType.UINT8,
          DType.INT2: DType.INT8, DType.UINT2: DType.UINT8}  # fmt: skip
_SIXTEEN = (DType.INT16, DType.UINT16)
_STORED = (*_WIDER, *_SIXTEEN, DType.INT8, DType.UINT8, DType.INT32)


@dataclass(frozen=True, slots=True)
class UnpackWeights(Pass):
    """Write stored weights that do not have 8 bits, or have scales for blocks, in other forms.

    With one scale, or one an index of an axis, integers of 2 and 4 bits become ones of 8 on
    the same grid. What has 16 bits, or a scale for each block of an axis, becomes real numbers,
    for kernels read no such integers: ``(w - zero) * scale``. What stays is int16 with one
    scale around zero: beside activations of 16 bits a constant may be stored so.

    Exact: the same numbers are multiplied, in float32.
    """

    name: ClassVar[str] = "unpack-weights"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not _unpack(b, node):
                b.copy(node)
        return b.finish()


def _unpack(b: Builder, node: Node) -> bool:
    op = node.op
    if isinstance(op, Dequantize):
        w = b.array(b.now(node.inputs[0]))
        if w is None or op.dtype not in (*_WIDER, DType.INT16):
            return False
        if op.dtype in _WIDER:
            return _widen(b, node, w, op.params)
        around_zero = op.params.axis is None and not any(op.params.zero_point)
        if around_zero or node.output in b.source.outputs:
            return False
        real = dequantize_array(w, op.params)
        b.replace(node.output, b.constant(real, near=node.output.name))
        return True
    if not isinstance(op, Opaque) or (op.domain, op.op_type) != ("", "DequantizeLinear"):
        return False
    w, scale = (b.array(b.now(v)) for v in node.inputs[:2])
    if w is None or scale is None or scale.dtype != np.float32 or scale.size == 0:
        return False
    zero: Array | None = np.zeros(scale.shape, np.int64)
    if len(node.inputs) > 2:
        zero = b.array(b.now(node.inputs[2]))
    attributes = {a.name: plain(a) for a in op.node_proto().attribute}
    dtype, made = DType.of(w.dtype), attributes.get("output_dtype", 0)
    if zero is None or dtype not in _STORED or made not in (0, DType.FLOAT32.onnx):
        return False
    if node.output in b.source.outputs:
        return False
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    if scale.ndim > 1 or dtype in _SIXTEEN:
        real = _real(w, scale, zero, axis, block)
        b.replace(node.output, b.constant(real, near=node.output.name))
        return True
    if dtype not in _WIDER or not (np.isfinite(scale).all() and (scale > 0).all()):
        return False
    zeros = tuple(int(z) for z in zero.astype(np.int64).reshape(-1))
    along = axis % w.ndim if scale.size > 1 else None
    grid = QuantParams(tuple(map(float, scale.reshape(-1))), zeros, along)
    return _widen(b, node, w, grid)


def _widen(b: Builder, node: Node, w: Array, grid: QuantParams) -> bool:
    wide = _WIDER[DType.of(w.dtype)]
    stored = b.constant(w.astype(wide.numpy), near=node.inputs[0].name)
    b.add(Dequantize(grid, wide), stored, like=node)
    return True


def _real(w: Array, scale: Array, zero: Array, axis: int, block: int) -> Array:
    """Return ``(w - zero) * scale``; a parameter is for all, an index or a block of `axis`."""
    scales, zeros = scale, zero.astype(np.int64)
    if scale.ndim > 1:
        length = w.shape[axis]
        scales, zeros = (
            np.repeat(p, block, axis).take(range(length), axis) for p in (scales, zeros)
        )
    elif scale.size > 1:
        along = [1] * w.ndim
        along[axis] = -1
        scales, zeros = scales.reshape(along), zeros.reshape(along)
    else:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    return np.asarray((w.astype(np.int64) - zeros) * scales, np.float32)
