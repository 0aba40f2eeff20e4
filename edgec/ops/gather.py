"""Operators that pick values by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
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

__all__ = ["PICKS", "Gather", "GatherElements", "GatherND", "index_depth", "within_axes"]

PICKS = QuantRule((Role.ACTIVATION, Role.INDEX), SameAsInput())
"""How operators that pick values by index are quantized."""


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

    @override
    def quant_rule(self) -> QuantRule:
        return PICKS

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 4, 3, 5)).astype(np.float32)
        yield Example(cls(1), (x, np.array([2, 0, 3], np.int64)))
        yield Example(cls(1), (x, np.array(1, np.int64)))
        yield Example(cls(3), (x, np.array([[0, -1], [2, 2]], np.int32)))


@dataclass(frozen=True, slots=True)
class GatherElements(Op):
    """Each index of ``indices`` replaced by the element of ``x`` there along `axis`.

    ``y[i, j, k] = x[i, indices[i, j, k], k]`` for axis 1; negative ones count from the end.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GatherElements.html
    """

    onnx_name: ClassVar[str] = "GatherElements"
    operands: ClassVar[int] = 2
    axis: int = 0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(axis_of(node.attributes.get("axis", 0), node.inputs[0].rank))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("GatherElements", {"axis": self.axis})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, indices = inputs
        within_axes(x, indices, self.axis)
        return (x.with_shape(indices.shape),)

    @override
    def quant_rule(self) -> QuantRule:
        return PICKS

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 4, 3, 5)).astype(np.float32)
        yield Example(cls(1), (x, rng.integers(-4, 4, (1, 2, 3, 5))))
        yield Example(cls(3), (x, rng.integers(-5, 5, (1, 4, 3, 7))))
        yield Example(cls(2), (x, rng.integers(-3, 3, (1, 4, 2, 5), np.int32)))


@dataclass(frozen=True, slots=True)
class GatherND(Op):
    """Slices of ``x`` at the positions that the last axis of ``indices`` names.

    Parameters
    ----------
    batch_dims
        How many leading axes both operands have in common.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GatherND.html
    """

    onnx_name: ClassVar[str] = "GatherND"
    operands: ClassVar[int] = 2
    batch_dims: int = 0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes.get("batch_dims", 0))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("GatherND", {"batch_dims": self.batch_dims})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, indices = inputs
        depth = index_depth(x, indices, self.batch_dims)
        rest = x.shape[self.batch_dims + depth :]
        return (x.with_shape((*indices.shape[:-1], *rest)),)

    @override
    def quant_rule(self) -> QuantRule:
        return PICKS

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
        yield Example(cls(), (x, np.array([[0, 1], [-1, 2], [1, -3]])))
        yield Example(cls(), (x, np.array([[[1, 1, 2, -1]]])))
        yield Example(cls(1), (x, rng.integers(-3, 3, (2, 6, 2))))
        yield Example(cls(2), (x, rng.integers(-4, 4, (2, 3, 1))))


def within_axes(x: TensorType, indices: TensorType, axis: int) -> None:
    """Raise ``ValueError`` unless ``indices`` can name elements of ``x`` along `axis`."""
    fits = indices.dtype.numpy.kind in "iu" and x.rank == indices.rank and axis < x.rank
    pairs = zip(indices.shape, x.shape, strict=False)
    known = [(a, b) for i, (a, b) in enumerate(pairs) if i != axis]
    inside = all(a <= b for a, b in known if isinstance(a, int) and isinstance(b, int))
    if not fits or not inside:
        raise ValueError(f"x is {x}, indices are {indices}, the axis is {axis}")


def index_depth(x: TensorType, indices: TensorType, batch_dims: int = 0) -> int:
    """Return how many axes of ``x`` the last axis of ``indices`` names; raise if unfit."""
    depth = indices.shape[-1] if indices.rank > batch_dims else 0
    fits = isinstance(depth, int) and 0 < depth <= x.rank - batch_dims
    pairs = zip(x.shape[:batch_dims], indices.shape, strict=False)
    fits &= all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in pairs)
    if not fits or indices.dtype.numpy.kind not in "iu":
        raise ValueError(f"x is {x}, indices are {indices}, batch axes are {batch_dims}")
    return int(depth)
