"""Operators that resize images or trade channels for pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Dim, Example, OnnxForm, OnnxNode, Op, TensorType, Tie

__all__ = ["DepthToSpace", "Resize"]

_MODES = ("nearest", "linear")
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True, slots=True)
class Resize(Op):
    """An image ``[N, C, H, W]`` at another height and width.

    Parameters
    ----------
    sizes
        Height and width of the result; empty where `scales` says it.
    scales
        Factors for height and width; the result is rounded down.
    mode
        "nearest" or "linear".
    coordinates
        How a pixel of the result finds its place in the image.
    rounding
        How "nearest" rounds that place.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Resize.html
    """

    onnx_name: ClassVar[str] = "Resize"
    sizes: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a, x = node.attributes, node.inputs[0]
        if x.dims is None or len(x.dims) != 4 or node.opset < 11:
            return None
        if a.get("antialias") or a.get("axes") or a.get("exclude_outside"):
            return None
        if a.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        mode = a.get("mode", "nearest")
        coordinates = a.get("coordinate_transformation_mode", "half_pixel")
        rounding = a.get("nearest_mode", "round_prefer_floor")
        if mode not in _MODES or coordinates not in _COORDINATES or rounding not in _ROUNDINGS:
            return None
        rounding = rounding if mode == "nearest" else "round_prefer_floor"
        scales, sizes = node.constant(2), node.constant(3)
        if sizes is not None and sizes.size == 4:
            if tuple(sizes[:2]) != x.dims[:2]:
                return None
            return cls(tuple(map(int, sizes[2:])), (), mode, coordinates, rounding)
        if node.has(3) or scales is None or scales.size != 4 or tuple(scales[:2]) != (1, 1):
            return None
        return cls((), tuple(map(float, scales[2:])), mode, coordinates, rounding)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        n, c = inputs[0].shape[:2]
        attributes = {
            "mode": self.mode,
            "coordinate_transformation_mode": self.coordinates,
            "nearest_mode": self.rounding,
        }
        if self.sizes:
            sizes = np.array([n, c, *self.sizes], np.int64)
            return OnnxForm("Resize", attributes, (None, None, sizes))
        return OnnxForm(
            "Resize", attributes, (None, np.array([1, 1, *self.scales], np.float32))
        )

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank != 4 or len(self.sizes or self.scales) != 2:
            raise ValueError(f"x is {x}, which cannot be resized to two lengths")
        size: tuple[Dim, ...] = self.sizes
        if not size:
            if not all(isinstance(d, int) for d in x.shape[2:]):
                raise ValueError(f"x is {x}, whose height and width must be known")
            pairs = zip(x.shape[2:], self.scales, strict=True)
            size = tuple(math.floor(int(d) * np.float32(s)) for d, s in pairs)
        return (x.with_shape((*x.shape[:2], *size)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (Tie((0, 1), (1, 1)),)

    def places(self, length: int, out: int, axis: int) -> Array:
        """Return where each index of the result lies along one axis of the image.

        Parameters
        ----------
        length, out
            Of the image and of the result along the axis.
        axis
            0 for height, 1 for width.

        Returns
        -------
        places
            Real coordinates ``[out]``, float64, not yet rounded or clamped.
        """
        i = np.arange(out, dtype=np.float64)
        scale = self.scales[axis] if self.scales else out / length
        match self.coordinates:
            case "asymmetric":
                return i / scale
            case "align_corners":
                return i * (length - 1) / (out - 1) if out > 1 else np.zeros(out)
            case "pytorch_half_pixel" if out == 1:
                return np.zeros(out)
            case _:
                return (i + 0.5) / scale - 0.5

    def nearest(self, length: int, out: int, axis: int) -> Array:
        """Return the index of the image that each index of a "nearest" result takes."""
        x = self.places(length, out, axis)
        match self.rounding:
            case "floor":
                rounded = np.floor(x)
            case "ceil":
                rounded = np.ceil(x)
            case "round_prefer_ceil":
                rounded = np.floor(x + 0.5)
            case _:
                rounded = np.ceil(x - 0.5)
        return np.clip(rounded, 0, length - 1).astype(np.int64)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 2, 4, 5)).astype(np.float32)
        yield Example(cls(scales=(2.0, 2.0)), (x,))
        yield Example(cls(scales=(2.0, 3.0), coordinates="asymmetric", rounding="floor"), (x,))
        yield Example(cls(scales=(2.0, 2.0), mode="linear"), (x,))
        yield Example(cls((8, 10), mode="linear", coordinates="pytorch_half_pixel"), (x,))
        yield Example(cls((7, 9), mode="linear", coordinates="align_corners"), (x,))
        yield Example(cls((2, 3), mode="linear", coordinates="asymmetric"), (x,))
        yield Example(cls((7, 3), coordinates="asymmetric", rounding="ceil"), (x,))
        for rounding in ("round_prefer_ceil", "round_prefer_floor"):  # halves are in between
            halves = cls((8, 10), coordinates="asymmetric", rounding=rounding)
            yield Example(halves, (x,))


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
