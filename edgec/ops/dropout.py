"""Dropout at inference, where only its mask makes it more than an identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import DType, Example, OnnxForm, OnnxNode, Op, TensorType, Tie

__all__ = ["Dropout"]


@dataclass(frozen=True, slots=True)
class Dropout(Op):
    """``y = x``, and a mask that says of every element that it was kept.

    A node whose mask nobody reads is imported as an `Identity`.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Dropout.html
    """

    onnx_name: ClassVar[str] = "Dropout"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        training = node.constant(2)
        off = not node.has(2) or (training is not None and not training.any())
        masked = node.outputs == 1 or node.opset >= 10  # before, masks were numbers
        return cls() if off and masked else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Dropout")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        return x, TensorType(DType.BOOL, x.dims)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        axes = range(inputs[0].rank)
        return tuple(Tie((0, axis), (end, axis)) for axis in axes for end in (1, 2))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (rng.standard_normal((1, 3, 4)).astype(np.float32),))
