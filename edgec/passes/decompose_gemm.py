"""Products of matrices with all that ONNX's `Gemm` can do beside, in single steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, Graph, Node, Op, Value
from edgec.ops import Add, Gemm, MatMul, Mul, Transpose
from edgec.passes.base import Pass, Promise, Within

__all__ = ["DecomposeGemm"]


@dataclass(frozen=True, slots=True)
class DecomposeGemm(Pass):
    """Write ``Gemm`` as ``MatMul``, with ``Transpose``, ``Mul`` and ``Add`` where needed.

    ``y = alpha * a @ b + beta * c``. ``alpha`` goes into ``b`` where that is constant, ``beta``
    into a constant ``c``, and a constant is transposed here and now. A factor that the element
    type does not hold exactly stays with the ``Gemm``.

    Within rounding: ``alpha`` is multiplied in before the sums, not after.
    """

    name: ClassVar[str] = "decompose-gemm"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not (isinstance(node.op, Gemm) and _decompose(b, node, node.op)):
                b.copy(node)
        return b.finish()


def _decompose(b: Builder, node: Node, op: Gemm) -> bool:
    left, right, *rest = map(b.now, node.inputs)
    kind = left.type.dtype
    if not kind.is_float and not (op.alpha.is_integer() and op.beta.is_integer()):
        return False
    left = _turned(b, node, left) if op.trans_a else left
    right = _turned(b, node, right) if op.trans_b else right
    after: list[tuple[Op, Value]] = []
    if b.array(right) is not None:
        right = _times(b, node, right, op.alpha)
    elif op.alpha != 1:
        factor = b.constant(np.asarray(op.alpha, kind.numpy), near=f"{node.output.name}.alpha")
        after.append((Mul(), factor))
    if rest:
        after.append((Add(), _times(b, node, rest[0], op.beta)))
    if not after:
        b.add(MatMul(), left, right, like=node)
        return True
    product = b.step(MatMul(), left, right, of=node)
    for step, operand in after[:-1]:
        product = b.step(step, product, operand, of=node)
    last, operand = after[-1]
    b.add(last, product, operand, like=node)
    return True


def _turned(b: Builder, node: Node, value: Value) -> Value:
    array = b.array(value)
    if array is None:
        return b.step(Transpose((1, 0)), value, of=node, near=value.name)
    return b.constant(np.ascontiguousarray(array.T), near=value.name)


def _times(b: Builder, node: Node, value: Value, factor: float) -> Value:
    if factor == 1:
        return value
    array = b.array(value)
    by: Array = np.asarray(factor, value.type.dtype.numpy)
    if array is not None:
        return b.constant((array * by).astype(array.dtype), near=value.name)
    return b.step(Mul(), value, b.constant(by, near=f"{value.name}.factor"), of=node)
