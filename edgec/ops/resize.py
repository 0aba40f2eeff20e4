"""Resizing by interpolation along axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    Array,
    Dim,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    Role,
    SameAsInput,
    TensorType,
    Tie,
)
from edgec.ops.arguments import axis_of

__all__ = ["Line", "Resize", "SymmetricResize"]

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True, slots=True)
class Resize(Op):
    """``x`` with other lengths along some axes, each interpolated by itself.

    Parameters
    ----------
    sizes
        Lengths of the result along `axes`; empty where `scales` says it.
    scales
        Factors along `axes`; the result is rounded down.
    mode
        "nearest", "linear" or "cubic".
    coordinates
        How an index of the result finds its place in ``x``.
    rounding
        How "nearest" rounds that place.
    axes
        Those that are resized; the defaults are those of an image.
    cubic
        Coefficient of "cubic".
    antialias
        Whether the kernel widens where the result is shorter than ``x``.
    exclude_outside
        Whether only what lies in ``x`` has weight; its border is repeated otherwise.
    roi
        With "tf_crop_and_resize" starts and then ends along `axes`, between 0 and 1.
    beyond
        What the result is where "tf_crop_and_resize" leaves ``x``.
    policy
        How `sizes` are met: "stretch", "not_larger" or "not_smaller".

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
    axes: tuple[int, ...] = (2, 3)
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False
    roi: tuple[float, ...] = ()
    beyond: float = 0.0
    policy: str = "stretch"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a, x = node.attributes, node.inputs[0]
        if x.dims is None or node.opset < 11:
            return None
        mode = a.get("mode", "nearest")
        coordinates = a.get("coordinate_transformation_mode", "half_pixel")
        rounding = a.get("nearest_mode", "round_prefer_floor")
        if mode not in _MODES or rounding not in _ROUNDINGS or not cls._has(coordinates):
            return None
        axes = tuple(axis_of(i, x.rank) for i in a.get("axes", range(x.rank)))
        lengths, scales = node.constant(3), node.constant(2)
        by_size = lengths is not None and lengths.size > 0
        given = lengths if by_size else scales
        if given is None or given.size != len(axes) or (node.has(3) and lengths is None):
            return None
        fields: dict[str, Any] = {"mode": mode, "coordinates": coordinates, "axes": axes}
        fields["sizes" if by_size else "scales"] = (
            tuple(map(int, given.reshape(-1))) if by_size else _shortest(given)
        )
        if mode == "nearest":
            fields["rounding"] = rounding
        else:
            fields["antialias"] = bool(a.get("antialias", 0))
            fields["exclude_outside"] = bool(a.get("exclude_outside", 0))
        if mode == "cubic":
            fields["cubic"] = a.get("cubic_coeff_a", -0.75)
        if coordinates == "tf_crop_and_resize":
            roi = node.constant(1)
            if roi is None or roi.size != 2 * len(axes):
                return None
            fields["roi"] = _shortest(roi)
            fields["beyond"] = a.get("extrapolation_value", 0.0)
        if by_size:
            fields["policy"] = a.get("keep_aspect_ratio_policy", "stretch")
        return cls(**fields)._without_idle_axes(x)

    @classmethod
    def _has(cls, coordinates: str) -> bool:
        return coordinates in _COORDINATES

    def _without_idle_axes(self, x: TensorType) -> Self:
        """Return the same on sorted axes, without those that stay as they are, as N and C do.

        All axes behind N and C are kept if they are the only ones to change.
        """
        count = len(self.axes)
        kept = sorted(range(count), key=lambda k: self.axes[k])
        if self.policy == "stretch":
            busy = [k for k in kept if self._changes(x, k)]
            spatial = {self.axes[k] for k in busy} <= set(range(2, x.rank))
            kept = [k for k in kept if self.axes[k] > 1] if spatial else busy
        ends = [*kept, *(k + count for k in kept)]
        return replace(
            self,
            axes=tuple(self.axes[k] for k in kept),
            sizes=tuple(self.sizes[k] for k in kept) if self.sizes else (),
            scales=tuple(self.scales[k] for k in kept) if self.scales else (),
            roi=tuple(self.roi[k] for k in ends) if self.roi else (),
        )

    def _changes(self, x: TensorType, k: int) -> bool:
        """Whether the `k`-th of the axes is not left as it is."""
        cropped = bool(self.roi) and (self.roi[k], self.roi[k + len(self.axes)]) != (0, 1)
        if self.sizes:
            return cropped or self.sizes[k] != x.shape[self.axes[k]]
        return cropped or self.scales[k] != 1

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        x, count = inputs[0], len(self.axes)
        attributes: dict[str, Any] = {
            "mode": self.mode,
            "coordinate_transformation_mode": self.coordinates,
            "nearest_mode": self.rounding,
        }
        if self.mode == "cubic":
            attributes["cubic_coeff_a"] = self.cubic
        if self.antialias:
            attributes["antialias"] = 1
        if self.exclude_outside:
            attributes["exclude_outside"] = 1
        if self.policy != "stretch":
            attributes["keep_aspect_ratio_policy"] = self.policy
        if self.beyond:
            attributes["extrapolation_value"] = self.beyond
        # ONNX Runtime prepares whole shapes, and knows chosen axes only since opset 18.
        whole = self.policy == "stretch" and (x.is_static or bool(self.scales))
        axes = tuple(range(x.rank)) if whole else self.axes
        if not whole:
            attributes["axes"] = self.axes

        def spread(values: Sequence[float], rest: Sequence[float]) -> list[float]:
            chosen = dict(zip(self.axes, values, strict=True))
            return [chosen.get(axis, rest[axis]) for axis in axes]

        ones, zeros = (1.0,) * x.rank, (0.0,) * x.rank
        roi = None
        if self.roi:
            ends = [*spread(self.roi[:count], zeros), *spread(self.roi[count:], ones)]
            roi = np.array(ends, np.float32)
        if self.sizes:
            lengths = x.ints if whole else ones
            sizes = np.array(spread(self.sizes, lengths), np.int64)
            return OnnxForm("Resize", attributes, (roi, None, sizes))
        scales = np.array(spread(self.scales, ones), np.float32)
        return OnnxForm("Resize", attributes, (roi, scales))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        given = self.sizes or self.scales
        roi = 2 * len(self.axes) if self.coordinates == "tf_crop_and_resize" else 0
        if len(given) != len(self.axes) or len(self.roi) != roi:
            raise ValueError(f"{given} and {self.roi} are not for the axes {self.axes}")
        if any(not 0 <= axis < x.rank for axis in self.axes):
            raise ValueError(f"x is {x}, which lacks one of the axes {self.axes}")
        if any(not isinstance(x.shape[axis], int) or x.shape[axis] == 0 for axis in self.axes):
            raise ValueError(f"x is {x}, whose lengths along {self.axes} must be known")
        size: list[Dim] = list(x.shape)
        for axis, out in zip(self.axes, self._lengths(x), strict=True):
            size[axis] = out
            if out < 0:
                raise ValueError(f"x is {x}, which cannot have length {out}")
        return (x.with_shape(tuple(size)),)

    def _lengths(self, x: TensorType) -> tuple[int, ...]:
        """Return the lengths of the result along the axes."""
        if self.sizes and self.policy == "stretch":
            return self.sizes
        factors = self.factors([int(x.shape[axis]) for axis in self.axes])
        grown = [f * int(x.shape[axis]) for f, axis in zip(factors, self.axes, strict=True)]
        if self.sizes:
            return tuple(math.floor(length + 0.5) for length in grown)
        return tuple(math.floor(np.float32(length)) for length in grown)

    def factors(self, lengths: Sequence[int]) -> tuple[float, ...]:
        """Return the factor along each axis, given the lengths of ``x`` along them."""
        if self.scales:
            return tuple(float(np.float32(s)) for s in self.scales)
        found = [size / length for size, length in zip(self.sizes, lengths, strict=True)]
        match self.policy:
            case "not_larger":
                return (min(found),) * len(found)
            case "not_smaller":
                return (max(found),) * len(found)
        return tuple(found)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        rest = (axis for axis in range(inputs[0].rank) if axis not in self.axes)
        return tuple(Tie((0, axis), (1, axis)) for axis in rest)

    def lines(self, x: TensorType) -> tuple[Line, ...]:
        """Return how each axis is interpolated."""
        lengths = [int(x.shape[axis]) for axis in self.axes]
        count, outs = len(self.axes), self._lengths(x)
        rois = [(self.roi[k], self.roi[k + count]) for k in range(count) if self.roi]
        return tuple(
            Line(self, axis, lengths[k], outs[k], factor, rois[k] if rois else (0.0, 1.0))
            for k, (axis, factor) in enumerate(
                zip(self.axes, self.factors(lengths), strict=True)
            )
        )

    @override
    def quant_rule(self) -> QuantRule | None:
        weighs = self.mode == "cubic" or self.antialias or self.exclude_outside or self.roi
        return None if weighs else QuantRule((Role.ACTIVATION,), SameAsInput())

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
        yield Example(cls(scales=(0.6, 1.7), mode="linear"), (x,))
        yield Example(cls((7, 3), mode="cubic", cubic=-0.5, exclude_outside=True), (x,))
        yield Example(cls((2, 3), mode="linear", antialias=True), (x,))
        yield Example(cls((3, 9), mode="cubic", antialias=True), (x,))
        crop = cls((3, 3), (), "linear", "tf_crop_and_resize", roi=(0.4, -0.2, 0.6, 0.8))
        yield Example(crop, (x,))
        yield Example(replace(crop, beyond=10.0), (x,))
        yield Example(cls((7, 8), policy="not_larger"), (x,))
        yield Example(cls((7, 8), mode="linear", policy="not_smaller"), (x,))
        yield Example(cls((7,), mode="linear", axes=(2,)), (x[0],))
        yield Example(cls((7, 3), axes=(1, 2)), (x[0],))


@dataclass(frozen=True, slots=True)
class SymmetricResize(Resize):
    """`Resize` about the centre of ``x``, which ONNX has from opset 19 on."""

    since: ClassVar[int] = 19
    coordinates: str = "half_pixel_symmetric"

    @classmethod
    @override
    def _has(cls, coordinates: str) -> bool:
        return coordinates == "half_pixel_symmetric"

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 2, 4, 5)).astype(np.float32)
        yield Example(cls(scales=(0.6, 2.3), mode="linear"), (x,))
        yield Example(cls((7, 3), rounding="ceil"), (x,))
        yield Example(cls((7, 3), mode="cubic", cubic=-0.5, exclude_outside=True), (x,))
        yield Example(cls((2, 3), mode="linear", antialias=True), (x,))
        yield Example(cls((7,), mode="linear", axes=(2,)), (x[0],))
        yield Example(cls((7, 8), policy="not_larger"), (x,))


@dataclass(frozen=True, slots=True)
class Line:
    """How one axis of a `Resize` is interpolated.

    Parameters
    ----------
    length, out
        Of ``x`` and of the result.
    factor
        From the one to the other; their quotient only if it is not rounded.
    roi
        Start and end of a crop.
    """

    op: Resize
    axis: int
    length: int
    out: int
    factor: float
    roi: tuple[float, float]

    @property
    def unsettled(self) -> str:
        """Why runtimes do not agree on the result; empty if they do.

        ONNX Runtime takes the length of the result where the standard takes the length of
        ``x`` times the factor, a number that may not be whole.
        """
        coordinates, exact = self.op.coordinates, self.factor * self.length
        whole = math.isclose(exact, self.out, rel_tol=1e-6)
        if coordinates in ("align_corners", "tf_crop_and_resize") and not whole:
            return f"{coordinates} divides by a length of {exact:g}, which is {self.out}"
        plain = self.op.mode == "linear" and not self.op.antialias
        if coordinates == "pytorch_half_pixel" and self.out == 1 and not (whole and plain):
            return "pytorch_half_pixel has no place for a result of length 1"
        weighted = self.op.antialias or self.op.exclude_outside
        if coordinates == "tf_crop_and_resize" and weighted:
            return "a kernel may lie beyond the crop"
        if self.factor == 1 and self.roi != (0, 1):
            return "ONNX Runtime does not crop an axis that keeps its length"
        single = self.places(np.float32)
        if self.op.mode == "nearest":
            if not np.array_equal(self.nearest(), self._rounded(single)):
                return "a place lies so near the middle of two elements that rounding decides"
        elif not np.array_equal(self.outside(), self._outside(single)):
            return "a place lies so near the end that rounding decides"
        return ""

    def places(self, dtype: type[np.floating[Any]] = np.float64) -> Array:
        """Return where each index of the result lies in ``x``, not yet rounded or clamped."""
        i = np.arange(self.out, dtype=dtype)
        start, end = (dtype(r) for r in self.roi)
        factor, last = dtype(self.factor), dtype(self.length - 1)
        match self.op.coordinates:
            case "asymmetric":
                return np.asarray(i / factor)
            case "align_corners":
                return np.asarray(i * last / dtype(max(self.out - 1, 1)))
            case "tf_crop_and_resize":
                if self.out == 1:
                    return np.asarray(0 * i + (start + end) * last / 2)
                return np.asarray(start * last + i * (end - start) * last / dtype(self.out - 1))
            case "pytorch_half_pixel" if self.out == 1:
                return np.asarray(0 * i)
        centred = (i + dtype(0.5)) / factor - dtype(0.5)
        if self.op.coordinates == "half_pixel_symmetric":
            centred += self.length / dtype(2) * (1 - self.out / (factor * self.length))
        return np.asarray(centred)

    def nearest(self) -> Array:
        """Return the index of ``x`` that each index of a "nearest" result takes."""
        return self._rounded(self.places())

    def _rounded(self, x: Array) -> Array:
        match self.op.rounding:
            case "floor":
                rounded = np.floor(x)
            case "ceil":
                rounded = np.ceil(x)
            case "round_prefer_ceil":
                rounded = np.floor(x + x.dtype.type(0.5))
            case _:
                rounded = np.ceil(x - x.dtype.type(0.5))
        return np.clip(rounded, 0, self.length - 1).astype(np.int64)

    def outside(self) -> Array:
        """Return which indices of the result lie beyond ``x``, where that matters."""
        return self._outside(self.places())

    def _outside(self, x: Array) -> Array:
        if self.op.coordinates != "tf_crop_and_resize":
            return np.zeros(self.out, bool)
        return np.asarray((x < 0) | (x > self.length - 1))

    def matrix(self) -> Array:
        """Return the weights ``[out, length]`` of the elements of ``x``, in float64."""
        m = np.zeros((self.out, self.length))
        rows = np.arange(self.out)
        if self.op.mode == "nearest":
            m[rows, self.nearest()] = 1
        else:
            x = self.places()
            narrow = min(self.factor, 1.0) if self.op.antialias else 1.0
            reach = math.ceil((2 if self.op.mode == "cubic" else 1) / narrow)
            taps = np.floor(x)[:, None] + np.arange(-reach, reach + 2)
            weights = self._kernel((taps - x[:, None]) * narrow)
            if self.op.antialias:
                weights /= weights.sum(1, keepdims=True)
            if self.op.exclude_outside:
                weights[(taps < 0) | (taps >= self.length)] = 0
                weights /= weights.sum(1, keepdims=True)
            columns = np.clip(taps, 0, self.length - 1).astype(np.int64)
            np.add.at(m, (rows[:, None], columns), weights)
        m[self.outside()] = 0
        return m

    def _kernel(self, distance: Array) -> Array:
        """Return the weight of an element at a distance, in elements."""
        d = np.asarray(np.abs(distance))
        if self.op.mode == "linear":
            return np.asarray(np.clip(1 - d, 0, None))
        a = self.op.cubic
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0.0)))


def _shortest(array: Array) -> tuple[float, ...]:
    """Return the shortest floats that are the same in float32."""
    return tuple(float(str(np.float32(value))) for value in array.reshape(-1))
