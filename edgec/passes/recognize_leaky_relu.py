"""Leaky ReLU, which exporters write with maxima, magnitudes or a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph, Node, Value
from edgec.ops import LeakyRelu
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.patterns import Call, Reader, kind, near, recognize, short

__all__ = ["RecognizeLeakyRelu"]


@dataclass(frozen=True, slots=True)
class RecognizeLeakyRelu(Pass):
    """Rewrite a line with a bend at zero as ``LeakyRelu``, if it is ``x`` above zero.

    * ``Max(x, a * x)`` with ``0 <= a <= 1``, and ``Min(x, a * x)`` with ``a >= 1``;
    * sums of ``x``, ``Relu(x)``, ``Relu(-x)``, ``|x|``, ``Max(x, 0)`` and ``Min(x, 0)`` with
      constant factors, such as ``Relu(x) - a * Relu(-x)`` or ``Relu(x) + a * (x - |x|) / 2``;
    * ``Where(x > 0, x, a * x)``;
    * ``PRelu`` with one slope for all.

    One constant for all; what has a slope for each channel stays. ``Relu`` itself is none.
    Within rounding.
    """

    name: ClassVar[str] = "recognize-leaky-relu"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        return recognize(graph, _RULES, ("PRelu", "Where", *_BENDS))


_BENDS = ("Relu", "Abs", "Max", "Min")


def _leaky(alpha: float | None, x: Value) -> Call | None:
    return None if alpha is None else Call.of(LeakyRelu(short(alpha)), x)


def _of_extreme(r: Reader, node: Node) -> Call | None:
    name = kind(node)
    if name not in ("Max", "Min") or len(node.inputs) != 2:
        return None
    for x, other in r.sides(node):
        alpha = _multiple(r, other, x)
        if alpha is not None and (0 <= alpha <= 1 if name == "Max" else alpha >= 1):
            return _leaky(alpha, x)
    return None


def _multiple(r: Reader, value: Value, x: Value) -> float | None:
    """Return how many times `x` `value` is."""
    found = r.polynomial(value, x)
    return found[(1,)] if found is not None and found.keys() == {(1,)} else None


def _of_choice(r: Reader, node: Node) -> Call | None:
    if kind(node) != "Where":
        return None
    condition, above, below = node.inputs
    test = r.made_by(condition, "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    if test is None:
        return None
    x, zero = test.inputs
    less = kind(test).startswith("Less")
    if r.is_number(x, 0):
        x, zero, less = zero, x, not less
    if less:
        above, below = below, above
    return _leaky(_multiple(r, below, x), x) if above == x and r.is_number(zero, 0) else None


def _of_prelu(r: Reader, node: Node) -> Call | None:
    if kind(node) != "PRelu":
        return None
    return _leaky(r.number(node.inputs[1]), node.inputs[0])


def _of_bends(r: Reader, node: Node) -> Call | None:
    root = node.outputs[0]
    bends = list(r.inner(root, *_BENDS)) if kind(node) in ("Add", "Sub", "Mul", "Div") else []
    for first in bends:
        for line in r.affines(first.inputs[0]):
            x = line.value
            slopes = [_slopes(r, bend, x) for bend in bends]
            found = r.polynomial(root, x, *(bend.outputs[0] for bend in bends))
            if found is None or any(sum(powers) != 1 for powers in found):
                continue
            above = below = found.get((1, *(0,) * len(bends)), 0.0)
            for k, slope in enumerate(slopes):
                unit = tuple(int(i == k + 1) for i in range(len(bends) + 1))
                above += found.get(unit, 0.0) * (slope[0] if slope else math.nan)
                below += found.get(unit, 0.0) * (slope[1] if slope else math.nan)
            if near(above, 1):
                return _leaky(below, x)
    return None


def _slopes(r: Reader, bend: Node, x: Value) -> tuple[float, float] | None:
    """Return the slopes of a bent line of `x` above and below zero, if it bends there."""
    operands = [v for v in bend.inputs if not r.is_number(v, 0)]
    inner = _multiple(r, operands[0], x) if len(operands) == 1 else None
    if inner is None:
        return None
    match kind(bend):
        case "Relu" | "Max":
            return max(inner, 0.0), min(inner, 0.0)
        case "Min":
            return min(inner, 0.0), max(inner, 0.0)
        case "Abs":
            return abs(inner), -abs(inner)
    return None


_RULES = (_of_extreme, _of_choice, _of_prelu, _of_bends)
