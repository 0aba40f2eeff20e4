"""Join neighbours that only move values into one node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node, TensorType, Value
from edgec.ops import Concat, Expand, Pad, Reduction, Reshape, Slice, Transpose
from edgec.passes.axis_groups import axis_groups
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["JoinMoves"]

_TO_THE_START = -(2**31)


@dataclass(frozen=True, slots=True)
class JoinMoves(Pass):
    """Write two nodes in a row that only move values as one.

    * ``Reshape`` of ``Reshape``, ``Transpose`` of ``Transpose``, ``Expand`` of ``Expand``,
      ``Slice`` of ``Slice``, ``Pad`` of ``Pad`` with the same value: the latter reads the
      operand of the former, which goes if nothing else reads it.
    * ``Slice`` of ``Concat`` that takes from one part only: reads that part.
    * ``Concat`` of ``Concat`` along the same axis, if nothing else reads the inner one.
    * ``Transpose`` that moves axes of length 1 only: a ``Reshape``, which costs nothing.
    * ``Transpose`` of ``Reshape`` of ``Transpose``, where the outer one keeps together what
      the reshape splits or joins: one ``Transpose`` and a ``Reshape``. Likewise ``Reshape`` of
      ``Transpose`` of ``Reshape``. Nothing else may read what is in between.
    * ``Reshape`` that brings axes back that a reduction dropped, or drops those it kept:
      the reduction does so itself, if nothing else reads it.

    Exact: no number is touched.
    """

    name: ClassVar[str] = "join-moves"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._rewrite(b, node):
                b.copy(node)
        after = b.finish()
        return after if after is graph else self.run(after)

    def _rewrite(self, b: Builder, node: Node) -> bool:
        if isinstance(node.op, Concat):
            return _flatten(b, node)
        if not isinstance(node.op, _MOVES):
            return False
        x = b.now(node.inputs[0])
        inner = b.producer(x)
        if isinstance(node.op, Transpose) and _is_reshape(b, node, node.op, inner):
            b.add(Reshape(node.output.type.ints), x, like=node)
            return True
        if inner is None:
            return False
        if isinstance(node.op, Transpose | Reshape) and _commuted(b, node, inner):
            return True
        if isinstance(node.op, Slice) and isinstance(inner.op, Concat):
            return _slice_of_part(b, node, node.op, inner, inner.op)
        if isinstance(inner.op, Reduction) and isinstance(node.op, Reshape):
            return _reduced_to(b, node, inner, inner.op)
        joined = _joined(node, inner)
        if joined is None:
            return False
        b.add(joined, inner.inputs[0], like=node, absorbs=(inner,))
        return True


_MOVES = (Reshape, Transpose, Expand, Slice, Pad)


def _joined(node: Node, inner: Node) -> Reshape | Transpose | Expand | Slice | Pad | None:
    """Return the one operator that does what two in a row do, or ``None``."""
    out = node.output.type
    match node.op, inner.op:
        case Reshape(), Reshape() if out.is_static:
            return Reshape(out.ints)
        case Expand(), Expand() if out.is_static:
            return Expand(out.ints)
        case Transpose(outer), Transpose(perm):
            return Transpose(tuple(perm[axis] for axis in outer))
        case Pad(more, value), Pad(pads, same) if value == same:
            return Pad(tuple(a + b for a, b in zip(pads, more, strict=True)), value)
        case Slice() as second, Slice() as first:
            return _slice_of_slice(first, second, inner.inputs[0].type)
    return None


def _is_reshape(b: Builder, node: Node, op: Transpose, inner: Node | None) -> bool:
    """Whether a transpose keeps all axes longer than 1 in order and has none to join beside."""
    x = node.inputs[0].type
    readers = (n.op for n in b.source.users.get(node.output, ()))
    near = [*readers, inner.op if inner is not None else None]
    if not x.is_static or any(isinstance(other, Transpose) for other in near):
        return False
    long = [axis for axis in op.perm if x.ints[axis] != 1]
    return long == sorted(long) and op.perm != tuple(sorted(op.perm))


def _commuted(b: Builder, node: Node, inner: Node) -> bool:
    """Join the first and the last of three, if the one in between can change places."""
    x = inner.inputs[0]
    first = b.producer(x)
    if first is None or not isinstance(inner.op, Transpose | Reshape):
        return False
    if type(first.op) is not type(node.op) or type(inner.op) is type(node.op):
        return False
    alone = b.source.is_only_read_by(node.inputs[0], node)
    old = b.source.producers.get(node.inputs[0])
    if not alone or old is None or not b.source.is_only_read_by(old.inputs[0], old):
        return False
    if isinstance(first.op, Transpose) and isinstance(node.op, Transpose):
        order = _before_reshape(node.op.perm, x.type, inner.output.type)
        if order is None:
            return False
        joined = Transpose(tuple(first.op.perm[axis] for axis in order))
        y = b.step(joined, first.inputs[0], of=old)
        b.add(Reshape(node.output.type.ints), y, like=node, absorbs=(first,))
        return True
    if isinstance(inner.op, Transpose):
        order = _before_reshape(inner.op.perm, first.inputs[0].type, x.type)
        if order is None or not node.output.type.is_static:
            return False
        y = b.step(Transpose(order), first.inputs[0], of=old)
        b.add(Reshape(node.output.type.ints), y, like=node, absorbs=(first,))
        return True
    return False


def _before_reshape(
    perm: tuple[int, ...], x: TensorType, y: TensorType
) -> tuple[int, ...] | None:
    """Return the order of axes that does before a reshape of `x` to `y` what `perm` does after.

    ``None`` if `perm` tears apart what the reshape splits or joins.
    """
    if not x.is_static or not y.is_static or not x.size:
        return None
    groups = axis_groups(x.ints, y.ints)
    of = {axis: group for group in groups for axis in group.after}
    order: list[int] = [axis for axis, length in enumerate(x.ints) if length == 1]
    moved = [axis for axis in perm if axis in of]
    while moved:
        group = of[moved[0]]
        if tuple(moved[: len(group.after)]) != group.after:
            return None
        order += group.before
        del moved[: len(group.after)]
    return tuple(order)


def _slice_of_slice(first: Slice, second: Slice, x: TensorType) -> Slice | None:
    """Return one slice that cuts as two do; each axis is cut to a range, and that again."""
    if len(set(first.axes)) < len(first.axes) or len(set(second.axes)) < len(second.axes):
        return None
    cuts = {a: (s, e, p) for a, s, e, p in _cuts(first)}
    if not x.is_static and not cuts.keys().isdisjoint(second.axes):
        return None
    known = first.ranges(x) if x.is_static else {}
    both = {axis: r for axis, r in known.items() if axis in second.axes}
    for axis, start, end, step in _cuts(second):
        if axis not in both:
            cuts[axis] = start, end, step
            continue
        kept = second.ranges(x.with_shape(_shortened(x, both)))[axis]
        chosen = both[axis][kept.start : None if kept.stop < 0 else kept.stop : kept.step]
        if not chosen:
            return None
        stop = _TO_THE_START if chosen.stop < 0 else chosen.stop
        cuts[axis] = chosen.start, stop, chosen.step
    axes = sorted(cuts)
    return Slice(
        tuple(cuts[a][0] for a in axes),
        tuple(cuts[a][1] for a in axes),
        tuple(axes),
        tuple(cuts[a][2] for a in axes),
    )


def _cuts(op: Slice) -> list[tuple[int, int, int, int]]:
    return list(zip(op.axes, op.starts, op.ends, op.steps, strict=True))


def _shortened(x: TensorType, cut: dict[int, range]) -> tuple[int, ...]:
    return tuple(len(cut[a]) if a in cut else d for a, d in enumerate(x.ints))


def _slice_of_part(b: Builder, node: Node, cut: Slice, joined: Node, concat: Concat) -> bool:
    """Rewrite a slice that takes from one part of a concatenation only."""
    at = concat.axis
    if cut.axes.count(at) != 1 or not all(v.type.is_static for v in joined.inputs):
        return False
    kept = cut.ranges(joined.output.type)[at]
    if not kept:
        return False
    offset = 0
    for part in joined.inputs:
        length = part.type.ints[at]
        low, high = min(kept), max(kept)
        if offset <= low and high < offset + length:
            stop = kept.stop - offset
            starts, ends = list(cut.starts), list(cut.ends)
            i = cut.axes.index(at)
            starts[i] = kept.start - offset
            ends[i] = _TO_THE_START if stop < 0 else stop
            op = replace(cut, starts=tuple(starts), ends=tuple(ends))
            b.add(op, part, like=node)
            return True
        offset += length
    return False


def _flatten(b: Builder, node: Node) -> bool:
    """Rewrite a concatenation of concatenations along one axis."""
    parts: list[Value] = []
    absorbed: list[Node] = []
    for old in node.inputs:
        part = b.now(old)
        inner = b.producer(part)
        if inner is not None and inner.op == node.op and b.source.is_only_read_by(old, node):
            parts += inner.inputs
            absorbed.append(inner)
        else:
            parts.append(part)
    if absorbed:
        b.add(node.op, *parts, like=node, absorbs=absorbed)
    return bool(absorbed)


def _reduced_to(b: Builder, node: Node, inner: Node, op: Reduction) -> bool:
    """Rewrite a reduction whose result only gets its axes back, or loses them."""
    if not b.source.is_only_read_by(node.inputs[0], node):
        return False
    other = replace(op, keepdims=not op.keepdims)
    x = inner.inputs[0]
    if not x.type.is_static or other.infer(x.type) != (node.output.type,):
        return False
    b.add(other, x, like=node, absorbs=(inner,))
    return True
