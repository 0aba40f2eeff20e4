"""Inverse and hyperbolic functions, and the tangent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Example
from edgec.ops.elementwise import Unary

__all__ = [
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cosh",
    "Sinh",
    "Tan",
]


@dataclass(frozen=True, slots=True)
class _Between(Unary):
    """A function whose examples are drawn between two bounds."""

    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (rng.uniform(*cls.bounds, (1, 3, 4)).astype(np.float32),))
        yield Example(cls(), (rng.uniform(*cls.bounds, (1, 3, 4, 5)).astype(np.float32),))


@dataclass(frozen=True, slots=True)
class Acos(_Between):
    """The angle in ``[0, pi]`` whose cosine is ``x``."""

    onnx_name: ClassVar[str] = "Acos"


@dataclass(frozen=True, slots=True)
class Acosh(_Between):
    """``y = ln(x + sqrt(x^2 - 1))``."""

    onnx_name: ClassVar[str] = "Acosh"
    bounds: ClassVar[tuple[float, float]] = (1.0, 4.0)


@dataclass(frozen=True, slots=True)
class Asin(_Between):
    """The angle in ``[-pi/2, pi/2]`` whose sine is ``x``."""

    onnx_name: ClassVar[str] = "Asin"


@dataclass(frozen=True, slots=True)
class Asinh(Unary):
    """``y = ln(x + sqrt(x^2 + 1))``."""

    onnx_name: ClassVar[str] = "Asinh"


@dataclass(frozen=True, slots=True)
class Atan(Unary):
    """The angle in ``[-pi/2, pi/2]`` whose tangent is ``x``."""

    onnx_name: ClassVar[str] = "Atan"


@dataclass(frozen=True, slots=True)
class Atanh(_Between):
    """``y = ln((1 + x) / (1 - x)) / 2``."""

    onnx_name: ClassVar[str] = "Atanh"


@dataclass(frozen=True, slots=True)
class Cosh(Unary):
    """``y = (exp(x) + exp(-x)) / 2``."""

    onnx_name: ClassVar[str] = "Cosh"


@dataclass(frozen=True, slots=True)
class Sinh(Unary):
    """``y = (exp(x) - exp(-x)) / 2``."""

    onnx_name: ClassVar[str] = "Sinh"


@dataclass(frozen=True, slots=True)
class Tan(_Between):
    """``y = tan(x)``, radians."""

    onnx_name: ClassVar[str] = "Tan"
