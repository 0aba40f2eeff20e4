"""Operators that move values without changing them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

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
    Role,
    SameAsInput,
    TensorType,
    Tie,
)
from edgec.ops.arguments import axis_of
from edgec.ops.broadcast import broadcast

__all__ = ["MOVES", "Concat", "Expand", "Reshape", "Tile", "Transpose"]

MOVES = QuantRule((Role.ACTIVATION,), SameAsInput())
"""How operators that only move values are quantized."""


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """The same values in row-major order under another shape.

    One length may be -1: whatever is left over. Import writes Flatten, Squeeze and Unsqueeze
    in this form too.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Reshape.html
    """

    onnx_name: ClassVar[str] = "Reshape"
    shape: tuple[int, ...] = (-1,)

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        wanted = node.constant(1)
        if wanted is None or node.inputs[0].dims is None:
            return None
        keep_zero = bool(node.attributes.get("allowzero", 0))
        dims: list[Dim] = []
        for i, d in enumerate(map(int, wanted.reshape(-1))):
            dims.append(node.inputs[0].shape[i] if d == 0 and not keep_zero else d)
        return cls.to(tuple(dims))

    @classmethod
    def to(cls, dims: tuple[Dim, ...]) -> Self | None:
        """Return the reshape to `dims`, or ``None`` if more than one length is not known."""
        shape = tuple(-1 if isinstance(d, str) else d for d in dims)
        return None if shape.count(-1) > 1 else cls(shape)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        zero = {"allowzero": 1} if 0 in self.shape else {}
        return OnnxForm("Reshape", zero, (np.array(self.shape, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        known = math.prod(d for d in self.shape if d != -1)
        if not x.is_static:
            symbols = [d for d in x.shape if isinstance(d, str)]
            rest = math.prod(d for d in x.shape if isinstance(d, int))
            left: Dim = symbols[0] if len(symbols) == 1 and rest == known else UNKNOWN
            return (x.with_shape(tuple(left if d == -1 else d for d in self.shape)),)
        if -1 not in self.shape and known != x.size:
            raise ValueError(f"x is {x}, which does not fit {list(self.shape)}")
        if -1 in self.shape and (known == 0 or x.size % known):
            raise ValueError(f"x is {x}, which does not divide into {list(self.shape)}")
        return (x.with_shape(tuple(x.size // known if d == -1 else d for d in self.shape)),)

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 3, 4, 2)
        yield Example(cls((1, 24)), (x,))
        yield Example(cls((1, -1, 6)), (x,))
        yield Example(cls((1, 3, 4, 2, 1)), (x,))


@dataclass(frozen=True, slots=True)
class Transpose(Op):
    """Axis ``i`` of the result is axis ``perm[i]`` of ``x``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Transpose.html
    """

    onnx_name: ClassVar[str] = "Transpose"
    perm: tuple[int, ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        if node.inputs[0].dims is None:
            return None
        backwards = tuple(reversed(range(node.inputs[0].rank)))
        return cls(tuple(node.attributes.get("perm", backwards)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Transpose", {"perm": self.perm} if self.perm else {})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if sorted(self.perm) != list(range(x.rank)):
            raise ValueError(f"x is {x}, which has no order {list(self.perm)}")
        return (x.with_shape(tuple(x.shape[p] for p in self.perm)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return tuple(Tie((0, p), (1, axis)) for axis, p in enumerate(self.perm))

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls((0, 2, 3, 1)), (_f32(rng, 1, 3, 4, 5),))
        yield Example(cls((1, 0)), (_f32(rng, 3, 4),))


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """The inputs one after the other along `axis`.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Concat.html
    """

    onnx_name: ClassVar[str] = "Concat"
    operands: ClassVar[int] = 2**31
    axis: int = 0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        if any(t.dims is None for t in node.inputs):
            return None
        return cls(axis_of(node.attributes.get("axis", 1), node.inputs[0].rank))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Concat", {"axis": self.axis})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        first, at = inputs[0], self.axis
        if not 0 <= at < first.rank:
            raise ValueError(f"{first} has no axis {at}")
        out = list(first.shape)
        for t in inputs[1:]:
            if t.dtype != first.dtype or t.rank != first.rank:
                raise ValueError(f"{first} and {t} cannot be joined")
            for axis, (a, b) in enumerate(zip(out, t.shape, strict=True)):
                if axis == at:
                    both = isinstance(a, int) and isinstance(b, int)
                    out[axis] = a + b if both else UNKNOWN  # type: ignore[operator]
                elif isinstance(a, int) and isinstance(b, int) and a != b:
                    raise ValueError(f"{first} and {t} cannot be joined along axis {at}")
        return (first.with_shape(tuple(out)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        found: list[Tie] = []
        offset = 0
        for i, t in enumerate(inputs):
            for axis in range(t.rank):
                start = offset if axis == self.axis else 0
                found.append(Tie((i, axis), (len(inputs), axis), offset=start))
            offset += t.ints[self.axis]
        return tuple(found)

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        a, b = _f32(rng, 1, 2, 3, 3), _f32(rng, 1, 4, 3, 3)
        yield Example(cls(1), (a, b))
        yield Example(cls(1), (a, b, a + 1))
        yield Example(cls(3), (a, a + 1))


@dataclass(frozen=True, slots=True)
class Expand(Op):
    """``x`` repeated to the shape that it and `shape` broadcast to.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Expand.html
    """

    onnx_name: ClassVar[str] = "Expand"
    shape: tuple[int, ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        wanted = node.constant(1)
        return None if wanted is None else cls(tuple(map(int, wanted.reshape(-1))))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Expand", {}, (np.array(self.shape, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        return (x.with_shape(broadcast(x.shape, self.shape)),)

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls((1, 3, 4, 5)), (_f32(rng, 1, 3, 1, 5),))
        yield Example(cls((3, 1)), (_f32(rng, 1, 1, 4),))


@dataclass(frozen=True, slots=True)
class Tile(Op):
    """``x`` repeated along each axis, as a whole, `repeats` times.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Tile.html
    """

    onnx_name: ClassVar[str] = "Tile"
    repeats: tuple[int, ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        repeats = node.constant(1)
        return None if repeats is None else cls(tuple(map(int, repeats.reshape(-1))))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Tile", {}, (np.array(self.repeats, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if len(self.repeats) != x.rank or any(r < 0 for r in self.repeats):
            raise ValueError(f"x is {x}, but repeats are {list(self.repeats)}")
        pairs = zip(x.shape, self.repeats, strict=True)
        return (x.with_shape(tuple(_times(d, r) for d, r in pairs)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return tuple(Tie((0, a), (1, a)) for a, r in enumerate(self.repeats) if r == 1)

    @override
    def quant_rule(self) -> QuantRule:
        return MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls((1, 2, 1, 3)), (_f32(rng, 1, 3, 4, 2),))
        yield Example(cls((1, 4)), (rng.integers(-9, 9, (2, 3)),))


def _times(length: Dim, repeats: int) -> Dim:
    if isinstance(length, int) or repeats == 0:
        return repeats * length if isinstance(length, int) else 0
    return length if repeats == 1 else UNKNOWN


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
