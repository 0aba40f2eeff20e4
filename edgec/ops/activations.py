"""Activations with a curve of their own; those that layers can carry are in `activation`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Example, OnnxForm, OnnxNode, QuantRule, Role, TensorType
from edgec.ops.elementwise import Unary

__all__ = [
    "Celu",
    "Gelu",
    "Mish",
    "Selu",
    "Shrink",
    "Softplus",
    "Softsign",
    "Swish",
    "ThresholdedRelu",
]


@dataclass(frozen=True, slots=True)
class _Curve(Unary):
    """A function of one value whose fields have the names and defaults that ONNX gives them."""

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(**{f.name: node.attributes.get(f.name, f.default) for f in fields(cls)})

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm(self.onnx_name, {f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_spread(rng, 1, 3, 4),))
        yield Example(cls(), (_spread(rng, 1, 3, 4, 5),))
        for f in fields(cls):
            yield Example(replace(cls(), **{f.name: 0.7}), (_spread(rng, 1, 3, 4),))


@dataclass(frozen=True, slots=True)
class Celu(_Curve):
    """``y = x`` where positive, ``alpha * (exp(x / alpha) - 1)`` elsewhere."""

    onnx_name: ClassVar[str] = "Celu"
    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Gelu(_Curve):
    """``y = x * P(N <= x)`` for a standard normal ``N``.

    Parameters
    ----------
    approximate
        "none" for the probability itself, ``(1 + erf(x / sqrt(2))) / 2``; "tanh" for
        ``(1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Gelu.html
    """

    onnx_name: ClassVar[str] = "Gelu"
    since: ClassVar[int] = 20
    approximate: str = "none"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_spread(rng, 1, 3, 4),))
        yield Example(cls(), (_spread(rng, 1, 3, 4, 5),))
        yield Example(cls("tanh"), (_spread(rng, 1, 3, 4),))


@dataclass(frozen=True, slots=True)
class Mish(_Curve):
    """``y = x * tanh(ln(1 + exp(x)))``."""

    onnx_name: ClassVar[str] = "Mish"


@dataclass(frozen=True, slots=True)
class Selu(_Curve):
    """``y = gamma * x`` where positive, ``gamma * alpha * (exp(x) - 1)`` elsewhere."""

    onnx_name: ClassVar[str] = "Selu"
    alpha: float = 1.6732632
    gamma: float = 1.050701


@dataclass(frozen=True, slots=True)
class Shrink(_Curve):
    """``y = x + bias`` below ``-lambd``, ``x - bias`` above ``lambd``, 0 between."""

    onnx_name: ClassVar[str] = "Shrink"
    bias: float = 0.0
    lambd: float = 0.5


@dataclass(frozen=True, slots=True)
class Softplus(_Curve):
    """``y = ln(1 + exp(x))``."""

    onnx_name: ClassVar[str] = "Softplus"


@dataclass(frozen=True, slots=True)
class Softsign(_Curve):
    """``y = x / (1 + |x|)``."""

    onnx_name: ClassVar[str] = "Softsign"


@dataclass(frozen=True, slots=True)
class Swish(_Curve):
    """``y = x / (1 + exp(-alpha * x))``; SiLU where alpha is 1."""

    onnx_name: ClassVar[str] = "Swish"
    since: ClassVar[int] = 24
    alpha: float = 1.0

    @override
    def quant_rule(self) -> QuantRule | None:
        return QuantRule((Role.ACTIVATION,)) if self.alpha == 1 else None


@dataclass(frozen=True, slots=True)
class ThresholdedRelu(_Curve):
    """``y = x`` above ``alpha``, 0 elsewhere."""

    onnx_name: ClassVar[str] = "ThresholdedRelu"
    alpha: float = 1.0


def _spread(rng: np.random.Generator, *shape: int) -> Array:
    return (2 * rng.standard_normal(shape)).astype(np.float32)
