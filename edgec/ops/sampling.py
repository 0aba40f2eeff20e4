"""Operators that read images at places between the pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Array, DType, Example, OnnxForm, OnnxNode, Op, TensorType, Tie
from edgec.ops.arguments import same_dtype
from edgec.ops.conv import window_fields
from edgec.ops.window import Pads, Window

__all__ = ["DeformConv", "GridSample", "RoiAlign"]

_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # names before opset 20


@dataclass(frozen=True, slots=True)
class GridSample(Op):
    """``x [N, C, H, W]`` at the places of a grid ``[N, OH, OW, 2]``.

    A place is a pair of x and y between -1 and 1, the ends of the image. A volume has a grid
    ``[N, OD, OH, OW, 3]`` of x, y and z.

    Parameters
    ----------
    mode
        "linear", "nearest" or "cubic".
    padding
        What lies beyond the image: "zeros", its "border", or its "reflection".
    align_corners
        Whether -1 and 1 are the centres of the outer pixels instead of their edges.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GridSample.html
    """

    onnx_name: ClassVar[str] = "GridSample"
    operands: ClassVar[int] = 2
    since: ClassVar[int] = 20
    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        mode = a.get("mode", "linear")
        aligned = bool(a.get("align_corners", 0))
        return cls(_MODES.get(mode, mode), a.get("padding_mode", "zeros"), aligned)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "mode": self.mode,
            "padding_mode": self.padding,
            "align_corners": int(self.align_corners),
        }
        return OnnxForm("GridSample", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, grid = inputs
        if x.rank < 3 or grid.rank != x.rank or grid.shape[-1] != x.rank - 2:
            raise ValueError(f"the grid is {grid}, x is {x}")
        return (x.with_shape((*x.shape[:2], *grid.shape[1:-1])),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (Tie((0, 1), (2, 1)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 2, 4, 5)
        grid = rng.uniform(-1.4, 1.4, (1, 3, 2, 2)).astype(np.float32)
        for mode in ("linear", "nearest", "cubic"):
            for padding in ("zeros", "border", "reflection"):
                yield Example(cls(mode, padding), (x, grid))
        yield Example(cls(align_corners=True), (x, grid))
        yield Example(cls("cubic", "reflection", align_corners=True), (x, grid))
        volume = rng.uniform(-1.4, 1.4, (1, 2, 3, 2, 3)).astype(np.float32)
        yield Example(cls(), (_f32(rng, 1, 2, 3, 4, 5), volume))


@dataclass(frozen=True, slots=True)
class RoiAlign(Op):
    """Regions of ``x [N, C, H, W]`` at one size: ``[R, C, height, width]``.

    Inputs are ``x``, ``rois [R, 4]`` with x1, y1, x2, y2, and ``batch [R]``, int64.

    Parameters
    ----------
    height, width
        Of the result.
    sampling
        Samples along each axis of a cell of the result; 0 for as many as there are pixels.
    scale
        From the coordinates of the regions to pixels.
    mode
        "avg" of the samples, or "max" of what the pixels add to them.
    half_pixel
        Whether coordinates count from the edge of the first pixel instead of its centre.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__RoiAlign.html
    """

    onnx_name: ClassVar[str] = "RoiAlign"
    operands: ClassVar[int] = 3
    height: int = 1
    width: int = 1
    sampling: int = 0
    scale: float = 1.0
    mode: str = "avg"
    half_pixel: bool = True

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
        return cls(
            a.get("output_height", 1),
            a.get("output_width", 1),
            a.get("sampling_ratio", 0),
            a.get("spatial_scale", 1.0),
            a.get("mode", "avg"),
            a.get("coordinate_transformation_mode", default) == "half_pixel",
        )

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "output_height": self.height,
            "output_width": self.width,
            "sampling_ratio": self.sampling,
            "spatial_scale": self.scale,
            "mode": self.mode,
            "coordinate_transformation_mode": (
                "half_pixel" if self.half_pixel else "output_half_pixel"
            ),
        }
        return OnnxForm("RoiAlign", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, rois, batch = inputs
        if x.rank != 4 or rois.rank != 2 or rois.shape[1] != 4 or batch.rank != 1:
            raise ValueError(f"x is {x}, the regions are {rois} of images {batch}")
        if batch.dtype is not DType.INT64:
            raise ValueError(f"the images are {batch}, not i64")
        return (x.with_shape((rois.shape[0], x.shape[1], self.height, self.width)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (Tie((0, 1), (3, 1)),)

    def taps(self, size: tuple[int, int], rois: Array, batch: Array) -> tuple[Array, Array]:
        """Return which pixels a result is made from, and with which weights.

        Parameters
        ----------
        size
            Height and width of ``x``.

        Returns
        -------
        pixels, weights
            ``[R, height, width, T]``: positions in ``[N, H, W]``, and float64.
        """
        offset = 0.5 if self.half_pixel else 0.0
        found: list[tuple[Array, Array]] = []
        for roi, image in zip(rois.astype(np.float64), batch, strict=True):
            x1, y1, x2, y2 = roi * self.scale - offset
            (rows, down), (columns, across) = (
                self._line(y1, y2 - y1, self.height, size[0]),
                self._line(x1, x2 - x1, self.width, size[1]),
            )
            pixels = (rows[:, None, :, None] * size[1] + columns[None, :, None, :]).astype(int)
            weights = down[:, None, :, None] * across[None, :, None, :]
            if self.mode == "avg":
                weights = weights / max(rows.shape[1] * columns.shape[1] // 4, 1)
            shape = (self.height, self.width, -1)
            found.append((pixels.reshape(shape) + image * size[0] * size[1],
                          weights.reshape(shape)))  # fmt: skip
        most = max((pixels.shape[2] for pixels, _ in found), default=0)
        out = [self._filled(pixels, weights, most) for pixels, weights in found]
        return np.stack([p for p, _ in out]), np.stack([w for _, w in out])

    def _filled(self, pixels: Array, weights: Array, most: int) -> tuple[Array, Array]:
        """Return as many taps as `most`: the first again, without weight in an average."""
        missing = most - pixels.shape[2]
        if pixels.shape[2] == 0:
            return np.zeros((*pixels.shape[:2], most), int), np.zeros((*pixels.shape[:2], most))
        again = np.repeat(weights[..., :1], missing, 2) * (self.mode == "max")
        return (
            np.concatenate([pixels, np.repeat(pixels[..., :1], missing, 2)], 2),
            np.concatenate([weights, again], 2),
        )

    def _line(self, start: float, length: float, out: int, limit: int) -> tuple[Array, Array]:
        """Return pixels and weights ``[out, samples * 2]`` along one axis."""
        if not self.half_pixel:
            length = max(length, 1.0)
        cell = length / out
        samples = self.sampling or math.ceil(cell)
        at = start + np.arange(out)[:, None] * cell
        at = at + (np.arange(samples) + 0.5) * cell / samples
        inside = (at >= -1) & (at <= limit)
        at = np.clip(at, 0, limit - 1)
        low = np.floor(at)
        pixels = np.stack([low, np.minimum(low + 1, limit - 1)], -1)
        weights = np.stack([1 - (at - low), at - low], -1) * inside[..., None]
        return pixels.reshape(out, -1), weights.reshape(out, -1)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 2, 3, 8, 7)
        rois = np.array([[0, 0, 12, 10], [2, 5, 9, 15], [-3, 1, 16, 3]], np.float32)
        batch = np.array([0, 1, 1])
        yield Example(cls(3, 2, 2, 0.5), (x, rois, batch))
        yield Example(cls(2, 2), (x, rois[:2] / 2, batch[:2]))
        yield Example(cls(3, 3, 2, 0.5, "max"), (x, rois, batch))
        yield Example(cls(3, 3, 2, 0.5, half_pixel=False), (x, rois, batch))


@dataclass(frozen=True, slots=True)
class DeformConv(Op):
    """A convolution whose taps are moved: ``y = sum(w * mask * x[place + offset]) + bias``.

    Inputs are ``x [N, IC, H, W]``, ``w [OC, IC / groups, KH, KW]``, ``offset [N, 2 * G * KH *
    KW, OH, OW]`` with y before x, and, if given, ``bias [OC]`` and ``mask [N, G * KH * KW, OH,
    OW]``. What lies beyond ``x`` is zero.

    Parameters
    ----------
    stride, pad, dilation, groups
        Those of a `Conv`.
    offset_groups
        Equal parts of the input channels with offsets of their own, G.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__DeformConv.html
    """

    onnx_name: ClassVar[str] = "DeformConv"
    operands: ClassVar[int] = 5
    since: ClassVar[int] = 19
    stride: tuple[int, ...] = (1, 1)
    pad: Pads = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    offset_groups: int = 1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        fields: Any = window_fields(node)
        if fields is None or node.inputs[0].rank != 4:
            return None
        a = node.attributes
        return cls(**fields, groups=a.get("group", 1), offset_groups=a.get("offset_group", 1))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "strides": self.stride,
            "pads": self.pad,
            "dilations": self.dilation,
            "group": self.groups,
            "offset_group": self.offset_groups,
            "kernel_shape": inputs[1].shape[2:],
        }
        return OnnxForm("DeformConv", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, w, offset = inputs[:3]
        same_dtype(*(t for t in inputs if t.dtype is not DType.UNDEFINED))
        if x.rank != 4 or w.rank != 4 or offset.rank != 4:
            raise ValueError(f"x is {x}, w is {w}, the offset is {offset}")
        out = Window(w.ints[2:], self.stride, self.dilation).out(x.shape[2:], self.pad)
        taps = math.prod(w.ints[2:]) * self.offset_groups
        if offset.shape[1:] != (2 * taps, *out) and all(isinstance(d, int) for d in out):
            raise ValueError(f"the offset is {offset}, for {taps} taps and {out}")
        if x.shape[1] != w.ints[1] * self.groups:
            raise ValueError(f"x is {x}, w is {w}, in {self.groups} groups")
        return (x.with_shape((x.shape[0], w.shape[0], *out)),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * math.prod(inputs[1].ints[1:])

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w = _f32(rng, 1, 4, 5, 6), _f32(rng, 2, 4, 2, 3)
        yield Example(cls(), (x, w, _f32(rng, 1, 12, 4, 4)))
        bias, mask = _f32(rng, 2), _f32(rng, 1, 12, 3, 5)
        op = cls((2, 1), (1, 0, 1, 1), offset_groups=2)
        yield Example(op, (x, w, _f32(rng, 1, 24, 3, 5), bias, mask))
        op = cls(dilation=(2, 1), groups=2)
        yield Example(op, (x, w[:, :2], _f32(rng, 1, 12, 3, 4)))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
