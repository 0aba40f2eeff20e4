"""Operators that add elements around a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    UNKNOWN,
    Array,
    Dim,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    TensorType,
    Tie,
)
from edgec.ops.arguments import axis_of, exact_float
from edgec.ops.shape import MOVES

__all__ = ["MirrorPad", "Pad", "Padding", "WrapPad"]


@dataclass(frozen=True, slots=True)
class Padding(Op):
    """What all ways to pad share.

    Parameters
    ----------
    pads
        Elements added before every axis, then after every axis; negative ones take away.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Pad.html
    """

    onnx_name: ClassVar[str] = "Pad"
    pads: tuple[int, ...] = ()

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if len(self.pads) != 2 * x.rank:
            raise ValueError(f"x is {x}, but pads are {list(self.pads)}")
        dims: list[Dim] = []
        for length, (a, b) in zip(x.shape, self.ends(), strict=True):
            grown = length + a + b if isinstance(length, int) else UNKNOWN
            if isinstance(length, int) and length + min(a, 0) + min(b, 0) < 0:
                raise ValueError(f"x is {x}, too small for the pads {list(self.pads)}")
            dims.append(grown if a or b else length)
        return (x.with_shape(tuple(dims)),)

    def ends(self) -> list[tuple[int, int]]:
        """Return what is added before and after each axis."""
        half = len(self.pads) // 2
        return list(zip(self.pads[:half], self.pads[half:], strict=True))

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        free = [axis for axis, ends in enumerate(self.ends()) if ends == (0, 0)]
        return tuple(Tie((0, axis), (1, axis)) for axis in free)

    @override
    def quant_rule(self) -> QuantRule | None:
        return MOVES


@dataclass(frozen=True, slots=True)
class Pad(Padding):
    """`value` added around ``x``."""

    value: float = 0.0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        pads = _pads(node)
        if pads is None or node.attributes.get("mode", "constant") != "constant":
            return None
        if node.opset < 11:
            return cls(pads, node.attributes.get("value", 0.0))
        fill = node.constant(2)
        if node.has(2) and fill is None:
            return None
        value = 0.0 if fill is None else exact_float(fill)
        return None if value is None else cls(pads, value)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        fill = np.array(self.value).astype(inputs[0].dtype.numpy)
        pads = np.array(self.pads, np.int64)
        if self.value != 0 or any(any(ends) for ends in self.ends()[:2]):
            return OnnxForm("Pad", {}, (pads, fill))
        # All axes, spelled out: ONNX Runtime 1.31 makes a pad with zeros that does not say its
        # axes part of the layer behind it. The padding of a MaxPool is below all zeros, though,
        # and no pool takes pads as wide as its window. Where it is right, FoldPad has done it.
        axes = np.arange(len(self.pads) // 2, dtype=np.int64)
        return OnnxForm("Pad", {}, (pads, fill, axes))

    @override
    def quant_rule(self) -> QuantRule | None:
        return MOVES if self.value == 0 else None  # zero is on every grid

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 2, 3, 4)
        yield Example(cls((0, 0, 1, 0, 0, 0, 2, 3)), (x,))
        yield Example(cls((0, 1, 0, 0, 0, 1, 0, 0)), (x,))
        yield Example(cls((0, 0, 1, 1, 0, 0, 1, 1), -1.5), (x,))
        yield Example(cls((0, 0, -1, 1, 0, 0, 1, -2), 0.5), (x,))
        yield Example(cls((0, 1, 0, 2), 7.0), (rng.integers(-9, 9, (2, 3)),))


@dataclass(frozen=True, slots=True)
class MirrorPad(Padding):
    """Elements of ``x`` itself added around it.

    Parameters
    ----------
    mode
        "reflect" mirrors at the outermost elements, "edge" repeats these.
    """

    mode: str = "reflect"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        pads, mode = _pads(node), node.attributes.get("mode", "constant")
        return cls(pads, mode) if pads is not None and mode in ("reflect", "edge") else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Pad", {"mode": self.mode}, (np.array(self.pads, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        out = super(MirrorPad, self).infer(x)
        for length, (a, b) in zip(x.shape, self.ends(), strict=True):
            if isinstance(length, int):
                self.places(length, a, b)
        return out

    def places(self, length: int, before: int, after: int) -> Array:
        """Return which index of an axis each index of the padded axis takes."""
        kept = np.arange(length)[max(-before, 0) : length - max(-after, 0)]
        if self.mode == "reflect" and max(before, after) >= max(len(kept), 1):
            raise ValueError(f"{max(before, after)} elements to reflect, where {length} are")
        return _grown(kept, before, after, self.mode)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 2, 3, 4)
        yield Example(cls((0, 0, 1, 2, 0, 0, 2, 3)), (x,))
        yield Example(cls((0, 1, 0, 0, 0, 1, 0, 0)), (x,))
        yield Example(cls((0, 0, 1, 1, 0, 0, 5, 1), "edge"), (x,))


@dataclass(frozen=True, slots=True)
class WrapPad(Padding):
    """``x`` continued around itself, as if it repeated for ever."""

    since: ClassVar[int] = 19

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        pads = _pads(node)
        wraps = node.attributes.get("mode", "constant") == "wrap"
        return cls(pads) if pads is not None and wraps else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Pad", {"mode": "wrap"}, (np.array(self.pads, np.int64),))

    def places(self, length: int, before: int, after: int) -> Array:
        """Return which index of an axis each index of the padded axis takes."""
        kept = np.arange(length)[max(-before, 0) : length - max(-after, 0)]
        return _grown(kept, before, after, "wrap")

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 2, 3, 4)
        yield Example(cls((0, 0, 1, 2, 0, 0, 2, 3)), (x,))
        yield Example(cls((0, 1, 0, 0, 0, 1, 0, 0)), (x,))


def _grown(kept: Array, before: int, after: int, mode: str) -> Array:
    if not len(kept) and max(before, after) > 0:
        raise ValueError("there is nothing to continue an axis of length 0 with")
    wanted: Any = mode
    return np.pad(kept, (max(before, 0), max(after, 0)), mode=wanted)


def _pads(node: OnnxNode) -> tuple[int, ...] | None:
    """Return the pads of all axes, or ``None`` if they are computed."""
    x = node.inputs[0]
    if x.dims is None:
        return None
    if node.opset < 11:
        return tuple(node.attributes["pads"])
    array, axes = node.constant(1), node.constant(3)
    if array is None or (node.has(3) and axes is None):
        return None
    pads = tuple(map(int, array.reshape(-1)))
    if axes is None:
        return pads
    out = [0] * (2 * x.rank)
    chosen = [axis_of(int(a), x.rank) for a in axes.reshape(-1)]
    for i, axis in enumerate(chosen):
        out[axis], out[axis + x.rank] = pads[i], pads[i + len(chosen)]
    return tuple(out)


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
