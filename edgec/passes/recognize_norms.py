"""Layer and RMS normalisations that exporters write out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Graph, Node, Value
from edgec.ops import GlobalLpPool, LayerNorm, RMSNorm, RoiAlign
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.patterns import Call, Reader, Statistic, kind, recognize, short

__all__ = ["RecognizeNorms"]


@dataclass(frozen=True, slots=True)
class RecognizeNorms(Pass):
    """Rewrite what normalises by mean and deviation as ``LayerNorm``, by size as ``RMSNorm``.

    ``gamma * (x - mean(x)) / sqrt(var + epsilon) + beta``, where ``var`` is the mean of
    ``(x - mean(x))^2``, or of ``x^2`` less ``mean(x)^2``. Without the means it is an
    ``RMSNorm``. Factors stand in any order; square roots may be divisors, reciprocals or
    powers; a mean may be a sum divided by its terms; ``gamma`` may be multiplied first, and
    then also be in the term that takes the mean away.

    The axes must be the last ones. ``gamma`` and ``beta`` must have their shape: one that is
    constant is given it, and one that is missing is 1 or 0. An `RMSNorm` is of opset 23: there
    is none beside operators that ONNX Runtime knows in their older forms only. Within rounding:
    sums are taken in another order, and squares about the mean, which is more precise.
    """

    name: ClassVar[str] = "recognize-norms"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        old = any(isinstance(node.op, _NO_KERNEL_THEN) for node in graph.nodes)
        rules = (_layer_norm,) if old else (_layer_norm, _rms_norm)
        return recognize(graph, rules, ("Sqrt", "Pow"))


_NO_KERNEL_THEN = (GlobalLpPool, RoiAlign)
"""Operators that ONNX Runtime 1.31 has no kernel for in the opset that `RMSNorm` needs."""


class _Norm(NamedTuple):
    """``gammas * (x - mean(x)) / sqrt(var + epsilon)``, or that without the mean."""

    x: Value
    axes: tuple[int, ...]
    epsilon: float
    gammas: tuple[Value, ...]


Factor = tuple[Value, int]
"""A value, and 1 where it is multiplied or -1 where it is divided by."""


def _layer_norm(r: Reader, node: Node) -> Call | None:
    name = kind(node)
    if name in ("Mul", "Div"):
        return _call(r, _centred_norm(r, node.outputs[0]), None)
    if name != "Add":
        return None
    for y, beta in r.sides(node):
        found = _call(r, _centred_norm(r, y), beta) or _call(r, *_expanded_norm(r, y, beta))
        if found is not None:
            return found
    return None


def _rms_norm(r: Reader, node: Node) -> Call | None:
    if kind(node) not in ("Mul", "Div"):
        return None
    factors = list(_factors(r, node.outputs[0]))
    for x, power in factors:
        rest = [f for f in factors if f != (x, power)]
        norm = _divided(r, x, rest, centred=False) if power == 1 else None
        if norm is None:
            continue
        dims = _trailing(norm)
        gamma = _parameter(r, norm.gammas, 1.0, dims, x) if dims else None
        if dims and gamma is not None:
            return Call.of(RMSNorm(-len(dims), short(norm.epsilon)), x, gamma)
    return None


def _call(r: Reader, norm: _Norm | None, beta: Value | None) -> Call | None:
    dims = _trailing(norm) if norm else None
    if norm is None or dims is None:
        return None
    gamma = _parameter(r, norm.gammas, 1.0, dims, norm.x)
    offset = _parameter(r, () if beta is None else (beta,), 0.0, dims, norm.x)
    if gamma is None or offset is None:
        return None
    op = LayerNorm(-len(dims), short(norm.epsilon))
    return Call.of(op, norm.x, gamma) if beta is None else Call.of(op, norm.x, gamma, offset)


def _trailing(norm: _Norm) -> tuple[int, ...] | None:
    """Return the lengths of the axes, if these are the last ones and of known length."""
    dims = norm.x.type.shape
    first = len(dims) - len(norm.axes)
    lengths = tuple(d for d in dims[first:] if isinstance(d, int))
    last = norm.axes and norm.axes == tuple(range(first, len(dims)))
    return lengths if last and len(lengths) == len(norm.axes) else None


def _parameter(
    r: Reader, values: tuple[Value, ...], default: float, dims: tuple[int, ...], x: Value
) -> Value | Array | None:
    """Return the product of factors, or an offset, in the shape `dims`."""
    if len(values) == 1 and values[0].type.dims == dims:
        return values[0]
    total = np.full(dims, default, x.type.dtype.numpy)
    for value in values:
        array = r.graph.constant(value)
        if array is None or array.ndim > x.type.rank:
            return None
        ahead = x.type.rank - len(dims)
        full = array.reshape((1,) * (x.type.rank - array.ndim) + array.shape)
        if any(n != 1 for n in full.shape[:ahead]):
            return None
        array = full.reshape(full.shape[ahead:])
        total = total * array if default else total + array
    return total


def _centred_norm(r: Reader, y: Value) -> _Norm | None:
    """Read ``gamma * (x - mean) / deviation``."""
    factors = list(_factors(r, y))
    for d, power in factors:
        mean = _centred(r, d)
        if mean is not None and power == 1:
            rest = [f for f in factors if f != (d, power)]
            norm = _divided(r, mean.source, rest, centred=True)
            return norm if norm and norm.axes == mean.axes else None
    return None


def _expanded_norm(r: Reader, y: Value, z: Value) -> tuple[_Norm | None, Value | None]:
    """Read ``x * k`` and ``beta - mean * k``, where ``k`` is gamma by deviation; also beta."""
    first, second = r.made_by(y, "Mul"), r.made_by(z, "Sub")
    if first is None or second is None:
        return None, None
    beta, product = second.inputs
    third = r.made_by(product, "Mul")
    for x, k in r.sides(first):
        for mean, same in r.sides(third) if third else ():
            found = r.statistic(mean) if same == k else None
            if found is not None and (found.kind, found.source) == ("ReduceMean", x):
                norm = _divided(r, x, list(_factors(r, k)), centred=True)
                return (norm, beta) if norm and norm.axes == found.axes else (None, None)
    return None, None


def _factors(r: Reader, value: Value, power: int = 1, *, root: bool = True) -> Iterator[Factor]:
    """Yield the factors of a product, as far as only it reads them."""
    node = r.made_by(value, "Mul", "Div", "Reciprocal")
    if node is None or (r.reads[value] > 1 and not root):
        yield value, power
        return
    for turned, operand in enumerate(node.inputs):
        inverse = kind(node) == "Reciprocal" or (kind(node) == "Div" and turned)
        yield from _factors(r, operand, -power if inverse else power, root=False)


def _divided(r: Reader, x: Value, factors: list[Factor], *, centred: bool) -> _Norm | None:
    """Return the norm of `x` if one factor divides by its deviation; the others are gamma."""
    for factor in factors:
        rest = [f for f in factors if f != factor]
        variance = _under_root(r, *factor) if all(p == 1 for _, p in rest) else None
        for scale, var, epsilon in r.affines(variance) if variance else ():
            axes = _variance(r, var, x) if centred else _mean_square(r, var, x)
            if scale == 1 and epsilon >= 0 and axes:
                return _Norm(x, axes, epsilon, tuple(v for v, _ in rest))
    return None


def _under_root(r: Reader, value: Value, power: int) -> Value | None:
    """Return what a factor is one by the square root of."""
    if power == -1 and (inner := r.operand(value, "Sqrt")) is not None:
        return inner
    node = r.made_by(value, "Pow")
    return node.inputs[0] if node and r.is_number(node.inputs[1], -power / 2) else None


def _variance(r: Reader, value: Value, x: Value) -> tuple[int, ...] | None:
    """Return the axes along which `value` is the variance of `x`."""
    found = r.statistic(value)
    if found is not None:  # the mean of (x - mean)^2
        d = _squared(r, found.source)
        mean = None if d is None else _centred(r, d)
        same = mean is not None and (mean.source, mean.axes) == (x, found.axes)
        return found.axes if same and found.kind == "ReduceMean" else None
    inner = value
    while (node := r.made_by(inner, "Reshape", "Max")) is not None:
        operands = node.inputs[:1]
        if kind(node) == "Max":  # with zero, lest rounding makes it negative
            operands = tuple(v for v in node.inputs if not r.is_number(v, 0))
        if len(operands) != 1:
            return None
        (inner,) = operands
    node = r.made_by(inner, "Sub")
    square = _squared(r, node.inputs[1]) if node else None
    if node is None or square is None or node.inputs[0].type != inner.type:
        return None
    mean = r.statistic(square, value)
    axes = _mean_square(r, node.inputs[0], x, value)
    if mean is None or square.type != inner.type:
        return None
    return axes if (mean.kind, mean.source, mean.axes) == ("ReduceMean", x, axes) else None


def _mean_square(
    r: Reader, value: Value, x: Value, outer: Value | None = None
) -> tuple[int, ...] | None:
    """Return the axes along which `value` is the mean of the squares of `x`."""
    found = r.statistic(value, outer)
    if found is None or found.kind != "ReduceMean" or _squared(r, found.source) != x:
        return None
    return found.axes


def _squared(r: Reader, value: Value) -> Value | None:
    """Return what `value` is the square of."""
    node = r.made_by(value, "Mul", "Pow")
    if node is None:
        return None
    x, y = node.inputs
    return x if (x == y if kind(node) == "Mul" else r.is_number(y, 2)) else None


def _centred(r: Reader, d: Value) -> Statistic | None:
    """Return the mean that is taken away from its own source."""
    node = r.made_by(d, "Sub")
    mean = r.statistic(node.inputs[1]) if node else None
    if node is None or mean is None or mean.kind != "ReduceMean":
        return None
    return mean if mean.source == node.inputs[0] else None
