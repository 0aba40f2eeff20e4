"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    DType,
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

__all__ = [
    "ArgMax",
    "ArgMin",
    "PlaceAlongAxis",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Reduction",
]


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
    """The mean along axes; of integers, rounded towards zero."""

    onnx_name: ClassVar[str] = "ReduceMean"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))


@dataclass(frozen=True, slots=True)
class ReduceSum(Reduction):
    """The sum along axes."""

    onnx_name: ClassVar[str] = "ReduceSum"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))


@dataclass(frozen=True, slots=True)
class ReduceProd(Reduction):
    """The product along axes."""

    onnx_name: ClassVar[str] = "ReduceProd"


@dataclass(frozen=True, slots=True)
class ReduceL1(Reduction):
    """The sum of magnitudes along axes."""

    onnx_name: ClassVar[str] = "ReduceL1"


@dataclass(frozen=True, slots=True)
class ReduceL2(Reduction):
    """The square root of the sum of squares along axes."""

    onnx_name: ClassVar[str] = "ReduceL2"


@dataclass(frozen=True, slots=True)
class ReduceSumSquare(Reduction):
    """The sum of squares along axes."""

    onnx_name: ClassVar[str] = "ReduceSumSquare"


@dataclass(frozen=True, slots=True)
class ReduceLogSum(Reduction):
    """The logarithm of the sum along axes."""

    onnx_name: ClassVar[str] = "ReduceLogSum"

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for example in super(ReduceLogSum, cls).examples(rng):
            yield Example(
                example.op, tuple(np.abs(a) + np.float32(0.1) for a in example.inputs)
            )


@dataclass(frozen=True, slots=True)
class ReduceLogSumExp(Reduction):
    """The logarithm of the sum of exponentials along axes."""

    onnx_name: ClassVar[str] = "ReduceLogSumExp"


@dataclass(frozen=True, slots=True)
class _Extreme(Reduction):
    """The largest or least value along axes; of bools, whether any or all are true."""

    @override
    def opset_for(self, inputs: Sequence[TensorType]) -> int:
        return 20 if inputs[0].dtype is DType.BOOL else self.since

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield from super(_Extreme, cls).examples(rng)
        for dtype in (np.int64, np.int8, bool):
            yield Example(
                cls((1,), keepdims=False), (rng.integers(0, 2, (3, 4)).astype(dtype),)
            )


@dataclass(frozen=True, slots=True)
class ReduceMax(_Extreme):
    """The largest value along axes; of bools, whether any is true."""

    onnx_name: ClassVar[str] = "ReduceMax"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), SameAsInput())


@dataclass(frozen=True, slots=True)
class ReduceMin(_Extreme):
    """The least value along axes; of bools, whether all are true."""

    onnx_name: ClassVar[str] = "ReduceMin"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), SameAsInput())


@dataclass(frozen=True, slots=True)
class PlaceAlongAxis(Op):
    """The index of an extreme value along one axis.

    Parameters
    ----------
    last
        Whether the last of several equal values counts, instead of the first.
    """

    axis: int = 0
    keepdims: bool = True
    last: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        axis = axis_of(a.get("axis", 0), node.inputs[0].rank)
        return cls(axis, bool(a.get("keepdims", 1)), bool(a.get("select_last_index", 0)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        flags = {"keepdims": int(self.keepdims), "select_last_index": int(self.last)}
        return OnnxForm(self.onnx_name, {"axis": self.axis, **flags})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (out,) = ReduceMax((self.axis,), self.keepdims).infer(*inputs)
        return (TensorType(DType.INT64, out.dims),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return ReduceMax((self.axis,), self.keepdims).ties(inputs, outputs)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.integers(-2, 3, (1, 3, 4, 5)).astype(np.float32)  # many are equal
        yield Example(cls(), (x,))
        yield Example(cls(1), (x,))
        yield Example(cls(3, keepdims=False), (x,))
        yield Example(cls(2, last=True), (x,))
        yield Example(cls(1, keepdims=False, last=True), (x.astype(np.int32),))


@dataclass(frozen=True, slots=True)
class ArgMax(PlaceAlongAxis):
    """Where along an axis the largest value is."""

    onnx_name: ClassVar[str] = "ArgMax"


@dataclass(frozen=True, slots=True)
class ArgMin(PlaceAlongAxis):
    """Where along an axis the least value is."""

    onnx_name: ClassVar[str] = "ArgMin"
