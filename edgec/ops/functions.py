"""Mathematical functions of each element, and activations with parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    Array,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    Role,
    SameAsInput,
    TensorType,
    Tie,
)
from edgec.ops.arguments import same_dtype
from edgec.ops.broadcast import broadcast
from edgec.ops.elementwise import Broadcasting, Unary

__all__ = [
    "Abs",
    "Ceil",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Round",
    "Sign",
    "Sin",
    "Sqrt",
    "Sum",
    "Variadic",
]


@dataclass(frozen=True, slots=True)
class _Positive(Unary):
    """A function of positive numbers."""

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (rng.uniform(0.1, 3, (1, 3, 4)).astype(np.float32),))
        yield Example(cls(), (rng.uniform(0.1, 3, (1, 3, 4, 5)).astype(np.float32),))


@dataclass(frozen=True, slots=True)
class Abs(Unary):
    """``y = |x|``."""

    onnx_name: ClassVar[str] = "Abs"


@dataclass(frozen=True, slots=True)
class Ceil(Unary):
    """The least integer that is not below ``x``."""

    onnx_name: ClassVar[str] = "Ceil"


@dataclass(frozen=True, slots=True)
class Cos(Unary):
    """``y = cos(x)``, radians."""

    onnx_name: ClassVar[str] = "Cos"


@dataclass(frozen=True, slots=True)
class Erf(Unary):
    """The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t^2)`` from 0 to x."""

    onnx_name: ClassVar[str] = "Erf"


@dataclass(frozen=True, slots=True)
class Exp(Unary):
    """``y = exp(x)``."""

    onnx_name: ClassVar[str] = "Exp"


@dataclass(frozen=True, slots=True)
class Floor(Unary):
    """The largest integer that is not above ``x``."""

    onnx_name: ClassVar[str] = "Floor"


@dataclass(frozen=True, slots=True)
class Log(_Positive):
    """``y = ln(x)``."""

    onnx_name: ClassVar[str] = "Log"


@dataclass(frozen=True, slots=True)
class Neg(Unary):
    """``y = -x``."""

    onnx_name: ClassVar[str] = "Neg"


@dataclass(frozen=True, slots=True)
class Reciprocal(_Positive):
    """``y = 1 / x``."""

    onnx_name: ClassVar[str] = "Reciprocal"


@dataclass(frozen=True, slots=True)
class Round(Unary):
    """The nearest integer, and of two as near the even one."""

    onnx_name: ClassVar[str] = "Round"

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4) / 4,))
        yield Example(cls(), (3 * _f32(rng, 1, 3, 4, 5),))


@dataclass(frozen=True, slots=True)
class Sign(Unary):
    """-1, 0 or 1: the sign of ``x``."""

    onnx_name: ClassVar[str] = "Sign"

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (np.arange(-3, 3, dtype=np.float32).reshape(1, 2, 3),))
        yield Example(cls(), (_f32(rng, 1, 3, 4, 5),))
        yield Example(cls(), (np.arange(-3, 3).reshape(1, 2, 3),))


@dataclass(frozen=True, slots=True)
class Sin(Unary):
    """``y = sin(x)``, radians."""

    onnx_name: ClassVar[str] = "Sin"


@dataclass(frozen=True, slots=True)
class Sqrt(_Positive):
    """``y = sqrt(x)``."""

    onnx_name: ClassVar[str] = "Sqrt"


@dataclass(frozen=True, slots=True)
class Elu(Unary):
    """``y = x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere."""

    onnx_name: ClassVar[str] = "Elu"
    alpha: float = 1.0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes.get("alpha", 1.0))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Elu", {"alpha": self.alpha})

    @override
    def quant_rule(self) -> QuantRule | None:
        return QuantRule((Role.ACTIVATION,)) if self.alpha == 1 else None

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 3, 4),))
        yield Example(cls(2.0), (_f32(rng, 1, 3, 4),))


@dataclass(frozen=True, slots=True)
class Variadic(Broadcasting):
    """A function of any number of values, one included, with numpy broadcasting."""

    operands: ClassVar[int] = 2**31

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield from super(Variadic, cls).examples(rng)
        a = _f32(rng, 1, 3, 4, 4)
        yield Example(cls(), (a,))
        yield Example(cls(), (a, _f32(rng, 3, 1, 1), _f32(rng, 1, 3, 1, 4), _f32(rng, 4)))


@dataclass(frozen=True, slots=True)
class Max(Variadic):
    """The largest of several values."""

    onnx_name: ClassVar[str] = "Max"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), SameAsInput())


@dataclass(frozen=True, slots=True)
class Mean(Variadic):
    """The mean of several values."""

    onnx_name: ClassVar[str] = "Mean"


@dataclass(frozen=True, slots=True)
class Min(Variadic):
    """The least of several values."""

    onnx_name: ClassVar[str] = "Min"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), SameAsInput())


@dataclass(frozen=True, slots=True)
class Sum(Variadic):
    """The sum of several values."""

    onnx_name: ClassVar[str] = "Sum"


@dataclass(frozen=True, slots=True)
class PRelu(Op):
    """``y = x`` where positive, ``slope * x`` elsewhere.

    Inputs are ``x`` and a ``slope`` that broadcasts to it, such as ``[C, 1, 1]``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__PRelu.html
    """

    onnx_name: ClassVar[str] = "PRelu"
    operands: ClassVar[int] = 2

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("PRelu")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, slope = inputs
        same_dtype(x, slope)
        if broadcast(x.shape, slope.shape) != x.shape:
            raise ValueError(f"slope {slope} does not broadcast to {x}")
        return (x,)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        x, slope = inputs
        shift = x.rank - slope.rank
        found = [Tie((0, axis), (2, axis)) for axis in range(x.rank)]
        found += [
            Tie((0, axis + shift), (1, axis))
            for axis, length in enumerate(slope.shape)
            if length != 1
        ]
        return tuple(found)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 3, 4, 5), _f32(rng, 3, 1, 1)))
        yield Example(cls(), (_f32(rng, 1, 3, 4, 5), _f32(rng, 1)))
        yield Example(cls(), (_f32(rng, 2, 3), _f32(rng, 3)))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
