"""Sums and products of all elements up to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Example, OnnxForm, OnnxNode, Op, TensorType, Tie
from edgec.ops.arguments import axis_of

__all__ = ["CumProd", "CumSum", "Cumulative"]


@dataclass(frozen=True, slots=True)
class Cumulative(Op):
    """What is gathered along an axis, up to each element.

    Parameters
    ----------
    exclusive
        Whether the element itself is left out.
    reverse
        Whether to begin at the end of the axis.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__CumSum.html
    """

    axis: int = 0
    exclusive: bool = False
    reverse: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        axis, a = node.constant(1), node.attributes
        if axis is None or axis.size != 1:
            return None
        place = axis_of(int(axis.reshape(-1)[0]), node.inputs[0].rank)
        return cls(place, bool(a.get("exclusive", 0)), bool(a.get("reverse", 0)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        flags = {"exclusive": int(self.exclusive), "reverse": int(self.reverse)}
        return OnnxForm(self.onnx_name, flags, (np.array(self.axis, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if self.axis >= x.rank:
            raise ValueError(f"x is {x}, which lacks axis {self.axis}")
        return (x,)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        rest = (axis for axis in range(inputs[0].rank) if axis != self.axis)
        return tuple(Tie((0, axis), (1, axis)) for axis in rest)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.uniform(0.5, 2, (1, 3, 4, 5)).astype(np.float32)
        for axis, (exclusive, reverse) in enumerate(np.ndindex(2, 2)):
            yield Example(cls(axis, bool(exclusive), bool(reverse)), (x,))
        yield Example(cls(1), (rng.integers(-3, 4, (2, 5)).astype(np.int32),))
        yield Example(cls(0, exclusive=True), (rng.integers(-3, 4, (5, 2)),))


@dataclass(frozen=True, slots=True)
class CumProd(Cumulative):
    """The product of the elements up to each, along an axis."""

    onnx_name: ClassVar[str] = "CumProd"
    since: ClassVar[int] = 26


@dataclass(frozen=True, slots=True)
class CumSum(Cumulative):
    """The sum of the elements up to each, along an axis."""

    onnx_name: ClassVar[str] = "CumSum"
