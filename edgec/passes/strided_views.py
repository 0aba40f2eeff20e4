"""Which element of a value each element is that some moves leave of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from edgec.ir import Array, Graph, Node, Value
from edgec.ops import Gather, Reshape, Slice, Split, Transpose

__all__ = ["MOVES", "StridedView"]

MOVES = (Reshape, Transpose, Slice, Split, Gather)
"""Operators that leave a strided view of their operand, as a rule."""


class _Run(NamedTuple):
    """Indices ``0, step, 2 * step`` and so on along one axis of the source."""

    axis: int
    step: int
    length: int


_Axis = tuple[_Run, ...]


@dataclass(frozen=True, slots=True)
class StridedView:
    """Elements of a source, regrouped.

    Parameters
    ----------
    axes
        By axis of the view, from the outer to the inner: runs along axes of the source, which
        together count that axis in row-major order.
    start
        The index in the source of the first element.
    """

    axes: tuple[_Axis, ...]
    start: tuple[int, ...]

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Self:
        """Return the view of all elements as they are."""
        return cls(tuple((_Run(a, 1, n),) for a, n in enumerate(shape)), (0,) * len(shape))

    def through(self, graph: Graph, node: Node, output: Value) -> StridedView | None:
        """Return what a node makes of this view of its operand; ``None`` if it is no view."""
        match node.op:
            case Reshape() if output.type.is_static:
                return self._reshaped(output.type.ints)
            case Transpose() as op:
                return replace(self, axes=tuple(self.axes[axis] for axis in op.perm))
            case Slice() as op:
                return self._cut(op.ranges(node.inputs[0].type))
            case Split() as op:
                part = node.outputs.index(output)
                first = sum(op.sizes[:part])
                return self._cut({op.axis: range(first, first + op.sizes[part])})
            case Gather() as op:
                index = graph.constant(node.inputs[1])
                if index is None or index.ndim:
                    return None
                length = node.inputs[0].type.ints[op.axis]
                at = int(index) % length
                cut = self._cut({op.axis: range(at, at + 1)})
                if cut is None:
                    return None
                return replace(cut, axes=cut.axes[: op.axis] + cut.axes[op.axis + 1 :])
        return None

    def _reshaped(self, shape: tuple[int, ...]) -> StridedView | None:
        left = [run for axis in self.axes for run in axis if run.length != 1][::-1]
        axes: list[_Axis] = []
        for length in shape:
            runs: list[_Run] = []
            while length != 1:
                if not left:
                    return None
                run = left.pop()
                if length % run.length:
                    inner = run.length // length
                    if run.length % length:
                        return None  # it ends within a run
                    left.append(run._replace(length=inner))
                    run = _Run(run.axis, run.step * inner, length)
                length //= run.length
                runs.append(run)
            axes.append(_joined(runs))
        return None if left else replace(self, axes=tuple(axes))

    def _cut(self, cuts: dict[int, range]) -> StridedView | None:
        axes, start = list(self.axes), list(self.start)
        for axis, kept in cuts.items():
            total = math.prod(run.length for run in axes[axis])
            if kept == range(total):
                continue
            if len(kept) == 1:
                inner = total
                for run in axes[axis]:
                    inner //= run.length
                    start[run.axis] += kept[0] // inner % run.length * run.step
                axes[axis] = ()
            elif len(axes[axis]) == 1 and len(kept):
                (run,) = axes[axis]
                start[run.axis] += kept[0] * run.step
                axes[axis] = (_Run(run.axis, run.step * kept.step, len(kept)),)
            else:
                return None
        return StridedView(tuple(axes), tuple(start))

    def along(self, axis: int, shape: tuple[int, ...]) -> Array | None:
        """Return the indices that are taken along an axis of a source of `shape`.

        ``None`` if the view does not leave all other axes as they are.
        """
        if len(self.axes) != len(shape):
            return None
        for i, runs in enumerate(self.axes):
            if i != axis and _long(runs) != _long((_Run(i, 1, shape[i]),)):
                return None
        indices = np.array([self.start[axis]])
        for run in self.axes[axis]:
            if run.axis != axis and run.length != 1:
                return None
            indices = (indices[:, None] + run.step * np.arange(run.length)).reshape(-1)
        return indices


def _joined(runs: Iterable[_Run]) -> _Axis:
    """Return runs with those made one that continue each other."""
    joined: list[_Run] = []
    for run in runs:
        last = joined[-1] if joined else None
        if last and last.axis == run.axis and last.step == run.step * run.length:
            joined[-1] = _Run(run.axis, run.step, last.length * run.length)
        else:
            joined.append(run)
    return tuple(joined)


def _long(runs: _Axis) -> _Axis:
    return tuple(run for run in _joined(runs) if run.length != 1)
