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
from edgec.ops.arguments import axis_of, exact_float
from edgec.ops.broadcast import broadcast

__all__ = ["Concat", "Expand", "Pad", "Reshape", "Slice", "Transpose"]

_MOVES = QuantRule((Role.ACTIVATION,), SameAsInput())


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
        return _MOVES

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
        return OnnxForm("Transpose", {"perm": self.perm})

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
        return _MOVES

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
        return _MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        a, b = _f32(rng, 1, 2, 3, 3), _f32(rng, 1, 4, 3, 3)
        yield Example(cls(1), (a, b))
        yield Example(cls(1), (a, b, a + 1))
        yield Example(cls(3), (a, a + 1))


@dataclass(frozen=True, slots=True)
class Pad(Op):
    """`value` added around ``x``.

    Parameters
    ----------
    pads
        Elements added before every axis, then after every axis; none is negative.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Pad.html
    """

    onnx_name: ClassVar[str] = "Pad"
    pads: tuple[int, ...] = ()
    value: float = 0.0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x, mode = node.inputs[0], node.attributes.get("mode", "constant")
        if mode != "constant" or x.dims is None:
            return None
        if node.opset < 11:
            pads = tuple(node.attributes["pads"])
            value = node.attributes.get("value", 0.0)
        else:
            array, fill, axes = node.constant(1), node.constant(2), node.constant(3)
            computed = (node.has(2) and fill is None) or (node.has(3) and axes is None)
            if array is None or computed:
                return None
            pads = tuple(map(int, array.reshape(-1)))
            value = 0.0 if fill is None else exact_float(fill)
            if axes is not None:
                chosen = [axis_of(int(a), x.rank) for a in axes.reshape(-1)]
                pads = _spread(pads, chosen, x.rank)
        return None if value is None or any(p < 0 for p in pads) else cls(pads, value)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        fill = np.array(self.value).astype(inputs[0].dtype.numpy)
        return OnnxForm("Pad", {}, (np.array(self.pads, np.int64), fill))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if len(self.pads) != 2 * x.rank:
            raise ValueError(f"x is {x}, but pads are {list(self.pads)}")
        before, after = self.pads[: x.rank], self.pads[x.rank :]
        dims: list[Dim] = []
        for length, a, b in zip(x.shape, before, after, strict=True):
            grown = length + a + b if isinstance(length, int) else UNKNOWN
            dims.append(grown if a or b else length)
        return (x.with_shape(tuple(dims)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        rank = inputs[0].rank
        return tuple(
            Tie((0, axis), (1, axis))
            for axis in range(rank)
            if not self.pads[axis] and not self.pads[axis + rank]
        )

    @override
    def quant_rule(self) -> QuantRule | None:
        return _MOVES if self.value == 0 else None  # zero is on every grid

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 2, 3, 4)
        yield Example(cls((0, 0, 1, 0, 0, 0, 2, 3)), (x,))
        yield Example(cls((0, 1, 0, 0, 0, 1, 0, 0)), (x,))
        yield Example(cls((0, 0, 1, 1, 0, 0, 1, 1), -1.5), (x,))


def _spread(pads: tuple[int, ...], axes: list[int], rank: int) -> tuple[int, ...]:
    """Return pads of all axes, given those of some."""
    out = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        out[axis], out[axis + rank] = pads[i], pads[i + len(axes)]
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Every `step`-th index from `start` up to `end` (excluded), axis by axis.

    Parameters
    ----------
    axes
        The axes that are cut; the others stay whole.
    starts, ends
        As in Python: negative ones count from the end, too large ones are cut off.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Slice.html
    """

    onnx_name: ClassVar[str] = "Slice"
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x, a = node.inputs[0], node.attributes
        if x.dims is None:
            return None
        if node.opset < 10:
            starts, ends = tuple(a["starts"]), tuple(a["ends"])
            axes = tuple(a.get("axes", range(len(starts))))
            steps = (1,) * len(starts)
        else:
            arrays = [node.constant(i) for i in (1, 2, 3, 4)]
            if any(node.has(i + 1) and array is None for i, array in enumerate(arrays)):
                return None
            lists = [None if v is None else tuple(map(int, v.reshape(-1))) for v in arrays]
            starts, ends = lists[0] or (), lists[1] or ()
            axes = lists[2] or tuple(range(len(starts)))
            steps = lists[3] or (1,) * len(starts)
        return cls(starts, ends, tuple(axis_of(axis, x.rank) for axis in axes), steps)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        fields = (self.starts, self.ends, self.axes, self.steps)
        return OnnxForm("Slice", {}, tuple(np.array(f, np.int64) for f in fields))

    def ranges(self, x: TensorType) -> dict[int, range]:
        """Return the indices kept of each axis that is cut."""
        cuts = zip(self.axes, self.starts, self.ends, self.steps, strict=True)
        return {a: range(x.ints[a])[slice(s, _stop(e, p), p)] for a, s, e, p in cuts}

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        dims = list(x.shape)
        if any(not 0 <= axis < x.rank for axis in self.axes):
            raise ValueError(f"x is {x}, which lacks one of the axes {list(self.axes)}")
        for axis, start, end, step in zip(
            self.axes, self.starts, self.ends, self.steps, strict=True
        ):
            length = dims[axis]
            cut = slice(start, _stop(end, step), step)
            dims[axis] = UNKNOWN if isinstance(length, str) else len(range(length)[cut])
        return (x.with_shape(tuple(dims)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        axes = [axis for axis in range(inputs[0].rank) if axis not in self.axes]
        return tuple(Tie((0, axis), (1, axis)) for axis in axes)

    @override
    def quant_rule(self) -> QuantRule:
        return _MOVES

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 4, 6, 6)
        yield Example(cls((0, 0), (2**31, 2**31), (2, 3), (2, 2)), (x,))
        yield Example(cls((1, -4), (3, -1), (1, 3), (1, 1)), (x,))
        yield Example(cls((-1,), (-(2**31),), (2,), (-2,)), (x,))


def _stop(end: int, step: int) -> int | None:
    """Return Python's form of an end far before the first index, which means "all of it"."""
    return None if step < 0 and end < -(2**30) else end


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

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls((1, 3, 4, 5)), (_f32(rng, 1, 3, 1, 5),))
        yield Example(cls((3, 1)), (_f32(rng, 1, 1, 4),))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
