"""Operators that cut a value into parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    UNKNOWN,
    Array,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    TensorType,
    Tie,
)
from edgec.ops.arguments import axis_of
from edgec.ops.shape import MOVES

__all__ = ["Slice", "Split"]


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Every `step`-th index from `start` up to `end` (excluded), axis by axis.

    Parameters
    ----------
    axes
        The axes that are cut; the others stay whole.
    starts, ends
        As in Python: negative ones count from the end, too large ones are cut off.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Slice.html
    """

    onnx_name: ClassVar[str] = "Slice"
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x, a = node.inputs[0], node.attributes
        if x.dims is None:
            return None
        if node.opset < 10:
            starts, ends = tuple(a["starts"]), tuple(a["ends"])
            axes = tuple(a.get("axes", range(len(starts))))
            steps = (1,) * len(starts)
        else:
            arrays = [node.constant(i) for i in (1, 2, 3, 4)]
            if any(node.has(i + 1) and array is None for i, array in enumerate(arrays)):
                return None
            lists = [None if v is None else tuple(map(int, v.reshape(-1))) for v in arrays]
            starts, ends = lists[0] or (), lists[1] or ()
            axes = lists[2] or tuple(range(len(starts)))
            steps = lists[3] or (1,) * len(starts)
        return cls(starts, ends, tuple(axis_of(axis, x.rank) for axis in axes), steps)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        fields = (self.starts, self.ends, self.axes, self.steps)
        return OnnxForm("Slice", {}, tuple(np.array(f, np.int64) for f in fields))

    def ranges(self, x: TensorType) -> dict[int, range]:
        """Return the indices kept of each axis that is cut."""
        cuts = zip(self.axes, self.starts, self.ends, self.steps, strict=True)
        return {a: _kept(x.ints[a], start, end, step) for a, start, end, step in cuts}

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        dims = list(x.shape)
        if any(not 0 <= axis < x.rank for axis in self.axes):
            raise ValueError(f"x is {x}, which lacks one of the axes {list(self.axes)}")
        for axis, start, end, step in zip(
            self.axes, self.starts, self.ends, self.steps, strict=True
        ):
            length = dims[axis]
            if isinstance(length, int):
                dims[axis] = len(_kept(length, start, end, step))
            elif (start, step) != (0, 1) or end < 2**31 - 1:  # what exporters write for the end
                dims[axis] = UNKNOWN
        return (x.with_shape(tuple(dims)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        axes = [axis for axis in range(inputs[0].rank) if axis not in self.axes]
        return tuple(Tie((0, axis), (1, axis)) for axis in axes)

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 4, 6, 6)
        yield Example(cls((0, 0), (2**31, 2**31), (2, 3), (2, 2)), (x,))
        yield Example(cls((1, -4), (3, -1), (1, 3), (1, 1)), (x,))
        yield Example(cls((-1,), (-(2**31),), (2,), (-2,)), (x,))


def _kept(length: int, start: int, end: int, step: int) -> range:
    """Return the indices of one axis that a slice keeps; both ends are cut off as ONNX says."""
    if step == 0:
        raise ValueError("slice step cannot be zero")
    lowest, highest = (0, length) if step > 0 else (-1, length - 1)
    start, end = (i + length if i < 0 else i for i in (start, end))
    first = min(max(start, 0), highest)
    return range(first, min(max(end, lowest), highest), step)


@dataclass(frozen=True, slots=True)
class Split(Op):
    """Consecutive parts of ``x`` along `axis`, of these `sizes`.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Split.html
    """

    onnx_name: ClassVar[str] = "Split"
    axis: int = 0
    sizes: tuple[int, ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x, a = node.inputs[0], node.attributes
        axis = axis_of(a.get("axis", 0), x.rank)
        array = node.constant(1)
        if node.has(1) and array is None:
            return None
        given = a.get("split") if array is None else array.reshape(-1).tolist()
        if given:
            return cls(axis, tuple(map(int, given)))
        length, count = x.shape[axis], int(a.get("num_outputs", node.listed))
        if isinstance(length, str):
            return None
        size = -(-length // count)  # the last part is smaller if need be
        return cls(axis, tuple(min(size, max(length - i * size, 0)) for i in range(count)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Split", {"axis": self.axis}, (np.array(self.sizes, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if not 0 <= self.axis < x.rank:
            raise ValueError(f"{x} has no axis {self.axis}")
        length = x.shape[self.axis]
        fits = isinstance(length, str) or sum(self.sizes) == length
        if not fits or any(size < 0 for size in self.sizes):
            raise ValueError(f"x is {x}, which has no parts of {list(self.sizes)}")
        before, after = x.shape[: self.axis], x.shape[self.axis + 1 :]
        return tuple(x.with_shape((*before, size, *after)) for size in self.sizes)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        axes = [axis for axis in range(inputs[0].rank) if axis != self.axis]
        return tuple(Tie((0, a), (1 + k, a)) for a in axes for k in range(len(outputs)))

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 4, 3, 6)
        yield Example(cls(1, (2, 2)), (x,))
        yield Example(cls(3, (1, 3, 2)), (x,))
        yield Example(cls(2, (3, 0, 1)), (rng.integers(-9, 9, (1, 2, 4)),))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
