"""Comparisons, logic, and the choice between two values."""

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
    QuantRule,
    Role,
    SameAsInput,
    TensorType,
)
from edgec.ops.arguments import same_dtype
from edgec.ops.broadcast import broadcast
from edgec.ops.elementwise import Broadcasting, Unary

__all__ = [
    "And",
    "Comparison",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Logic",
    "Not",
    "Or",
    "Where",
    "Xor",
]


@dataclass(frozen=True, slots=True)
class Comparison(Broadcasting):
    """Whether a relation holds between two values."""

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (out,) = Broadcasting.infer(self, *inputs)
        return (TensorType(DType.BOOL, out.dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for dtype in (np.float32, np.int32, np.int64):
            a = rng.integers(-2, 3, (1, 3, 4, 4)).astype(dtype)
            yield Example(cls(), (a, rng.integers(-2, 3, (3, 1, 4)).astype(dtype)))
        yield Example(cls(), (a, np.array(1, np.int64)))


@dataclass(frozen=True, slots=True)
class Equal(Comparison):
    """``y = a == b``; bools too."""

    onnx_name: ClassVar[str] = "Equal"

    @override
    def opset_for(self, inputs: Sequence[TensorType]) -> int:
        return 19 if inputs[0].dtype is DType.STRING else self.since

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield from super(Equal, cls).examples(rng)
        yield Example(cls(), (_bools(rng, 2, 3, 4), _bools(rng, 3, 1)))


@dataclass(frozen=True, slots=True)
class Greater(Comparison):
    """``y = a > b``."""

    onnx_name: ClassVar[str] = "Greater"


@dataclass(frozen=True, slots=True)
class GreaterOrEqual(Comparison):
    """``y = a >= b``."""

    onnx_name: ClassVar[str] = "GreaterOrEqual"


@dataclass(frozen=True, slots=True)
class Less(Comparison):
    """``y = a < b``."""

    onnx_name: ClassVar[str] = "Less"


@dataclass(frozen=True, slots=True)
class LessOrEqual(Comparison):
    """``y = a <= b``."""

    onnx_name: ClassVar[str] = "LessOrEqual"


@dataclass(frozen=True, slots=True)
class Logic(Broadcasting):
    """A function of two truth values."""

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        _only_bools(*inputs)
        return Broadcasting.infer(self, *inputs)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        a = _bools(rng, 1, 3, 4, 4)
        yield Example(cls(), (a, _bools(rng, 1, 3, 4, 4)))
        yield Example(cls(), (a, _bools(rng, 3, 1, 4)))


@dataclass(frozen=True, slots=True)
class And(Logic):
    """``y = a and b``."""

    onnx_name: ClassVar[str] = "And"


@dataclass(frozen=True, slots=True)
class Or(Logic):
    """``y = a or b``."""

    onnx_name: ClassVar[str] = "Or"


@dataclass(frozen=True, slots=True)
class Xor(Logic):
    """Whether exactly one of two values is true."""

    onnx_name: ClassVar[str] = "Xor"


@dataclass(frozen=True, slots=True)
class Not(Unary):
    """``y = not x``."""

    onnx_name: ClassVar[str] = "Not"

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        _only_bools(*inputs)
        return Unary.infer(self, *inputs)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_bools(rng, 1, 3, 4),))
        yield Example(cls(), (_bools(rng, 1, 3, 4, 5),))


@dataclass(frozen=True, slots=True)
class IsNaN(Unary):
    """Whether an element is not a number."""

    onnx_name: ClassVar[str] = "IsNaN"

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        return (TensorType(DType.BOOL, x.dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_special(1, 2, 3),))
        yield Example(cls(), (_special(1, 3, 2, 1),))


@dataclass(frozen=True, slots=True)
class IsInf(Unary):
    """Whether an element is infinite.

    Parameters
    ----------
    negative, positive
        Whether an infinity of this sign counts.
    """

    onnx_name: ClassVar[str] = "IsInf"
    negative: bool = True
    positive: bool = True

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        return cls(bool(a.get("detect_negative", 1)), bool(a.get("detect_positive", 1)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        signs = {"detect_negative": self.negative, "detect_positive": self.positive}
        return OnnxForm("IsInf", {key: int(value) for key, value in signs.items()})

    @override
    def opset_for(self, inputs: Sequence[TensorType]) -> int:
        return self.since if inputs[0].dtype in (DType.FLOAT32, DType.FLOAT64) else 20

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        return (TensorType(DType.BOOL, x.dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for negative in (True, False):
            for positive in (True, False):
                yield Example(cls(negative, positive), (_special(1, 2, 3),))
        yield Example(cls(), (_special(1, 3, 2, 1),))


@dataclass(frozen=True, slots=True)
class Where(Broadcasting):
    """``y = a`` where a condition holds, ``b`` elsewhere; all three broadcast.

    Inputs are the condition, ``a`` and ``b``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Where.html
    """

    onnx_name: ClassVar[str] = "Where"
    operands: ClassVar[int] = 3

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        condition, a, b = inputs
        _only_bools(condition)
        same_dtype(a, b)
        return (TensorType(a.dtype, broadcast(condition.shape, a.shape, b.shape)),)

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.INDEX, Role.ACTIVATION), SameAsInput())

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for dtype in (np.float32, np.int64):
            a, b = rng.integers(-9, 9, (2, 1, 3, 4, 4)).astype(dtype)
            yield Example(cls(), (_bools(rng, 1, 3, 4, 4), a, b))
        yield Example(cls(), (_bools(rng, 1, 3, 4, 4), a[0, :, :1], b[0, :1]))
        yield Example(cls(), (_bools(rng, 2, 3, 1, 1), a, np.array(7, np.int64)))


def _only_bools(*operands: TensorType) -> None:
    wrong = [t for t in operands if t.dtype is not DType.BOOL]
    if wrong:
        raise ValueError(f"an operand is {wrong[0]}, not of bools")


def _bools(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(0, 2, shape).astype(bool)


def _special(*shape: int) -> Array:
    values = [np.nan, np.inf, -np.inf, 0.0, -1.5, 3e38]
    return np.array(values, np.float32).reshape(shape)
