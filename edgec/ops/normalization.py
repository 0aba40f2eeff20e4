"""Normalisation: with statistics fixed at export, and over classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Example, Fixed, OnnxForm, OnnxNode, Op, QuantRule, Role, TensorType, Tie

__all__ = ["BatchNorm", "Softmax"]


@dataclass(frozen=True, slots=True)
class BatchNorm(Op):
    """``y = gamma * (x - mean) / sqrt(var + epsilon) + beta``, per channel (axis 1).

    Inputs are ``x [N, C, ...]``, then ``gamma``, ``beta``, ``mean`` and ``var``, each ``[C]``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
    """

    onnx_name: ClassVar[str] = "BatchNormalization"
    operands: ClassVar[int] = 5
    epsilon: float = 1e-5

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        if node.attributes.get("training_mode", 0) or node.outputs > 1:
            return None
        if not node.attributes.get("spatial", 1) or node.inputs[0].dims is None:
            return None
        return cls(node.attributes.get("epsilon", 1e-5))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("BatchNormalization", {"epsilon": self.epsilon})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, *params = inputs
        if any(p.dims != x.shape[1:2] for p in params):
            raise ValueError(f"x is {x}, but the parameters are {', '.join(map(str, params))}")
        return (x,)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (Tie((0, 1), (5, 1)), *(Tie((0, 1), (i, 0)) for i in range(1, 5)))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4, 4)).astype(np.float32)
        gamma, beta, mean = rng.standard_normal((3, 3)).astype(np.float32)
        var = rng.uniform(0.1, 2, 3).astype(np.float32)
        yield Example(cls(), (x, gamma, beta, mean, var))
        yield Example(cls(epsilon=0.5), (x, gamma, beta, mean, var))


@dataclass(frozen=True, slots=True)
class Softmax(Op):
    """``y = exp(x) / sum(exp(x))``, summed along `axis` (counted from the end: -1 is the last).

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Softmax.html
    """

    onnx_name: ClassVar[str] = "Softmax"
    axis: int = -1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x = node.inputs[0]
        if x.dims is None:
            return None
        axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
        axis = axis - x.rank if axis >= 0 else axis
        if node.opset < 13 and any(d != 1 for d in x.shape[x.rank + axis + 1 :]):
            return None  # before opset 13 all axes from `axis` on were one
        return cls(axis)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Softmax", {"axis": self.axis})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if not -x.rank <= self.axis < 0:
            raise ValueError(f"x is {x} and has no axis {self.axis}")
        return (x,)

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), Fixed(0.0, 1.0))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (rng.standard_normal((1, 7)).astype(np.float32),))
        yield Example(cls(-2), (rng.standard_normal((1, 3, 4)).astype(np.float32),))
