"""Write activations whose kernels in ONNX Runtime are slow by ones that are fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Graph, Node, Op
from edgec.ops import (
    Abs,
    Add,
    Clip,
    Div,
    Exp,
    Log,
    Max,
    Min,
    Mish,
    Mul,
    PRelu,
    Relu,
    Sigmoid,
    Softplus,
    Sub,
    Swish,
)
from edgec.passes import Pass, Promise, Within
from edgec.passes.patterns import Call, Reader, recognize

__all__ = ["ExpandSlowActivations"]


@dataclass(frozen=True, slots=True)
class ExpandSlowActivations(Pass):
    """Rewrite ``PRelu``, ``Mish``, ``Softplus`` and ``Swish`` as several operators.

    * ``PRelu(x, a)`` as ``Max(x, a * x)`` if all of ``a`` is above 0 and at most 1, otherwise
      as ``Relu(x) + a * Min(x, 0)``;
    * ``Mish(x)`` as ``x * n / (n + 2)`` with ``n = w * (w + 2)`` and ``w = exp(min(x, 20))``,
      which is ``x * tanh(ln(1 + exp(x)))`` without the logarithm;
    * ``Softplus(x)`` as ``Relu(x) - Log(Sigmoid(|x|))``;
    * ``Swish(x)`` as ``x * Sigmoid(alpha * x)``.

    On an x86-64 processor ONNX Runtime 1.31 takes 5 to 15 times as long for the first three as
    for their parts, for it computes them element by element; it writes ``Swish`` out itself,
    but not so that it can fuse it. Values of fewer than 4096 elements are left alone: there a
    node costs more than its work.

    Within rounding.
    """

    name: ClassVar[str] = "expand-slow-activations"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        return recognize(graph, (_expanded,), [op.onnx_name for op in _SLOW])


_SLOW: tuple[type[Op], ...] = (PRelu, Mish, Softplus, Swish)
_SMALL = 4096


def _expanded(r: Reader, node: Node) -> Call | None:
    out = node.outputs[0].type
    if not isinstance(node.op, _SLOW) or (out.is_static and out.size < _SMALL):
        return None
    x, *rest = node.inputs

    def number(value: float) -> Array:
        return np.array(value, out.dtype.numpy)

    match node.op:
        case Mish():
            w = Call.of(Exp(), Call.of(Clip(high=20.0), x))
            n = Call.of(Mul(), w, Call.of(Add(), w, number(2)))
            return Call.of(Mul(), x, Call.of(Div(), n, Call.of(Add(), n, number(2))))
        case Softplus():
            logarithm = Call.of(Log(), Call.of(Sigmoid(), Call.of(Abs(), x)))
            return Call.of(Sub(), Call.of(Relu(), x), logarithm)
        case Swish(alpha):
            inner = x if alpha == 1 else Call.of(Mul(), x, number(alpha))
            return Call.of(Mul(), x, Call.of(Sigmoid(), inner))
    slope = r.graph.constant(rest[0])
    if slope is not None and (slope > 0).all() and (slope <= 1).all():
        return Call.of(Max(), x, Call.of(Mul(), x, rest[0]))
    below = Call.of(Mul(), Call.of(Min(), x, number(0)), rest[0])
    return Call.of(Add(), Call.of(Relu(), x), below)
