"""Products with weights that have a scale for each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from edgec.frontend.typing import plain
from edgec.ir import Array, Builder, DType, Graph, Node, QuantParams, Value
from edgec.ops import Add, Dequantize, MatMul, Opaque
from edgec.passes.base import Pass, Promise, Within

__all__ = ["DecomposeBlockProducts"]


@dataclass(frozen=True, slots=True)
class DecomposeBlockProducts(Pass):
    """Write ONNX Runtime's ``MatMulNBits`` as ``x @ w``, and its bias as a sum.

    The weights ``w`` are unpacked from 2, 4 or 8 bits. Where one block holds a whole column
    they stay integers, of 8 bits; otherwise they become real numbers, for tensors have no
    scales for blocks.

    Within rounding: the same sums in another order. Where a node allows ONNX Runtime to round
    ``x`` (an ``accuracy_level`` above 1), its fast kernels do; these products never do.
    """

    name: ClassVar[str] = "decompose-block-products"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not _product(b, node):
                b.copy(node)
        return b.finish()


def _product(b: Builder, node: Node) -> bool:
    op = node.op
    if not isinstance(op, Opaque) or (op.domain, op.op_type) != (
        "com.microsoft",
        "MatMulNBits",
    ):
        return False
    weight = _weight(b, node, {a.name: plain(a) for a in op.node_proto().attribute})
    x = b.now(node.inputs[0])
    if weight is None or x.type.dtype is not DType.FLOAT32 or x.type.dims is None:
        return False
    if len(node.inputs) > 5 and not node.inputs[5].is_absent:
        product = b.step(MatMul(), x, weight, of=node)
        b.add(Add(), product, b.now(node.inputs[5]), like=node)
    else:
        b.add(MatMul(), x, weight, like=node)
    return True


def _weight(b: Builder, node: Node, attributes: dict[str, Any]) -> Value | None:
    """Return the matrix ``[K, N]`` of a node, or ``None`` if it is stored in another way."""
    held = [None if v.is_absent else b.array(b.now(v)) for v in node.inputs[1:5]]
    packed, scale, zero, order = (*held, None, None)[:4]
    bits, block = attributes.get("bits", 4), attributes["block_size"]
    n, k = attributes["N"], attributes["K"]
    count = -(-k // block)
    given = [not v.is_absent for v in node.inputs[3:5]]
    if any(given[1:]) or order is not None or attributes.get("weight_prepacked"):
        return None
    if (
        packed is None
        or scale is None
        or (any(given) and zero is None)
        or bits not in (2, 4, 8)
    ):
        return None
    if packed.dtype != np.uint8 or scale.dtype != np.float32 or scale.size != n * count:
        return None
    w = _bits(packed.reshape(n, -1), bits)[:, :k]
    middle = 1 << (bits - 1)
    zeros = np.full((n, count), middle, np.float32)
    if zero is not None:
        whole = zero.dtype == np.uint8
        zeros = (_bits(zero.reshape(n, -1), bits)[:, :count] if whole else zero).reshape(
            n, count
        )
    scales, name = scale.reshape(n, count), node.inputs[1].name
    fits = (zeros == np.rint(zeros)).all() and np.isfinite(scales).all() and (scales > 0).all()
    if count > 1 or not fits:
        centred = w.astype(np.float32) - np.repeat(zeros, block, 1)[:, :k].astype(np.float32)
        real = centred * np.repeat(scales, block, 1)[:, :k]
        return b.constant(np.ascontiguousarray(real.T, np.float32), near=f"{name}.real")
    stored = np.ascontiguousarray((w.astype(np.int16) - middle).astype(np.int8).T)
    offsets = tuple(int(z) - middle for z in zeros[:, 0])
    grid = QuantParams(tuple(map(float, scales[:, 0])), offsets, 1)
    whole_numbers = b.constant(stored, near=f"{name}.stored")
    return b.step(Dequantize(grid), whole_numbers, of=node, near=f"{name}.real")


def _bits(packed: Array, bits: int) -> Array:
    """Return the numbers in bytes, those in the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    apart = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return apart.reshape(len(packed), -1)
