"""Do arithmetic with constants once, and none that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, Graph, Node, Op, Value
from edgec.ops import (
    Activation,
    Add,
    And,
    Binary,
    Clip,
    Div,
    Identity,
    Mul,
    Neg,
    Not,
    Or,
    Pow,
    Relu,
    Sub,
    Where,
    Xor,
)
from edgec.passes.affine import Affine, affine_of
from edgec.passes.base import Pass, Promise, Within

__all__ = ["MergeArithmetic"]

_LARGEST = 2.0**20
"""Larger constants, added and taken away again, are there to round."""


_FEW = 16
"""So many elements may be added for a node less."""


@dataclass(frozen=True, slots=True)
class MergeArithmetic(Pass):
    """Write a chain of arithmetic with constants as one product and one sum at most.

    ``Mul``, ``Div``, ``Add``, ``Sub``, ``Neg`` and ``BatchNorm`` in a row compute
    ``k * x + d``. Where fewer nodes do, these are put in their place: ``Mul`` by ``k``,
    ``Add`` of ``d``, or ``d - x``.
    Only floats, no activation but the last one's, nothing else may read what is in between,
    and ``k`` and ``d`` are no larger than the constants that vanish for them. Constants of
    ``2^20`` and more stay: they are there to round.

    What changes nothing is dropped: a factor or divisor of one, an exponent of one, an offset
    of zero, logic with a constant that decides nothing, ``Not`` of ``Not``, a ``Where`` whose
    condition is the same everywhere.

    Within rounding: ``k`` and ``d`` are computed in float64 and rounded once.
    """

    name: ClassVar[str] = "merge-arithmetic"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not (_drop(b, node) or _merge(b, node)):
                b.copy(node)
        return b.finish()


def _drop(b: Builder, node: Node) -> bool:
    """Put an `Identity`, or an activation alone, in place of what changes nothing."""
    x = _unchanged(b, node)
    if x is None or not x.type.refines(node.output.type):
        return False
    b.add(_activation(node.op), x, like=node)
    return True


def _activation(op: Op) -> Op:
    kind = op.activation if isinstance(op, Binary) else Activation.NONE
    if kind is Activation.NONE:
        return Identity()
    return Relu() if kind is Activation.RELU else Clip(*kind.bounds)


def _unchanged(b: Builder, node: Node) -> Value | None:
    """Return the operand that a node returns as it is, if there is one."""
    inputs = [b.now(v) for v in node.inputs]
    match node.op:
        case Mul():
            return _other(b, inputs, 1)
        case Add() | Or() | Xor():
            return _other(b, inputs, 0)
        case And():
            return _other(b, inputs, 1)
        case Div() | Pow():
            return inputs[0] if _is_all(b, inputs[1], 1) else None
        case Sub():
            return inputs[0] if _is_all(b, inputs[1], 0) else None
        case Where():
            condition, yes, no = inputs
            return yes if _is_all(b, condition, 1) else no if _is_all(b, condition, 0) else None
        case Not():
            inner = b.producer(inputs[0])
            return inner.inputs[0] if inner is not None and inner.op == Not() else None
    return None


def _other(b: Builder, inputs: list[Value], neutral: float) -> Value | None:
    left, right = inputs
    return left if _is_all(b, right, neutral) else right if _is_all(b, left, neutral) else None


def _is_all(b: Builder, value: Value, number: float) -> bool:
    array = b.array(value)
    return array is not None and array.size > 0 and bool((array == number).all())


@dataclass(frozen=True, slots=True)
class _Chain:
    """``k * x + d``, computed by a chain of nodes.

    Parameters
    ----------
    freed
        How many elements the constants have that nothing else reads.
    """

    x: Value
    k: Array
    d: Array
    nodes: tuple[Node, ...]
    freed: int


def _merge(b: Builder, node: Node) -> bool:
    """Rewrite a chain of arithmetic that ends in `node`, if that takes fewer nodes."""
    if not node.outputs[0].type.dtype.is_float:
        return False
    found = _chain(b, node)
    if found is None:
        return False
    dtype = node.output.type.dtype.numpy
    with np.errstate(over="ignore"):  # looked at below
        k, d = (np.asarray(a).astype(dtype) for a in (found.k, found.d))
    sizes = np.abs(found.k[found.k != 0])
    if (sizes >= _LARGEST).any() or (sizes <= 1 / _LARGEST).any() or not np.isfinite(d).all():
        return False
    last = node.op.activation if isinstance(node.op, Binary) else Activation.NONE
    steps = _steps(k, d, last)
    added = sum(array.size for _, array in steps if array is not None)
    if len(steps) >= len(found.nodes) or added > max(found.freed, _FEW):
        return False
    x, name, inner = found.x, node.output.name, found.nodes[:-1]
    for op, array in steps[:-1]:
        constants = [] if array is None else [b.constant(array, f"{name}.constant")]
        (x,) = b.add(op, x, *constants, names=[b.fresh(f"{name}.scaled")], absorbs=inner)
    op, array = steps[-1]
    constants = [] if array is None else [b.constant(array, f"{name}.constant")]
    inputs = [*constants, x] if isinstance(op, Sub) else [x, *constants]
    b.add(op, *inputs, like=node, absorbs=inner)
    return True


def _steps(k: Array, d: Array, last: Activation) -> list[tuple[Op, Array | None]]:
    """Return operators, each with its constant, that compute ``k * x + d``."""
    unit, zero = bool((k == 1).all()), bool((d == 0).all())
    if unit and zero:
        return [(_activation(Add(last)), None)]
    if unit:
        return [(Add(last), d)]
    if (k == -1).all() and not (zero and last is not Activation.NONE):
        return [(Neg(), None)] if zero else [(Sub(last), d)]
    return [(Mul(last), k)] if zero else [(Mul(), k), (Add(last), d)]


def _chain(b: Builder, node: Node) -> _Chain | None:
    """Return what a node and those right before it compute of one value."""
    step = affine_of(b, node)
    if step is None or not _is_moderate(step):
        return None
    old, k, d = step.x, step.k, step.d
    freed = sum(
        v.type.size
        for v in node.inputs
        if v != old and b.source.is_only_read_by(v, node) and b.source.constant(v) is not None
    )
    x = b.now(old)
    maker = b.source.producers.get(old)
    first: _Chain | None = None
    if maker is not None and b.source.is_only_read_by(old, node):
        carries = isinstance(maker.op, Binary) and maker.op.activation is not Activation.NONE
        first = None if carries else _chain(b, maker)
    if first is None or first.x.type.dtype is not x.type.dtype:
        return _Chain(x, k, d, (node,), freed)
    joined = k * first.d + d
    return _Chain(first.x, k * first.k, joined, (*first.nodes, node), freed + first.freed)


def _is_moderate(step: Affine) -> bool:
    sizes = np.abs(np.concatenate([step.k.reshape(-1), step.d.reshape(-1)]))
    return bool((sizes < _LARGEST).all() and (np.abs(step.k) > 1 / _LARGEST).all())
