"""Two ways to lay out the same values, and operators that compute in either."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Node, Op, QuantParams, TensorType
from edgec.ops import (
    Broadcasting,
    Concat,
    Dequantize,
    Expand,
    LayerNorm,
    Padding,
    PRelu,
    Quantize,
    Reduction,
    Reshape,
    RMSNorm,
    Slice,
    Split,
    Tile,
    Transpose,
    Unary,
)
from edgec.ops.normalization import OverClasses
from edgec.passes.axis_groups import AxisGroup, axis_groups

__all__ = ["ELEMENTWISE", "Permuted", "Reshaped", "View"]

ELEMENTWISE = (Unary, Broadcasting, PRelu)
"""Operators on each element alone, whose operands broadcast."""


class View(ABC):
    """A way to lay out values: what is seen as `v` is stored as `s`, with ``v = seen(s)``.

    Subclasses say which values can be stored so, and how operators read and write them.
    """

    @abstractmethod
    def stores(self, t: TensorType) -> bool:
        """Whether values of this type can be stored."""

    @abstractmethod
    def stored(self, t: TensorType) -> TensorType:
        """Return the type in which a value of type `t` is stored."""

    @abstractmethod
    def is_seen(self, node: Node) -> bool:
        """Whether a node computes ``seen``."""

    @abstractmethod
    def is_stored(self, node: Node) -> bool:
        """Whether a node computes the inverse of ``seen``."""

    @abstractmethod
    def is_same(self, t: TensorType) -> bool:
        """Whether values of this type are stored as they are seen."""

    @abstractmethod
    def see(self, t: TensorType) -> Op:
        """Return the operator that computes a value of type `t` from what is stored."""

    @abstractmethod
    def store(self, t: TensorType) -> Op:
        """Return the operator that computes what is stored for a value of type `t`."""

    @abstractmethod
    def constant(self, array: Array, seen: TensorType) -> Array | None:
        """Return a constant operand, for a node that computes `seen`, as it is to be stored.

        ``None`` if there is no such array.
        """

    @abstractmethod
    def turned(self, node: Node) -> Op | None:
        """Return the operator that computes stored results from stored operands, if any.

        Asked only for nodes whose results can be stored.
        """

    @abstractmethod
    def takes_either(self, node: Node) -> Op | None:
        """Return the operator that computes the same results from stored operands, if any."""

    @abstractmethod
    def makes_either(self, node: Node) -> Op | None:
        """Return the operator that computes stored results from the same operands, if any."""

    @abstractmethod
    def cost_bytes(self, t: TensorType) -> int:
        """Return how many bytes ``seen`` or its inverse moves for a value of type `t`."""


@dataclass(frozen=True, slots=True)
class Permuted(View):
    """Axis ``i`` of what is seen is axis ``perm[i]`` of what is stored."""

    perm: tuple[int, ...]

    @property
    def inverse(self) -> tuple[int, ...]:
        """The order that undoes this one."""
        return tuple(int(i) for i in np.argsort(self.perm))

    @override
    def stores(self, t: TensorType) -> bool:
        return t.dims is not None and len(t.dims) == len(self.perm)

    @override
    def stored(self, t: TensorType) -> TensorType:
        return t.with_shape(tuple(t.shape[axis] for axis in self.inverse))

    @override
    def is_seen(self, node: Node) -> bool:
        return node.op == Transpose(self.perm)

    @override
    def is_stored(self, node: Node) -> bool:
        return node.op == Transpose(self.inverse)

    @override
    def is_same(self, t: TensorType) -> bool:
        return t.is_static and t.size == 1 and t.rank <= len(self.perm)

    @override
    def see(self, t: TensorType) -> Op:
        return Transpose(self.perm)

    @override
    def store(self, t: TensorType) -> Op:
        return Transpose(self.inverse)

    @override
    def constant(self, array: Array, seen: TensorType) -> Array | None:
        if array.size == 1 and array.ndim <= len(self.perm):
            return array
        full = array.reshape((1,) * (len(self.perm) - array.ndim) + array.shape)
        return full.transpose(self.inverse) if full.ndim == len(self.perm) else None

    def axis(self, seen: int) -> int:
        """Return the axis as stored of an axis as seen."""
        return self.perm[seen]

    def each(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """Return one number for each axis as seen in the order of axes as stored."""
        return tuple(values[axis] for axis in self.inverse)

    @override
    def turned(self, node: Node) -> Op | None:
        op, rank = node.op, len(self.perm)
        if isinstance(op, ELEMENTWISE):
            return op
        match op:
            case Concat() | Split():
                return replace(op, axis=self.axis(op.axis))
            case OverClasses():
                return replace(op, axis=self.axis(op.axis % rank) - rank)
            case Reduction() if op.keepdims:
                return replace(op, axes=tuple(sorted(map(self.axis, op.axes))))
            case Padding():
                before, after = op.pads[:rank], op.pads[rank:]
                return replace(op, pads=self.each(before) + self.each(after))
            case Slice():
                return replace(op, axes=tuple(map(self.axis, op.axes)))
            case Expand() if len(op.shape) == rank and node.inputs[0].type.rank == rank:
                return Expand(self.each(op.shape))
            case Tile():
                return Tile(self.each(op.repeats))
            case Quantize() | Dequantize():
                p = op.params
                axis = None if p.axis is None else self.axis(p.axis)
                return replace(op, params=QuantParams(p.scale, p.zero_point, axis))
        return None

    @override
    def takes_either(self, node: Node) -> Op | None:
        op, x = node.op, node.inputs[0].type
        match op:
            case Transpose() if not self.is_stored(node):
                return Transpose(tuple(self.perm[axis] for axis in op.perm))
            case Reduction() if not op.keepdims:
                kept = [self.axis(a) for a in range(x.rank) if a not in op.axes]
                axes = tuple(sorted(map(self.axis, op.axes)))
                return replace(op, axes=axes) if kept == sorted(kept) else None
            case Reshape() if self.cost_bytes(x) == 0 and node.output.type.is_static:
                return Reshape(node.output.type.ints)
        return None

    @override
    def makes_either(self, node: Node) -> Op | None:
        free = isinstance(node.op, Reshape) and self.cost_bytes(node.output.type) == 0
        return Reshape(self.stored(node.output.type).ints) if free else None

    @override
    def cost_bytes(self, t: TensorType) -> int:
        if not t.is_static:
            return 1
        long = [axis for axis in self.inverse if t.ints[axis] != 1]
        return 0 if long == sorted(long) else t.size_bytes


@dataclass(frozen=True, slots=True)
class Reshaped(View):
    """What is seen in the shape `after` is stored in the shape `before`."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @override
    def stores(self, t: TensorType) -> bool:
        return t.dims == self.after

    @override
    def stored(self, t: TensorType) -> TensorType:
        return t.with_shape(self.before)

    @override
    def is_seen(self, node: Node) -> bool:
        return _is_reshape(node, self.before, self.after)

    @override
    def is_stored(self, node: Node) -> bool:
        return _is_reshape(node, self.after, self.before)

    @override
    def is_same(self, t: TensorType) -> bool:
        return t.dims == ()

    @override
    def see(self, t: TensorType) -> Op:
        return Reshape(self.after)

    @override
    def store(self, t: TensorType) -> Op:
        return Reshape(self.before)

    @override
    def constant(self, array: Array, seen: TensorType) -> Array | None:
        if array.size == 1:
            return array if array.ndim <= len(self.before) else array.reshape(())
        if array.ndim > len(self.after):
            return None
        given = (1,) * (len(self.after) - array.ndim) + array.shape
        shape = [1] * len(self.before)
        for group in self.groups:
            lengths = [given[axis] for axis in group.after]
            if lengths == [self.after[axis] for axis in group.after]:
                for axis in group.before:
                    shape[axis] = self.before[axis]
            elif any(length != 1 for length in lengths):
                return None  # it repeats along some axes of the group only
        while len(shape) > array.ndim and shape[0] == 1:
            del shape[0]
        return array.reshape(shape)

    @property
    def groups(self) -> tuple[AxisGroup, ...]:
        """The groups of axes that are joined or split."""
        return axis_groups(self.before, self.after)

    def axis(self, seen: int) -> int | None:
        """Return the axis as stored of an axis as seen, if it is one by itself."""
        single = {g.after[0]: g.before[0] for g in self.groups if g.is_single}
        return single.get(seen)

    @override
    def turned(self, node: Node) -> Op | None:
        op, rank = node.op, len(self.after)
        match op:
            case OverClasses():
                axis = self.axis(op.axis % rank)
                return None if axis is None else replace(op, axis=axis - len(self.before))
            case LayerNorm() | RMSNorm() if op.axis == -1:
                last = self.axis(rank - 1) == len(self.before) - 1
                return op if last and self._fit(node) else None
            case Quantize() | Dequantize():
                p = op.params
                axis = None if p.axis is None else self.axis(p.axis)
                if p.axis is not None and axis is None:
                    return None
                return replace(op, params=QuantParams(p.scale, p.zero_point, axis))
        return op if isinstance(op, ELEMENTWISE) and self._fit(node) else None

    def _fit(self, node: Node) -> bool:
        """Whether all operands broadcast to no more axes than the result has as stored."""
        return all(v.type.rank <= len(self.after) for v in node.inputs)

    @override
    def takes_either(self, node: Node) -> Op | None:
        out = node.outputs[0].type
        return Reshape(out.ints) if isinstance(node.op, Reshape) and out.is_static else None

    @override
    def makes_either(self, node: Node) -> Op | None:
        free = isinstance(node.op, Reshape) and not self.is_seen(node)
        return Reshape(self.before) if free else None

    @override
    def cost_bytes(self, t: TensorType) -> int:
        return 0


def _is_reshape(node: Node, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    if not isinstance(node.op, Reshape):
        return False
    return node.inputs[0].type.dims == before and node.output.type.dims == after
