"""Operators that trade channels for pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Example, OnnxForm, OnnxNode, Op, TensorType

__all__ = ["DepthToSpace"]


@dataclass(frozen=True, slots=True)
class DepthToSpace(Op):
    """Blocks of channels become blocks of pixels.

    ``x [N, C * B * B, H, W]`` to ``[N, C, H * B, W * B]``.

    Parameters
    ----------
    block
        Length of a block, B.
    column_first
        Whether the channels are in the order "column, row, depth" (CRD), as pixel shuffle has
        them, instead of "depth, column, row" (DCR).

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__DepthToSpace.html
    """

    onnx_name: ClassVar[str] = "DepthToSpace"
    block: int = 1
    column_first: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        return cls(a["blocksize"], a.get("mode", "DCR") == "CRD")

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        mode = "CRD" if self.column_first else "DCR"
        return OnnxForm("DepthToSpace", {"blocksize": self.block, "mode": mode})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank != 4:
            raise ValueError(f"x is {x}, but must have 4 axes")
        c, h, w = x.with_shape(x.shape[1:]).ints
        if c % self.block**2:
            raise ValueError(f"x is {x}, whose channels are not in blocks of {self.block**2}")
        size = (c // self.block**2, h * self.block, w * self.block)
        return (x.with_shape((x.shape[0], *size)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 8, 3, 2)).astype(np.float32)
        yield Example(cls(2), (x,))
        yield Example(cls(2, column_first=True), (x,))
        yield Example(cls(2, column_first=True), (x[:, :4],))
        yield Example(cls(1), (x,))
