"""Operators that act on each element alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    Array,
    Example,
    Fixed,
    Measured,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    Role,
    TensorType,
    Tie,
)
from edgec.ops.activation import Activation, form
from edgec.ops.arguments import exact_number, same_dtype
from edgec.ops.broadcast import broadcast

__all__ = [
    "Add",
    "Binary",
    "Broadcasting",
    "Clip",
    "Div",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Mul",
    "Relu",
    "Sigmoid",
    "Sub",
    "Tanh",
    "Unary",
]


@dataclass(frozen=True, slots=True)
class Unary(Op):
    """A function of one value, applied to every element."""

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm(self.onnx_name)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        return (x,)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return tuple(Tie((0, axis), (1, axis)) for axis in range(inputs[0].rank))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 3, 4),))
        yield Example(cls(), (_f32(rng, 1, 3, 4, 5),))


@dataclass(frozen=True, slots=True)
class Identity(Unary):
    """``y = x``; also what ``Dropout`` is at inference."""

    onnx_name: ClassVar[str] = "Identity"


@dataclass(frozen=True, slots=True)
class Relu(Unary):
    """``y = max(x, 0)``."""

    onnx_name: ClassVar[str] = "Relu"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))


@dataclass(frozen=True, slots=True)
class Clip(Unary):
    """``y = min(max(x, low), high)``; a bound may be infinite."""

    onnx_name: ClassVar[str] = "Clip"
    low: float = -np.inf
    high: float = np.inf

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        if node.opset < 11:  # attributes, with the largest floats as defaults
            low, high = node.attributes.get("min"), node.attributes.get("max")
        else:
            bounds: list[float | None] = []  # integers stay integers: floats lack some
            for i in (1, 2):
                array = node.constant(i)
                bound = None if array is None else exact_number(array)
                if node.has(i) and bound is None:
                    return None
                bounds.append(bound)
            low, high = bounds
        return cls(-np.inf if low is None else low, np.inf if high is None else high)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        dtype = inputs[0].dtype.numpy
        bounds = tuple(
            None if np.isinf(b) else np.array(b).astype(dtype) for b in (self.low, self.high)
        )
        return OnnxForm("Clip", {}, bounds)

    @override
    def quant_rule(self) -> QuantRule | None:
        # Kernels know these bounds only; others cost two comparisons on one grid.
        known = Activation.of_bounds(self.low, self.high)
        return None if known is None else QuantRule((Role.ACTIVATION,))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 3, 4)
        yield Example(cls(), (x,))
        yield Example(cls(low=-0.5), (x,))
        yield Example(cls(high=0.25), (x,))
        yield Example(cls(0.0, 6.0), (4 * x,))


@dataclass(frozen=True, slots=True)
class LeakyRelu(Unary):
    """``y = x`` where positive, ``alpha * x`` elsewhere."""

    onnx_name: ClassVar[str] = "LeakyRelu"
    alpha: float = 0.01

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes.get("alpha", 0.01))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("LeakyRelu", {"alpha": self.alpha})

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 3, 4),))
        yield Example(cls(0.3), (_f32(rng, 1, 3, 4),))


@dataclass(frozen=True, slots=True)
class HardSigmoid(Unary):
    """``y = min(max(alpha * x + beta, 0), 1)``."""

    onnx_name: ClassVar[str] = "HardSigmoid"
    alpha: float = 0.2
    beta: float = 0.5

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("HardSigmoid", {"alpha": self.alpha, "beta": self.beta})

    @override
    def quant_rule(self) -> QuantRule | None:
        return QuantRule((Role.ACTIVATION,), Fixed(0.0, 1.0)) if self.alpha > 0 else None

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (4 * _f32(rng, 1, 3, 4),))
        yield Example(cls(0.125, 0.4), (4 * _f32(rng, 1, 3, 4),))


@dataclass(frozen=True, slots=True)
class HardSwish(Unary):
    """``y = x * min(max(x / 6 + 1/2, 0), 1)``."""

    onnx_name: ClassVar[str] = "HardSwish"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))


@dataclass(frozen=True, slots=True)
class Sigmoid(Unary):
    """``y = 1 / (1 + exp(-x))``."""

    onnx_name: ClassVar[str] = "Sigmoid"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), Fixed(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Tanh(Unary):
    """``y = tanh(x)``."""

    onnx_name: ClassVar[str] = "Tanh"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), Fixed(-1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Broadcasting(Op):
    """A function of several values of one type, with numpy broadcasting."""

    operands: ClassVar[int] = 2

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm(self.onnx_name)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        same_dtype(*inputs)
        return (TensorType(inputs[0].dtype, broadcast(*(t.shape for t in inputs))),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        out = outputs[0].shape
        return tuple(
            Tie((operand, axis), (len(inputs), axis + len(out) - t.rank))
            for operand, t in enumerate(inputs)
            for axis, length in enumerate(t.shape)
            if length == out[axis + len(out) - t.rank]
        )

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        a = _f32(rng, 1, 3, 4, 4)
        yield Example(cls(), (a, _f32(rng, 1, 3, 4, 4)))
        yield Example(cls(), (a, _f32(rng, 3, 1, 1)))
        yield Example(cls(), (a, np.full((), 0.25, np.float32)))


@dataclass(frozen=True, slots=True)
class Binary(Broadcasting):
    """Arithmetic of two values, and an activation of the result."""

    activation: Activation = Activation.NONE

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return form(self.activation, inputs[0], self.onnx_name)

    @override
    def quant_rule(self) -> QuantRule | None:
        return QuantRule((Role.ACTIVATION, Role.ACTIVATION), Measured())

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        a = _f32(rng, 2, 3, 4, 4)
        yield Example(cls(), (a, _f32(rng, 2, 3, 4, 4) + 3))
        yield Example(cls(), (a, _f32(rng, 3, 1, 1) + 3))
        yield Example(cls(), (a, np.full((), 2.5, np.float32)))
        for activation in Activation:
            yield Example(cls(activation), (a, _f32(rng, 4) + 3))


@dataclass(frozen=True, slots=True)
class Add(Binary):
    """``y = a + b``."""

    onnx_name: ClassVar[str] = "Add"


@dataclass(frozen=True, slots=True)
class Sub(Binary):
    """``y = a - b``."""

    onnx_name: ClassVar[str] = "Sub"


@dataclass(frozen=True, slots=True)
class Mul(Binary):
    """``y = a * b``."""

    onnx_name: ClassVar[str] = "Mul"

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size


@dataclass(frozen=True, slots=True)
class Div(Binary):
    """``y = a / b``; integers round towards zero."""

    onnx_name: ClassVar[str] = "Div"

    @override
    def quant_rule(self) -> QuantRule | None:
        return None  # neither runtime divides integers


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
