"""What vectors of integers hold that are made of shapes, where lengths have names."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgec.ir import UNKNOWN, Dim, Graph, Node, TensorType, Value
from edgec.ops import (
    Add,
    Binary,
    Cast,
    Concat,
    Div,
    Gather,
    Identity,
    Mul,
    Opaque,
    Reshape,
    Shape,
    Size,
    Slice,
    Sub,
)

__all__ = ["Lengths", "lengths", "reshape"]

Lengths = tuple[Dim, ...]
"""The elements of an integer scalar or vector; `UNKNOWN` for one that cannot be told."""

_MOST = 64  # elements; shapes are short


def lengths(graph: Graph) -> dict[str, Lengths]:
    """Return, by name, what is known of integers that the shapes of other values decide."""
    found: dict[str, Lengths] = {}
    for node in graph.nodes:
        out = node.outputs[0].type
        if not _is_short(out):
            continue
        elements = _elements(node, lambda v: _held(graph, found, v))
        if elements is not None and len(elements) == out.size:
            found[node.outputs[0].name] = elements
    return found


def _is_short(t: TensorType) -> bool:
    integer = t.dtype.value in ("i32", "i64")
    return integer and t.is_static and t.rank <= 1 and t.size <= _MOST


def _held(graph: Graph, found: dict[str, Lengths], value: Value) -> Lengths | None:
    array = graph.constant(value)
    if array is not None and _is_short(value.type):
        return tuple(map(int, array.reshape(-1)))
    return found.get(value.name)


def _elements(node: Node, held: Callable[[Value], Lengths | None]) -> Lengths | None:
    op = node.op
    dims = node.inputs[0].type.dims if node.inputs else None
    if isinstance(op, Shape):
        return None if dims is None else dims[op.start : op.end]
    if isinstance(op, Opaque) and (op.domain, op.op_type) == ("", "Shape"):
        attributes = {a.name: a.i for a in op.node_proto().attribute}
        cut = slice(attributes.get("start", 0), attributes.get("end"))
        return None if dims is None else dims[cut]
    if isinstance(op, Size):
        t = node.inputs[0].type
        return (t.size,) if t.is_static else None
    operands = [held(v) for v in node.inputs]
    known = [v for v in operands if v is not None]
    if len(known) != len(operands) or not known:
        return None
    match op:
        # A cast between integers, as both ends are.
        case Identity() | Reshape() | Cast() | Opaque(op_type="Cast"):
            return known[0]
        case Gather(axis=0):
            return _picked(*known)
        case Slice(axes=(0,)):
            return known[0][op.starts[0] : op.ends[0] : op.steps[0]]
        case Concat(axis=0):
            return sum(known, ())
        case Binary() if len(known) == 2:
            return _computed(op, *known)
        case _:
            return None


def _picked(values: Lengths, indices: Lengths) -> Lengths | None:
    numbers = [i for i in indices if isinstance(i, int) and -len(values) <= i < len(values)]
    return tuple(values[i] for i in numbers) if len(numbers) == len(indices) else None


def _computed(op: Binary, a: Lengths, b: Lengths) -> Lengths:
    longest = max(len(a), len(b))
    a, b = (v * longest if len(v) == 1 else v for v in (a, b))
    return tuple(_result(op, x, y) for x, y in zip(a, b, strict=True))


def _result(op: Binary, x: Dim, y: Dim) -> Dim:
    neutral = 1 if isinstance(op, Mul | Div) else 0
    if y == neutral:
        return x
    if x == neutral and isinstance(op, Mul | Add):
        return y
    if isinstance(x, str) or isinstance(y, str):
        return UNKNOWN
    match op:
        case Add():
            return x + y
        case Sub():
            return x - y
        case Mul():
            return x * y
        case Div() if x >= 0 and y > 0:  # ONNX rounds towards zero
            return x // y
        case _:
            return UNKNOWN


def reshape(x: TensorType, target: Lengths) -> Reshape | None:
    """Return the reshape of `x` to `target`, or ``None`` if two lengths cannot be told.

    A length 0 in `target` is that of `x`, and -1 is what is left over.
    """
    if x.dims is None or UNKNOWN in x.dims or 0 in x.dims:
        return None
    wanted = [x.dims[i] if d == 0 and i < x.rank else d for i, d in enumerate(target)]
    names = sorted(d for d in x.dims if isinstance(d, str))
    given = [d for d in wanted if d != -1]
    if wanted.count(-1) == 1 and sorted(d for d in given if isinstance(d, str)) == names:
        # What has a name is on both sides, so that the rest divides as numbers do.
        total = math.prod(d for d in x.dims if isinstance(d, int))
        rest = math.prod(d for d in given if isinstance(d, int))
        if rest <= 0 or total % rest:
            return None
        wanted = [total // rest if d == -1 else d for d in wanted]
    return Reshape.to(tuple(wanted))
