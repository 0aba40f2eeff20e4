"""Powers, remainders, and operators on the bits of integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Array, DType, Example, OnnxForm, OnnxNode, TensorType
from edgec.ops.broadcast import broadcast
from edgec.ops.elementwise import Broadcasting, Unary

__all__ = [
    "BitShift",
    "Bitwise",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Mod",
    "Pow",
]


@dataclass(frozen=True, slots=True)
class Pow(Broadcasting):
    """``y = x ^ exponent``; of the type of `x`, whatever that of the exponent."""

    onnx_name: ClassVar[str] = "Pow"

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, exponent = inputs
        return (TensorType(x.dtype, broadcast(x.shape, exponent.shape)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.uniform(0.2, 2, (1, 3, 4, 4)).astype(np.float32)
        yield Example(cls(), (x, rng.uniform(-2, 2, (3, 1, 4)).astype(np.float32)))
        for exponent in (2.0, 0.5, -1.0, 3.0, 1.5):
            yield Example(cls(), (x, np.array(exponent, np.float32)))
        yield Example(cls(), (x, rng.integers(-3, 4, (4, 4))))
        n = rng.integers(-4, 5, (2, 3))
        yield Example(cls(), (n, np.array([0, 1, 5])))
        yield Example(cls(), (n.astype(np.int32), np.array(3, np.int32)))


@dataclass(frozen=True, slots=True)
class Mod(Broadcasting):
    """The remainder of a division.

    Parameters
    ----------
    fmod
        Whether it has the sign of the dividend, as in C, instead of the divisor's.
    """

    onnx_name: ClassVar[str] = "Mod"
    fmod: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(bool(node.attributes.get("fmod", 0)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Mod", {"fmod": 1} if self.fmod else {})

    @override
    def opset_for(self, inputs: Sequence[TensorType]) -> int:
        return 28 if inputs[0].dtype.is_float and not self.fmod else self.since

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for dtype in (np.int32, np.int64):
            a = rng.integers(-9, 10, (1, 3, 4, 4)).astype(dtype)
            for b in (-4, 3):
                yield Example(cls(), (a, np.array(b, dtype)))
                yield Example(cls(fmod=True), (a, np.array(b, dtype)))
        yield Example(cls(fmod=True), (a.astype(np.float32) / 2, np.array(-4, np.float32)))


@dataclass(frozen=True, slots=True)
class BitShift(Broadcasting):
    """The bits of an integer moved by as many places as another says.

    What is moved out is lost. Zeros follow, or the sign where a negative number is moved to
    the right.

    Parameters
    ----------
    left
        Whether towards the higher bits.
    """

    onnx_name: ClassVar[str] = "BitShift"
    left: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes["direction"] == "LEFT")

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("BitShift", {"direction": "LEFT" if self.left else "RIGHT"})

    @override
    def opset_for(self, inputs: Sequence[TensorType]) -> int:
        return self.since if inputs[0].dtype.numpy.kind == "u" else 28

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.integers(0, 256, (1, 3, 4, 4)).astype(np.uint8)
        by = rng.integers(0, 8, (3, 1, 4)).astype(np.uint8)
        yield Example(cls(), (x, by))
        yield Example(cls(left=True), (x, by))


@dataclass(frozen=True, slots=True)
class Bitwise(Broadcasting):
    """A function of each pair of bits of two integers."""

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        _only_integers(*inputs)
        return Broadcasting.infer(self, *inputs)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for dtype in (np.int32, np.uint8, np.int16, np.int64):
            yield Example(cls(), (_any(rng, dtype, 1, 3, 4, 4), _any(rng, dtype, 3, 1, 4)))


@dataclass(frozen=True, slots=True)
class BitwiseAnd(Bitwise):
    """The bits that two integers have in common."""

    onnx_name: ClassVar[str] = "BitwiseAnd"


@dataclass(frozen=True, slots=True)
class BitwiseOr(Bitwise):
    """The bits that at least one of two integers has."""

    onnx_name: ClassVar[str] = "BitwiseOr"


@dataclass(frozen=True, slots=True)
class BitwiseXor(Bitwise):
    """The bits that exactly one of two integers has."""

    onnx_name: ClassVar[str] = "BitwiseXor"


@dataclass(frozen=True, slots=True)
class BitwiseNot(Unary):
    """The bits that an integer has not."""

    onnx_name: ClassVar[str] = "BitwiseNot"

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        _only_integers(*inputs)
        return Unary.infer(self, *inputs)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for dtype in (np.int32, np.uint8, np.int64):
            yield Example(cls(), (_any(rng, dtype, 1, 3, 4, 5),))


def _only_integers(*operands: TensorType) -> None:
    wrong = [t for t in operands if t.dtype is DType.BOOL or t.dtype.numpy.kind not in "iu"]
    if wrong:
        raise ValueError(f"an operand is {wrong[0]}, not of integers")


def _any(rng: np.random.Generator, dtype: type[np.generic], *shape: int) -> Array:
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
