"""Operators that pick values by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Example, OnnxForm, OnnxNode, Op, TensorType, Tie
from edgec.ops.arguments import axis_of

__all__ = ["Gather"]


@dataclass(frozen=True, slots=True)
class Gather(Op):
    """``y = x[..., indices, ...]`` along `axis`; ``indices`` may have any shape.

    Inputs are ``x`` and integer ``indices``; negative ones count from the end.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Gather.html
    """

    onnx_name: ClassVar[str] = "Gather"
    operands: ClassVar[int] = 2
    axis: int = 0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(axis_of(node.attributes.get("axis", 0), node.inputs[0].rank))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Gather", {"axis": self.axis})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, indices = inputs
        if self.axis >= x.rank or indices.dtype.numpy.kind not in "iu":
            raise ValueError(f"x is {x}, indices are {indices}, the axis is {self.axis}")
        before, after = x.shape[: self.axis], x.shape[self.axis + 1 :]
        return (x.with_shape((*before, *indices.shape, *after)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        shift = inputs[1].rank - 1
        axes = [a for a in range(inputs[0].rank) if a != self.axis]
        return tuple(Tie((0, a), (2, a if a < self.axis else a + shift)) for a in axes)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 4, 3, 5)).astype(np.float32)
        yield Example(cls(1), (x, np.array([2, 0, 3], np.int64)))
        yield Example(cls(1), (x, np.array(1, np.int64)))
        yield Example(cls(3), (x, np.array([[0, -1], [2, 2]], np.int32)))
