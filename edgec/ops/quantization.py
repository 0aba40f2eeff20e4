"""Quantize and dequantize: the pairs that make a graph a quantized one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    Array,
    DType,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    QuantParams,
    TensorType,
    Tie,
)
from edgec.ops.arguments import axis_of

__all__ = ["Dequantize", "Quantize", "dequantize_array", "quantize_array"]

_UNIT = QuantParams((1.0,), (0,))
_EIGHT = (DType.INT8, DType.UINT8)
"""What can be stored, as opset 18 has it; newer opsets have more."""

_NEWER = {DType.INT4: 21, DType.INT16: 21}
"""What newer opsets have, and which. Of 4 bits are weights only."""


@dataclass(frozen=True, slots=True)
class _Affine(Op):
    """What both directions share: parameters, and the element type that is stored."""

    params: QuantParams = _UNIT
    dtype: DType = DType.INT8

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        p = self.params
        scale = np.array(p.scale, np.float32)
        zero = np.array(p.zero_point, self.dtype.numpy)
        if p.axis is None:
            return OnnxForm(self.onnx_name, {}, (scale.reshape(()), zero.reshape(())))
        return OnnxForm(self.onnx_name, {"axis": p.axis}, (scale, zero))

    @override
    def opset_for(self, inputs: Sequence[TensorType]) -> int:
        return max(self.since, _NEWER.get(self.dtype, 0))

    def _check(self, x: TensorType) -> None:
        axis = self.params.axis
        if axis is not None and x.shape[axis : axis + 1] != (len(self.params.scale),):
            raise ValueError(f"x is {x}, but there are {len(self.params.scale)} scales")

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        free = (a for a in range(inputs[0].rank) if a != self.params.axis)
        return tuple(Tie((0, axis), (1, axis)) for axis in free)


def _params(node: OnnxNode) -> tuple[QuantParams, DType] | None:
    """Return the parameters of an ONNX node, or ``None`` if they are computed or blocked."""
    scale, zero = node.constant(1), node.constant(2)
    if scale is None or (node.has(2) and zero is None) or node.attributes.get("block_size"):
        return None
    if scale.dtype != np.float32 or scale.ndim > 1 or node.inputs[0].dims is None:
        return None
    dtype = DType.UINT8
    if zero is not None:
        dtype = DType.of(zero.dtype)
    elif node.op_type == "DequantizeLinear":
        dtype = node.inputs[0].dtype
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero
    axis = None
    if scale.ndim == 1 and scale.size > 1:
        axis = axis_of(node.attributes.get("axis", 1), node.inputs[0].rank)
    elif scale.size != 1:
        return None
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return None
    ints = tuple(int(z) for z in zeros.reshape(-1))
    return QuantParams(tuple(map(float, scale.reshape(-1))), ints, axis), dtype


@dataclass(frozen=True, slots=True)
class Quantize(_Affine):
    """``y = saturate(round(x / scale) + zero_point)``, halves rounded to even.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
    """

    onnx_name: ClassVar[str] = "QuantizeLinear"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        found = _params(node)
        plain = {"axis"} >= set(node.attributes)
        if found is None or not plain or node.inputs[0].dtype is not DType.FLOAT32:
            return None
        return cls(*found) if found[1] in (*_EIGHT, DType.INT16) else None

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.dtype is not DType.FLOAT32:
            raise ValueError(f"x is {x}, but only f32 can be quantized")
        self._check(x)
        return (TensorType(self.dtype, x.dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4)).astype(np.float32)
        yield Example(cls(QuantParams((0.03125,), (-5,))), (x,))
        yield Example(cls(QuantParams((0.03125,), (130,)), DType.UINT8), (x,))
        yield Example(cls(QuantParams((0.5, 0.25, 0.125), (0, 0, 0), 1)), (x,))
        yield Example(cls(QuantParams((2.0**-13,), (0,)), DType.INT16), (x,))


@dataclass(frozen=True, slots=True)
class Dequantize(_Affine):
    """``y = scale * (x - zero_point)``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """

    onnx_name: ClassVar[str] = "DequantizeLinear"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        found = _params(node)
        plain = {"axis"} >= set(node.attributes)
        known = found is not None and found[1] in (*_EIGHT, *_NEWER, DType.INT32)
        return cls(*found) if found is not None and known and plain else None

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.dtype is not self.dtype:
            raise ValueError(f"x is {x}, but {self.dtype.value} is to be dequantized")
        self._check(x)
        return (TensorType(DType.FLOAT32, x.dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.integers(-128, 128, (1, 3, 4))
        yield Example(cls(QuantParams((0.25,), (-5,))), (x.astype(np.int8),))
        yield Example(
            cls(QuantParams((0.25,), (7,)), DType.UINT8), ((x + 128).astype(np.uint8),)
        )
        yield Example(
            cls(QuantParams((2.0**-13,), (0,)), DType.INT16), ((99 * x).astype(np.int16),)
        )
        per_axis = QuantParams((0.5, 0.25, 0.125), (0, 0, 0), 1)
        yield Example(cls(per_axis), (x.astype(np.int8),))
        yield Example(cls(per_axis, DType.INT32), (100 * x.astype(np.int32),))


def quantize_array(
    array: Array, params: QuantParams, dtype: DType, *, most: int | None = None
) -> Array:
    """Return `array` on the integer grid, as ``QuantizeLinear`` computes it.

    The division is done in float64 and rounded once, halves to even.

    Parameters
    ----------
    most
        Largest magnitude of an integer, if that is not all the element type holds.
    """
    scale, zero = np.array(params.scale, np.float64), np.array(params.zero_point, np.int64)
    if params.axis is not None:
        along = [1] * array.ndim
        along[params.axis] = -1
        scale, zero = scale.reshape(along), zero.reshape(along)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    steps = np.rint(array / scale) + zero
    # Arithmetic on a 0-d array yields a scalar, which is no array.
    limits = dtype.limits if most is None else (-most, most)
    return np.asarray(np.clip(steps, *limits)).astype(dtype.numpy)


def dequantize_array(array: Array, params: QuantParams) -> Array:
    """Return the real numbers, in float32, that integers on a grid stand for."""
    scale, zero = np.array(params.scale, np.float32), np.array(params.zero_point, np.int64)
    if params.axis is not None:
        along = [1] * array.ndim
        along[params.axis] = -1
        scale, zero = scale.reshape(along), zero.reshape(along)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    return np.asarray((array.astype(np.int64) - zero) * scale).astype(np.float32)
