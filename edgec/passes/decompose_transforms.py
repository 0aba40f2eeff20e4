"""Fourier transforms as products with constant matrices, and as convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node
from edgec.ops import Conv, Dft, MatMul, Reshape, Stft, Transpose
from edgec.passes.base import Pass, Promise, Within

__all__ = ["DecomposeTransforms"]


@dataclass(frozen=True, slots=True)
class DecomposeTransforms(Pass):
    """Write ``DFT`` as ``MatMul`` and ``STFT`` of a real signal as ``Conv``.

    A transform of n numbers is a product with n times n cosines and sines: more work than a
    fast transform has, but what every runtime computes well at the lengths of audio windows.
    Windows and steps must be constants. Only float32.

    Within rounding: the sums are taken in another order.
    """

    name: ClassVar[str] = "decompose-transforms"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._decompose(b, node):
                b.copy(node)
        return b.finish()

    def _decompose(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, Dft | Stft):
            return False
        x = node.inputs[0].type
        if not x.is_static or x.dtype is not DType.FLOAT32:
            return False
        return _dft(b, node, node.op) if isinstance(node.op, Dft) else _stft(b, node, node.op)


def _dft(b: Builder, node: Node, op: Dft) -> bool:
    x, out = b.now(node.inputs[0]), node.output.type.ints
    rank = x.type.rank
    order = (*(i for i in range(rank - 1) if i != op.axis), op.axis, rank - 1)
    plain = order == tuple(range(rank))
    turned = x if plain else b.step(Transpose(order), x, of=node)
    *outer, held, parts = turned.type.ints
    matrix = op.matrix(held, parts).astype(np.float32)
    flat = b.step(Reshape((*outer, held * parts)), turned, of=node)
    weights = b.constant(matrix, near=f"{node.output.name}.transform")
    product = b.step(MatMul(), flat, weights, of=node)
    shape = (*outer, out[op.axis], out[-1])
    if plain:
        b.add(Reshape(shape), product, like=node)
        return True
    apart = b.step(Reshape(shape), product, of=node)
    back = tuple(order.index(i) for i in range(rank))
    b.add(Transpose(back), apart, like=node)
    return True


def _stft(b: Builder, node: Node, op: Stft) -> bool:
    arrays = [None if v.is_absent else b.array(b.now(v)) for v in node.inputs]
    x = b.now(node.inputs[0])
    length = op.length([v.type for v in node.inputs], arrays)
    windowed = len(node.inputs) > 2 and not node.inputs[2].is_absent
    if arrays[1] is None or length is None or x.type.size != x.type.ints[0] * x.type.ints[1]:
        return False
    window = arrays[2] if windowed else np.ones(length)
    if window is None or len(window) != length:
        return False
    n, samples = x.type.ints[:2]
    waves = Dft(1, None, False, op.onesided).matrix(length, 1) * window[:, None]
    kernels = b.constant(waves.T[:, None].astype(np.float32), near=f"{node.output.name}.waves")
    line = b.step(Reshape((n, 1, samples)), x, of=node)
    found = b.step(Conv((int(arrays[1].reshape(-1)[0]),), (0, 0), (1,)), line, kernels, of=node)
    last = b.step(Transpose((0, 2, 1)), found, of=node)
    b.add(Reshape(node.output.type.ints), last, like=node)
    return True
