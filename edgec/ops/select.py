"""Operators that choose elements by their order or place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    Array,
    DType,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    TensorType,
    Tie,
)
from edgec.ops.arguments import axis_of, exact_float
from edgec.ops.shape import MOVES

__all__ = ["OneHot", "ReverseSequence", "TopK", "Trilu"]


@dataclass(frozen=True, slots=True)
class TopK(Op):
    """The `k` largest or smallest elements along `axis`, and their indices as int64.

    Of equal elements the one with the lower index comes first.

    Parameters
    ----------
    sorted
        Whether the best comes first; otherwise they come in any order.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__TopK.html
    """

    onnx_name: ClassVar[str] = "TopK"
    k: int = 1
    axis: int = 0
    largest: bool = True
    sorted: bool = True

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a, count = node.attributes, node.constant(1)
        k = a.get("k") if count is None else int(count.reshape(-1)[0])
        if k is None:
            return None
        axis = axis_of(a.get("axis", -1), node.inputs[0].rank)
        return cls(k, axis, bool(a.get("largest", 1)), bool(a.get("sorted", 1)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "axis": self.axis,
            "largest": int(self.largest),
            "sorted": int(self.sorted),
        }
        return OnnxForm("TopK", attributes, (np.array([self.k], np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        length = x.shape[self.axis] if 0 <= self.axis < x.rank else 0
        if isinstance(length, int) and not 0 <= self.k <= length:
            raise ValueError(f"x is {x}, which has no {self.k} elements along {self.axis}")
        dims = (*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :])
        return x.with_shape(dims), TensorType(DType.INT64, dims)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        axes = [axis for axis in range(inputs[0].rank) if axis != self.axis]
        return tuple(Tie((0, a), (1 + out, a)) for a in axes for out in (0, 1))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 5, 3, 6)).astype(np.float32)
        yield Example(cls(2, 3), (x,))
        yield Example(cls(3, 1, largest=False), (x,))
        yield Example(cls(1, 3, sorted=False), (x,))
        yield Example(cls(4, 1), (rng.integers(0, 3, (2, 9)),))
        yield Example(cls(4, 1, largest=False), (rng.integers(0, 3, (2, 9)),))


@dataclass(frozen=True, slots=True)
class OneHot(Op):
    """`on` where a new axis counts to an index, `off` elsewhere.

    Negative indices count from `depth`; indices beyond it are `off` everywhere.

    Parameters
    ----------
    axis
        Where the new axis is in the result.
    dtype
        Element type of the result.
    depth_dtype
        Element type of the depth, by which runtimes choose a kernel.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__OneHot.html
    """

    onnx_name: ClassVar[str] = "OneHot"
    depth: int = 1
    axis: int = 0
    off: float = 0.0
    on: float = 1.0
    dtype: DType = DType.FLOAT32
    depth_dtype: DType = DType.INT64

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        depth, values = node.constant(1), node.constant(2)
        if depth is None or values is None or values.size != 2:
            return None
        off, on = (exact_float(v) for v in values.reshape(2, 1))
        if off is None or on is None:
            return None
        axis = axis_of(node.attributes.get("axis", -1), node.inputs[0].rank + 1)
        dtypes = DType.of(values.dtype), DType.of(depth.dtype)
        return cls(int(depth.reshape(-1)[0]), axis, off, on, *dtypes)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        values = np.array([self.off, self.on]).astype(self.dtype.numpy)
        constants = (np.array(self.depth, self.depth_dtype.numpy), values)
        return OnnxForm("OneHot", {"axis": self.axis}, constants)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (indices,) = inputs
        if not 0 <= self.axis <= indices.rank or self.depth < 1:
            raise ValueError(f"indices are {indices}, the axis {self.axis} of {self.depth}")
        dims = (*indices.shape[: self.axis], self.depth, *indices.shape[self.axis :])
        return (TensorType(self.dtype, dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        indices = np.array([[0, 2, -1], [3, -3, 5]])
        yield Example(cls(3, 2), (indices,))
        yield Example(cls(4, 1, -1.0, 2.0, DType.INT64), (indices,))
        real = cls(4, 1, 2.5, -0.5, depth_dtype=DType.FLOAT32)
        yield Example(real, (indices.astype(np.float32),))


@dataclass(frozen=True, slots=True)
class Trilu(Op):
    """The upper or lower triangle of the last two axes of ``x``, zero elsewhere.

    Parameters
    ----------
    k
        How far the triangle's edge lies above the main diagonal.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Trilu.html
    """

    onnx_name: ClassVar[str] = "Trilu"
    k: int = 0
    upper: bool = True

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        k = node.constant(1)
        if node.has(1) and k is None:
            return None
        upper = bool(node.attributes.get("upper", 1))
        return cls(0 if k is None else int(k.reshape(-1)[0]), upper)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Trilu", {"upper": int(self.upper)}, (np.array(self.k, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank < 2:
            raise ValueError(f"x is {x}, but must have 2 axes or more")
        return (x,)

    def mask(self, rows: int, columns: int) -> Array:
        """Return which elements of a matrix are kept."""
        ones = np.ones((rows, columns), np.bool_)
        return np.triu(ones, self.k) if self.upper else np.tril(ones, self.k)

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4, 5)).astype(np.float32)
        yield Example(cls(), (x,))
        yield Example(cls(-1), (x,))
        yield Example(cls(2, upper=False), (x,))
        yield Example(cls(-1, upper=False), (rng.integers(-9, 9, (1, 4)),))


@dataclass(frozen=True, slots=True)
class ReverseSequence(Op):
    """The first elements along `time_axis` in reverse, as many as ``lengths`` says.

    Inputs are ``x`` and ``lengths [B]``, int64.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ReverseSequence.html
    """

    onnx_name: ClassVar[str] = "ReverseSequence"
    operands: ClassVar[int] = 2
    time_axis: int = 0
    batch_axis: int = 1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        return cls(a.get("time_axis", 0), a.get("batch_axis", 1))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {"time_axis": self.time_axis, "batch_axis": self.batch_axis}
        return OnnxForm("ReverseSequence", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, lengths = inputs
        axes = {self.time_axis, self.batch_axis}
        if axes != {0, 1} or x.rank < 2 or lengths.rank != 1:
            raise ValueError(f"x is {x}, lengths are {lengths}, the axes are {sorted(axes)}")
        return (x,)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((4, 3, 5)).astype(np.float32)
        yield Example(cls(), (x, np.array([4, 1, 3])))
        yield Example(cls(1, 0), (x, np.array([3, 2, 1, 3])))
