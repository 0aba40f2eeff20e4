"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Example, OnnxForm, OnnxNode, Op, QuantRule, Role, TensorType, Tie
from edgec.ops.arguments import axis_of

__all__ = ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reduction"]


@dataclass(frozen=True, slots=True)
class Reduction(Op):
    """What all reductions share: `axes` are kept with length 1, or dropped.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ReduceMean.html and its siblings.
    """

    axes: tuple[int, ...] = ()
    keepdims: bool = True

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x, a = node.inputs[0], node.attributes
        if x.dims is None or (node.has(1) and node.constant(1) is None):
            return None
        array = node.constant(1)
        listed = a.get("axes") if array is None else array.reshape(-1).tolist()
        if not listed:
            listed = () if a.get("noop_with_empty_axes", 0) else range(x.rank)
        axes = tuple(sorted(axis_of(int(axis), x.rank) for axis in listed))
        return cls(axes, bool(a.get("keepdims", 1)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {"keepdims": int(self.keepdims)}
        if not self.axes:  # no axes would otherwise mean all
            attributes["noop_with_empty_axes"] = 1
        return OnnxForm(self.onnx_name, attributes, (np.array(self.axes, np.int64),))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if any(axis >= x.rank for axis in self.axes):
            raise ValueError(f"x is {x}, which lacks one of the axes {list(self.axes)}")
        if self.keepdims:
            dims = (1 if a in self.axes else d for a, d in enumerate(x.shape))
        else:
            dims = (d for a, d in enumerate(x.shape) if a not in self.axes)
        return (x.with_shape(tuple(dims)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        kept = [axis for axis in range(inputs[0].rank) if axis not in self.axes]
        ends = kept if self.keepdims else range(len(kept))
        return tuple(Tie((0, a), (1, b)) for a, b in zip(kept, ends, strict=True))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4, 5)).astype(np.float32)
        yield Example(cls((2, 3)), (x,))
        yield Example(cls((2, 3), keepdims=False), (x,))
        yield Example(cls((1,)), (x,))


@dataclass(frozen=True, slots=True)
class ReduceMean(Reduction):
    """The mean along axes."""

    onnx_name: ClassVar[str] = "ReduceMean"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))


@dataclass(frozen=True, slots=True)
class ReduceSum(Reduction):
    """The sum along axes."""

    onnx_name: ClassVar[str] = "ReduceSum"


@dataclass(frozen=True, slots=True)
class ReduceMax(Reduction):
    """The largest value along axes."""

    onnx_name: ClassVar[str] = "ReduceMax"


@dataclass(frozen=True, slots=True)
class ReduceMin(Reduction):
    """The least value along axes."""

    onnx_name: ClassVar[str] = "ReduceMin"
