"""Operators whose results are as long as the data say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    UNKNOWN,
    Array,
    Dim,
    DType,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    TensorType,
)
from edgec.ops.arguments import axis_of

__all__ = ["Compress", "NonMaxSuppression", "NonZero", "Unique"]


@dataclass(frozen=True, slots=True)
class NonZero(Op):
    """The positions of elements that are not zero, one a column, int64.

    How many there are is known only when the graph runs.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__NonZero.html
    """

    onnx_name: ClassVar[str] = "NonZero"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("NonZero")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(DType.INT64, (max(inputs[0].rank, 1), UNKNOWN)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (rng.integers(0, 2, (2, 3, 4)).astype(np.float32),))
        yield Example(cls(), (rng.integers(0, 2, 7).astype(np.bool_),))


@dataclass(frozen=True, slots=True)
class Compress(Op):
    """The slices of ``x`` along `axis` for which ``condition`` holds.

    Without an axis ``x`` is flattened first. How many there are is known only when the graph
    runs, unless the condition is constant.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Compress.html
    """

    onnx_name: ClassVar[str] = "Compress"
    operands: ClassVar[int] = 2
    axis: int | None = None

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        axis = node.attributes.get("axis")
        return cls(None if axis is None else axis_of(axis, node.inputs[0].rank))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Compress", {} if self.axis is None else {"axis": self.axis})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return self.infer_node(inputs, [None, None])

    @override
    def infer_node(
        self, inputs: Sequence[TensorType], constants: Sequence[Array | None]
    ) -> tuple[TensorType, ...]:
        x, condition = inputs
        if condition.rank != 1 or condition.dtype is not DType.BOOL:
            raise ValueError(f"the condition is {condition}, but must be bool with one axis")
        held = constants[1]
        count: Dim = UNKNOWN if held is None else int(held.sum())
        if self.axis is not None and self.axis >= x.rank:
            raise ValueError(f"{x} has no axis {self.axis}")
        along = x.dims if self.axis is None else x.shape[self.axis : self.axis + 1]
        lengths = [d for d in along or () if isinstance(d, int)]
        known = along is not None and len(lengths) == len(along)
        (entries,) = condition.shape
        if isinstance(entries, int) and known and entries > math.prod(lengths):
            raise ValueError(f"the condition has {entries} entries for {math.prod(lengths)}")
        if self.axis is None:
            return (x.with_shape((count,)) if x.dims is not None else x,)
        return (x.with_shape((*x.shape[: self.axis], count, *x.shape[self.axis + 1 :])),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((2, 3, 4)).astype(np.float32)
        yield Example(cls(1), (x, np.array([True, False, True])))
        yield Example(cls(2), (x, np.array([False, True])))
        yield Example(cls(), (x, np.array([False, True, True, False, True])))


@dataclass(frozen=True, slots=True)
class Unique(Op):
    """The distinct elements of ``x``, or its distinct slices along `axis`.

    Outputs are these, the index where each occurs first, for each element of ``x`` the number
    of the one that it equals, and how often each occurs.

    Parameters
    ----------
    sorted
        Whether they come in ascending order, or as they occur.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Unique.html
    """

    onnx_name: ClassVar[str] = "Unique"
    axis: int | None = None
    sorted: bool = True

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        axis = node.attributes.get("axis")
        place = None if axis is None else axis_of(axis, node.inputs[0].rank)
        return cls(place, bool(node.attributes.get("sorted", 1)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        axis = {} if self.axis is None else {"axis": self.axis}
        return OnnxForm("Unique", {"sorted": int(self.sorted), **axis})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.dims is None or (self.axis is not None and self.axis >= x.rank):
            raise ValueError(f"{x} has no axis {self.axis}")
        count = TensorType(DType.INT64, (UNKNOWN,))
        if self.axis is None:
            every: Dim = x.size if x.is_static else UNKNOWN
            return x.with_shape((UNKNOWN,)), count, count.with_shape((every,)), count
        dims = (*x.shape[: self.axis], UNKNOWN, *x.shape[self.axis + 1 :])
        inverse = count.with_shape((x.shape[self.axis],))
        return x.with_shape(dims), count, inverse, count

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.integers(0, 3, (4, 3)).astype(np.float32)
        yield Example(cls(), (x,))
        yield Example(cls(sorted=False), (x,))
        rows = np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4], [0, 5, 0]], np.float32)
        yield Example(cls(0), (rows,))
        yield Example(cls(1), (rows,))


@dataclass(frozen=True, slots=True)
class NonMaxSuppression(Op):
    """The boxes of each class that no better box overlaps by more than a threshold.

    ``boxes [N, B, 4]`` and ``scores [N, C, B]`` to rows of batch, class and box, int64. How
    many there are is known only when the graph runs.

    Parameters
    ----------
    most
        Largest number of boxes for each class.
    overlap
        Largest intersection over union of two boxes that both stay.
    least_score
        Boxes that score no more are dropped; ``None`` if none are.
    centers
        Whether boxes are ``x, y, width, height`` instead of two corners ``y, x``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html
    """

    onnx_name: ClassVar[str] = "NonMaxSuppression"
    operands: ClassVar[int] = 2
    most: int = 0
    overlap: float = 0.0
    least_score: float | None = None
    centers: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        found: list[float | None] = []
        for i in (2, 3, 4):
            array = node.constant(i)
            if node.has(i) and array is None:
                return None
            found.append(None if array is None else float(str(array.reshape(-1)[0])))
        most, overlap, least = found
        centers = bool(node.attributes.get("center_point_box", 0))
        return cls(int(most or 0), overlap or 0.0, least, centers)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        least = None if self.least_score is None else np.array([self.least_score], np.float32)
        constants = (
            np.array([self.most], np.int64),
            np.array([self.overlap], np.float32),
            least,
        )
        attributes = {"center_point_box": int(self.centers)}
        return OnnxForm("NonMaxSuppression", attributes, constants)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        boxes, scores = inputs
        if boxes.rank != 3 or scores.rank != 3 or boxes.shape[2] != 4:
            raise ValueError(f"boxes are {boxes}, scores are {scores}")
        pairs = (boxes.shape[0], scores.shape[0]), (boxes.shape[1], scores.shape[2])
        if any(a != b for a, b in pairs if isinstance(a, int) and isinstance(b, int)):
            raise ValueError(f"boxes are {boxes}, scores are {scores}")
        return (TensorType(DType.INT64, (UNKNOWN if self.most else 0, 3)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        corners = rng.uniform(0, 1, (1, 12, 4)).astype(np.float32)
        scores = rng.uniform(0, 1, (1, 2, 12)).astype(np.float32)
        yield Example(cls(5, 0.3), (corners, scores))
        yield Example(cls(3, 0.5, 0.4), (corners, scores))
        yield Example(cls(9, 0.2, 0.1, centers=True), (corners, scores))
