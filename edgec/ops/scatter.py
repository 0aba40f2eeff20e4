"""Operators that put values at positions."""

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
)
from edgec.ops.arguments import axis_of
from edgec.ops.gather import index_depth, within_axes

__all__ = ["ScatterElements", "ScatterND", "TensorScatter"]

_PUTS = QuantRule((Role.ACTIVATION, Role.INDEX, Role.ACTIVATION), SameAsInput())


@dataclass(frozen=True, slots=True)
class ScatterElements(Op):
    """``x`` with each element of ``updates`` put at its index along `axis`.

    ``x[i, indices[i, j, k], k] = updates[i, j, k]`` for axis 1. Inputs are ``x``,
    ``indices`` and ``updates``; the last two have the same shape.

    Parameters
    ----------
    reduction
        "none", or "add", "mul", "max" or "min" of what is there and what comes.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ScatterElements.html
    """

    onnx_name: ClassVar[str] = "ScatterElements"
    operands: ClassVar[int] = 3
    axis: int = 0
    reduction: str = "none"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        axis = axis_of(a.get("axis", 0), node.inputs[0].rank)
        return cls(axis, a.get("reduction", "none"))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {"axis": self.axis, "reduction": self.reduction}
        return OnnxForm("ScatterElements", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, indices, updates = inputs
        within_axes(x, indices, self.axis)
        if updates.shape != indices.shape or updates.dtype != x.dtype:
            raise ValueError(f"x is {x}, indices are {indices}, updates {updates}")
        return (x,)

    @override
    def quant_rule(self) -> QuantRule | None:
        return _PUTS if self.reduction == "none" else None

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 4, 3, 5)).astype(np.float32)
        once = np.array([[[[2], [0], [-1]], [[-1], [4], [1]]]])
        yield Example(cls(3), (x, once, rng.standard_normal((1, 2, 3, 1)).astype(np.float32)))
        twice = rng.integers(-4, 4, (1, 6, 2, 5))
        updates = rng.standard_normal(twice.shape).astype(np.float32)
        for reduction in ("add", "mul", "max", "min"):
            yield Example(cls(1, reduction), (x, twice, updates))


@dataclass(frozen=True, slots=True)
class ScatterND(Op):
    """``x`` with slices put at the positions that the last axis of ``indices`` names.

    Parameters
    ----------
    reduction
        "none", or "add", "mul", "max" or "min" of what is there and what comes.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ScatterND.html
    """

    onnx_name: ClassVar[str] = "ScatterND"
    operands: ClassVar[int] = 3
    reduction: str = "none"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes.get("reduction", "none"))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("ScatterND", {"reduction": self.reduction})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, indices, updates = inputs
        rest = x.shape[index_depth(x, indices) :]
        if updates.shape != (*indices.shape[:-1], *rest) or updates.dtype != x.dtype:
            raise ValueError(f"x is {x}, indices are {indices}, updates {updates}")
        return (x,)

    @override
    def quant_rule(self) -> QuantRule | None:
        return _PUTS if self.reduction == "none" else None

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
        once = np.array([[0, 1], [-1, 2], [1, -3]])
        yield Example(cls(), (x, once, rng.standard_normal((3, 4, 5)).astype(np.float32)))
        twice = np.array([[[0, 1, 1]], [[-1, 2, 0]], [[1, -1, 0]]])
        updates = rng.standard_normal((3, 1, 5)).astype(np.float32)
        for reduction in ("add", "mul", "max", "min"):
            yield Example(cls(reduction), (x, twice, updates))


@dataclass(frozen=True, slots=True)
class TensorScatter(Op):
    """A cache with new entries written along `axis`, for each batch from its own place on.

    Inputs are the cache ``[B, ..., S, ...]``, the new entries, and optionally the place of
    the first one for each batch, ``[B]``.

    Parameters
    ----------
    circular
        Whether entries beyond the end go to the front again.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__TensorScatter.html
    """

    onnx_name: ClassVar[str] = "TensorScatter"
    operands: ClassVar[int] = 3
    since: ClassVar[int] = 24
    axis: int = 1
    circular: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        axis = axis_of(a.get("axis", -2), node.inputs[0].rank)
        return cls(axis, a.get("mode", "linear") == "circular")

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        mode = "circular" if self.circular else "linear"
        return OnnxForm("TensorScatter", {"axis": self.axis, "mode": mode})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        cache, update = inputs[:2]
        at = self.axis
        if not 0 < at < cache.rank or update.rank != cache.rank or update.dtype != cache.dtype:
            raise ValueError(f"the cache is {cache}, the update {update}, the axis {at}")
        pairs = zip(cache.shape, update.shape, strict=True)
        for axis, (a, b) in enumerate(pairs):
            numbers = isinstance(a, int) and isinstance(b, int)
            if numbers and (a < b if axis == at else a != b):  # type: ignore[operator]
                raise ValueError(f"the cache is {cache}, the update {update}, the axis {at}")
        if len(inputs) > 2 and inputs[2].rank != 1:
            raise ValueError(f"the places are {inputs[2]}, not one for each batch")
        return (cache,)

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION, Role.ACTIVATION, Role.INDEX), SameAsInput())

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        cache = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
        update = rng.standard_normal((2, 3, 2, 5)).astype(np.float32)
        yield Example(cls(2), (cache, update, np.array([1, 2])))
        yield Example(cls(2, circular=True), (cache, update, np.array([3, 0])))
        yield Example(cls(1), (cache, update[:, :2].repeat(2, 2)))
