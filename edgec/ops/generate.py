"""Operators that make values from shapes and numbers."""

from __future__ import annotations

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
from edgec.ops.arguments import exact_float, same_dtype

__all__ = ["ConstantOfShape", "EyeLike", "Range", "Shape", "Size"]


@dataclass(frozen=True, slots=True)
class Shape(Op):
    """The lengths of the axes of ``x`` from `start` up to `end` (excluded), as int64.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Shape.html
    """

    onnx_name: ClassVar[str] = "Shape"
    start: int = 0
    end: int | None = None

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes.get("start", 0), node.attributes.get("end"))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        end = {} if self.end is None else {"end": self.end}
        return OnnxForm("Shape", {"start": self.start, **end})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        return (TensorType(DType.INT64, (len(x.shape[self.start : self.end]),)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4)).astype(np.float32)
        yield Example(cls(), (x,))
        yield Example(cls(1), (x,))
        yield Example(cls(-2, -1), (x,))


@dataclass(frozen=True, slots=True)
class Size(Op):
    """The number of elements of ``x``, as int64.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Size.html
    """

    onnx_name: ClassVar[str] = "Size"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Size")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        if inputs[0].dims is None:
            raise ValueError("the rank is not known")
        return (TensorType(DType.INT64, ()),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (rng.standard_normal((1, 3, 4)).astype(np.float32),))


@dataclass(frozen=True, slots=True)
class EyeLike(Op):
    """A matrix as large as ``x`` with ones on a diagonal, zero elsewhere.

    Parameters
    ----------
    k
        How far the diagonal lies above the main one.
    dtype
        Element type of the result; ``None`` for that of ``x``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__EyeLike.html
    """

    onnx_name: ClassVar[str] = "EyeLike"
    k: int = 0
    dtype: DType | None = None

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        code = node.attributes.get("dtype")
        return cls(node.attributes.get("k", 0), None if code is None else DType.of_onnx(code))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        dtype = {} if self.dtype is None else {"dtype": self.dtype.onnx}
        return OnnxForm("EyeLike", {"k": self.k, **dtype})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank != 2:
            raise ValueError(f"x is {x}, but must have 2 axes")
        return (TensorType(self.dtype or x.dtype, x.shape),)

    def array(self, x: TensorType) -> Array:
        """Return the matrix for an operand of this type."""
        rows, columns = x.ints
        return np.eye(rows, columns, self.k, (self.dtype or x.dtype).numpy)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((3, 4)).astype(np.float32)
        yield Example(cls(), (x,))
        yield Example(cls(1), (x,))
        yield Example(cls(-1, DType.INT32), (x,))


@dataclass(frozen=True, slots=True)
class Range(Op):
    """``start``, ``start + delta``, and so on before ``limit``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Range.html
    """

    onnx_name: ClassVar[str] = "Range"
    operands: ClassVar[int] = 3

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls() if "stash_type" not in node.attributes else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Range")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return self.infer_node(inputs, [None] * len(inputs))

    @override
    def infer_node(
        self, inputs: Sequence[TensorType], constants: Sequence[Array | None]
    ) -> tuple[TensorType, ...]:
        same_dtype(*inputs)
        if any(t.dims is None or t.rank > 1 for t in inputs):
            raise ValueError(f"start, limit and delta are {', '.join(map(str, inputs))}")
        known = [a.reshape(-1)[0] for a in constants if a is not None and a.size == 1]
        length: Dim = UNKNOWN
        if len(known) == 3:
            start, limit, delta = known
            if delta == 0:
                raise ValueError("delta is 0")
            length = max(int(np.ceil((float(limit) - float(start)) / float(delta))), 0)
        return (TensorType(inputs[0].dtype, (length,)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for dtype in (np.float32, np.int64):
            yield Example(cls(), tuple(np.array(n, dtype) for n in (1, 9, 3)))
        yield Example(cls(), tuple(np.array(n, np.int32) for n in (9, 1, -2)))


@dataclass(frozen=True, slots=True)
class ConstantOfShape(Op):
    """`value` throughout, in the shape that the operand says.

    Parameters
    ----------
    dtype
        Element type of the result.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html
    """

    onnx_name: ClassVar[str] = "ConstantOfShape"
    value: float = 0.0
    dtype: DType = DType.FLOAT32

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        array = node.attributes.get("value")
        if array is None:
            return cls()
        value = exact_float(array)
        return None if value is None else cls(value, DType.of(array.dtype))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        value = np.array([self.value]).astype(self.dtype.numpy)
        return OnnxForm("ConstantOfShape", {"value": value})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return self.infer_node(inputs, [None])

    @override
    def infer_node(
        self, inputs: Sequence[TensorType], constants: Sequence[Array | None]
    ) -> tuple[TensorType, ...]:
        (wanted,) = inputs
        if wanted.rank != 1 or wanted.dtype is not DType.INT64:
            raise ValueError(f"the shape is {wanted}, but must be i64 with one axis")
        if constants[0] is not None:
            return (TensorType(self.dtype, tuple(map(int, constants[0]))),)
        (rank,) = wanted.shape
        return (TensorType(self.dtype, (UNKNOWN,) * rank if isinstance(rank, int) else None),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        wanted = np.array([2, 3, 1])
        yield Example(cls(), (wanted,))
        yield Example(cls(1.5), (wanted,))
        yield Example(cls(-7.0, DType.INT32), (wanted,))
