"""Operators that take images apart into blocks and put them together."""

from __future__ import annotations

import math
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
    TensorType,
)
from edgec.ops.shape import MOVES

__all__ = ["Col2Im", "DepthToSpace", "SpaceToDepth"]


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

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 8, 3, 2)).astype(np.float32)
        yield Example(cls(2), (x,))
        yield Example(cls(2, column_first=True), (x,))
        yield Example(cls(2, column_first=True), (x[:, :4],))
        yield Example(cls(1), (x,))


@dataclass(frozen=True, slots=True)
class SpaceToDepth(Op):
    """Blocks of pixels become blocks of channels.

    ``x [N, C, H * B, W * B]`` to ``[N, B * B * C, H, W]``; a block's pixels come one after the
    other, each with all its channels.

    Parameters
    ----------
    block
        Length of a block, B.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html
    """

    onnx_name: ClassVar[str] = "SpaceToDepth"
    block: int = 1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        mode = node.attributes.get("mode", "DCR")
        return cls(node.attributes["blocksize"]) if mode == "DCR" else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("SpaceToDepth", {"blocksize": self.block})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank != 4:
            raise ValueError(f"x is {x}, but must have 4 axes")
        c, h, w = x.with_shape(x.shape[1:]).ints
        if h % self.block or w % self.block:
            raise ValueError(f"x is {x}, which is not in blocks of {self.block}")
        size = (c * self.block**2, h // self.block, w // self.block)
        return (x.with_shape((x.shape[0], *size)),)

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4, 6)).astype(np.float32)
        yield Example(cls(2), (x,))
        yield Example(cls(1), (x,))


@dataclass(frozen=True, slots=True)
class Col2Im(Op):
    """Images from the columns of their blocks, added where blocks overlap.

    ``x [N, C * product of block, L]`` to ``[N, C, *image]``.

    Parameters
    ----------
    image, block
        Lengths of the spatial axes of the images and of one block.
    pads
        What is around the image that blocks also cover: before each axis, then after each.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Col2Im.html
    """

    onnx_name: ClassVar[str] = "Col2Im"
    image: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        image, block, a = node.constant(1), node.constant(2), node.attributes
        if image is None or block is None:
            return None
        ones, zeros = [1] * image.size, [0] * 2 * image.size
        return cls(
            tuple(map(int, image)),
            tuple(map(int, block)),
            tuple(a.get("strides", ones)),
            tuple(a.get("dilations", ones)),
            tuple(a.get("pads", zeros)),
        )

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {"strides": self.strides, "dilations": self.dilations, "pads": self.pads}
        constants = tuple(np.array(f, np.int64) for f in (self.image, self.block))
        return OnnxForm("Col2Im", attributes, constants)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank != 3:
            raise ValueError(f"x is {x}, but must have 3 axes")
        size, columns = math.prod(self.block), x.shape[1]
        if isinstance(columns, str) or columns % size:
            raise ValueError(f"x is {x}, whose columns are no blocks of {size}")
        places = self.places()
        if isinstance(x.shape[2], int) and x.shape[2] != places.shape[1]:
            raise ValueError(f"x is {x}, but there are {places.shape[1]} blocks")
        return (x.with_shape((x.shape[0], columns // size, *self.image)),)

    def places(self) -> Array:
        """Return where each element of each block is in a row-major image.

        Returns
        -------
        places
            ``[elements of a block, blocks]``; -1 where it is in the padding.
        """
        rank = len(self.image)
        fields = (self.block, self.strides, self.dilations)
        if any(len(f) != rank for f in fields) or len(self.pads) != 2 * rank:
            raise ValueError(f"the image has {rank} axes, other parameters do not")
        found = np.zeros((1, 1), np.int64)
        for i, length in enumerate(self.image):
            step, wide = self.strides[i], self.dilations[i] * (self.block[i] - 1) + 1
            before, after = self.pads[i], self.pads[i + rank]
            starts = np.arange(0, length + before + after - wide + 1, step) - before
            inner = np.arange(self.block[i]) * self.dilations[i]
            along = inner[:, None] + starts[None, :]
            along = np.where((along < 0) | (along >= length), -1, along)
            one, other = found[:, None, :, None], along[None, :, None, :]
            both = np.where((one < 0) | (other < 0), -1, one * length + other)
            found = both.reshape(len(found) * len(inner), -1)
        return found

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        def columns(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(np.float32)

        plain = ((1, 1), (1, 1), (0, 0, 0, 0))
        yield Example(cls((5, 6), (2, 3), *plain), (columns(1, 12, 16),))
        yield Example(cls((5, 5), (1, 5), (2, 2), (1, 1), (0, 1, 1, 0)), (columns(2, 5, 3),))
        yield Example(cls((6, 6), (2, 2), (1, 1), (1, 5), (0, 0, 0, 0)), (columns(1, 4, 5),))
