"""GELU, which exporters write with the error function or with its approximation by tanh."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph, Node, Value
from edgec.ops import Gelu
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.patterns import Call, Polynomial, Reader, kind, near, recognize, same

__all__ = ["RecognizeGelu"]


@dataclass(frozen=True, slots=True)
class RecognizeGelu(Pass):
    """Rewrite ``x / 2 * (1 + erf(x / sqrt(2)))``, or that with tanh, as ``Gelu``.

    The tanh is of ``sqrt(2 / pi) * (x + 0.044715 * x^3)``, the cube in any form. Factors may
    stand in any order, and the sum may be multiplied out: what counts is that the result is
    ``x / 2`` plus ``x / 2`` times the function.

    Constants must be those numbers but for rounding to float32.

    Within 1e-3. Runtimes approximate the function in their own way: ONNX Runtime 1.31 is off by
    8e-7 where its tanh is off by 3e-7, which a model with many of them amplifies.
    """

    name: ClassVar[str] = "recognize-gelu"
    promise: ClassVar[Promise] = Within(1e-3)

    @override
    def run(self, graph: Graph) -> Graph:
        return recognize(graph, (_gelu,), ("Erf", "Tanh"))


_CUBIC: Polynomial = {(1,): math.sqrt(2 / math.pi), (3,): 0.044715 * math.sqrt(2 / math.pi)}


def _gelu(r: Reader, node: Node) -> Call | None:
    root = node.outputs[0]
    if kind(node) not in ("Add", "Div", "Mul"):
        return None
    for curve in r.inner(root, "Erf", "Tanh"):
        z, y = curve.inputs[0], curve.outputs[0]
        if kind(curve) == "Erf":
            gelu, operands = Gelu(), _scaled_alike(r, z)
        else:
            gelu, operands = Gelu("tanh"), [(x, 1) for x in r.parts(z) if _is_cubic(r, z, x)]
        for x, sign in operands:
            if same(r.polynomial(root, x, y), {(1, 0): 0.5, (1, 1): sign * 0.5}):
                return Call.of(gelu, x)
    return None


def _scaled_alike(r: Reader, z: Value) -> list[tuple[Value, int]]:
    """Return each ``x`` for which ``z`` is ``x / sqrt(2)``, or that with the other sign."""
    lines = [line for line in r.affines(z) if line.offset == 0]
    return [
        (x, 1 if scale > 0 else -1)
        for scale, x, _ in lines
        if near(abs(scale), math.sqrt(1 / 2))
    ]


def _is_cubic(r: Reader, z: Value, x: Value) -> bool:
    return same(r.polynomial(z, x), _CUBIC)
