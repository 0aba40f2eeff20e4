"""Softmax, its logarithm and the sigmoid, which exporters write with exponentials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph, Node, Value
from edgec.ops import LogSoftmax, Mul, Sigmoid, Softmax
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.patterns import Call, Reader, kind, recognize, same

__all__ = ["RecognizeSoftmax"]


@dataclass(frozen=True, slots=True)
class RecognizeSoftmax(Pass):
    """Rewrite quotients of exponentials as ``Softmax``, ``LogSoftmax`` and ``Sigmoid``.

    * ``exp(x) / sum(exp(x))`` along one axis is ``Softmax(x)``, and ``x - log(sum(exp(x)))``
      is ``LogSoftmax(x)``. The largest ``x`` may be taken away first.
    * ``n / (1 + exp(-x))`` is ``n * Sigmoid(x)``, and ``Sigmoid(x)`` where ``n`` is 1.

    The sum must keep its axis, or be given it back. The logarithm of a softmax stays: it is
    minus infinity where a probability is too small to be stored, and ``LogSoftmax`` is not.
    Within rounding, but where exponentials overflow: there these operators are still right.
    """

    name: ClassVar[str] = "recognize-softmax"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        return recognize(graph, (_softmax, _log_softmax, _sigmoid), ("Exp",))


def _softmax(r: Reader, node: Node) -> Call | None:
    for e, total in _divisions(r, node):
        z = r.operand(e, "Exp")
        axis = None if z is None else _sum_axis(r, total, e)
        if z is not None and axis is not None:
            return Call.of(Softmax(axis), _without_maximum(r, z, axis))
    return None


def _log_softmax(r: Reader, node: Node) -> Call | None:
    if kind(node) != "Sub":
        return None
    z, logarithm = node.inputs
    total = r.operand(logarithm, "Log")
    inner = None if total is None else r.statistic(total)
    if total is None or inner is None or r.operand(inner.source, "Exp") != z:
        return None
    axis = _sum_axis(r, total, inner.source)
    return None if axis is None else Call.of(LogSoftmax(axis), _without_maximum(r, z, axis))


def _sigmoid(r: Reader, node: Node) -> Call | None:
    divisions: list[tuple[Value | None, Value]] = [*_divisions(r, node)]
    if kind(node) == "Reciprocal":
        divisions = [(None, node.inputs[0])]
    for n, divisor in divisions:
        for exp in r.inner(divisor, "Exp"):
            one_more = same(r.polynomial(divisor, exp.outputs[0]), {(0,): 1.0, (1,): 1.0})
            for line in r.affines(exp.inputs[0]) if one_more else ():
                if (line.scale, line.offset) == (-1, 0):
                    sigmoid = Call.of(Sigmoid(), line.value)
                    if n is None or r.is_number(n, 1):
                        return sigmoid
                    return Call.of(Mul(), n, sigmoid)
    return None


def _divisions(r: Reader, node: Node) -> Iterator[tuple[Value, Value]]:
    """Yield what a node divides, and by what."""
    if kind(node) == "Div":
        yield node.inputs[0], node.inputs[1]
    if kind(node) == "Mul":
        for a, b in r.sides(node):
            if (divisor := r.operand(b, "Reciprocal")) is not None:
                yield a, divisor


def _sum_axis(r: Reader, total: Value, terms: Value) -> int | None:
    """Return the one axis, counted from the end, along which `terms` are summed to `total`."""
    found = r.statistic(total)
    if found is None or (found.kind, found.source) != ("ReduceSum", terms):
        return None
    dims = terms.type.shape
    axes = [axis for axis in found.axes if dims[axis] != 1] or list(found.axes)
    return axes[0] - len(dims) if len(axes) == 1 else None


def _without_maximum(r: Reader, z: Value, axis: int) -> Value:
    """Return ``x`` where `z` is ``x`` less its largest value along `axis`, otherwise `z`."""
    node = r.made_by(z, "Sub")
    found = r.statistic(node.inputs[1]) if node else None
    if node is None or found is None or found.kind != "ReduceMax":
        return z
    x, dims = node.inputs[0], z.type.shape
    others = [a for a in found.axes if a != axis + len(dims) and dims[a] != 1]
    return x if found.source == x and not others else z
