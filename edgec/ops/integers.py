"""Products of 8-bit integers with 32-bit sums."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Array, DType, Example, OnnxForm, OnnxNode, Op, TensorType
from edgec.ops.broadcast import broadcast
from edgec.ops.conv import window_fields
from edgec.ops.window import Pads, Window

__all__ = ["ConvInteger", "IntegerProduct", "MatMulInteger"]

X, WEIGHT, X_ZERO, WEIGHT_ZERO = range(4)  # operand numbers; zero points may be missing


@dataclass(frozen=True, slots=True)
class IntegerProduct(Op):
    """What products of ``x - x_zero`` and ``w - w_zero`` share; either zero may be absent."""

    operands: ClassVar[int] = 4

    @staticmethod
    def _check(inputs: Sequence[TensorType]) -> None:
        for t in inputs:
            if t.dtype not in (DType.INT8, DType.UINT8, DType.UNDEFINED):
                raise ValueError(f"{t} does not have 8-bit integers")
        for t, zero in zip(inputs[:2], inputs[2:], strict=False):
            if zero.dtype not in (t.dtype, DType.UNDEFINED):
                raise ValueError(f"{t} has a zero point {zero}, of another type")


@dataclass(frozen=True, slots=True)
class MatMulInteger(IntegerProduct):
    """``y = (a - a_zero) @ (b - b_zero)`` as `MatMul` does, in int32.

    ``a_zero`` is one number, or one for each row of ``a``; ``b_zero`` one for all, or one for
    each column of ``b``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__MatMulInteger.html
    """

    onnx_name: ClassVar[str] = "MatMulInteger"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("MatMulInteger")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        self._check(inputs)
        a, b = (t.shape for t in inputs[:2])
        if not a or not b:
            raise ValueError(f"{inputs[0]} and {inputs[1]} cannot be multiplied")
        left = a if len(a) > 1 else (1, *a)
        right = b if len(b) > 1 else (*b, 1)
        if left[-1] != right[-2]:
            raise ValueError(f"{inputs[0]} and {inputs[1]} cannot be multiplied")
        outer = broadcast(left[:-2], right[:-2])
        rows, columns = left[-2:-1] if len(a) > 1 else (), right[-1:] if len(b) > 1 else ()
        return (TensorType(DType.INT32, (*outer, *rows, *columns)),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * inputs[0].ints[-1]

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        a, b = _u8(rng, 4, 5), _u8(rng, 5, 3)
        signed = (b.astype(np.int32) - 128).astype(np.int8)
        yield Example(cls(), (a, b, np.array(12, np.uint8), np.array(7, np.uint8)))
        zeros = (np.array(12, np.uint8), np.array([-3, 0, 5], np.int8))
        yield Example(cls(), (a, signed, *zeros))
        yield Example(cls(), (_u8(rng, 2, 4, 5), b))


@dataclass(frozen=True, slots=True)
class ConvInteger(IntegerProduct):
    """`Conv` of ``x - x_zero`` with ``w - w_zero``, in int32; padding is ``x_zero``.

    ``w_zero`` is one number, or one for each output channel. The fields are those of `Conv`.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ConvInteger.html
    """

    onnx_name: ClassVar[str] = "ConvInteger"
    stride: tuple[int, ...] = (1, 1)
    pad: Pads = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        fields = window_fields(node)
        if fields is None:
            return None
        return cls(**fields, groups=node.attributes.get("group", 1))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "strides": self.stride,
            "pads": self.pad,
            "dilations": self.dilation,
            "group": self.groups,
            "kernel_shape": inputs[WEIGHT].shape[2:],
        }
        return OnnxForm("ConvInteger", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        self._check(inputs)
        x, w = inputs[:2]
        if x.rank != w.rank or x.rank != 2 + len(self.stride):
            raise ValueError(f"x is {x}, w is {w}, the strides are {self.stride}")
        oc, inner = w.ints[:2]
        if self.groups < 1 or oc % self.groups or x.shape[1] != inner * self.groups:
            raise ValueError(f"x is {x}, w is {w}, in {self.groups} groups")
        window = Window(w.ints[2:], self.stride, self.dilation)
        return (TensorType(DType.INT32, (x.shape[0], oc, *window.out(x.shape[2:], self.pad))),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * math.prod(inputs[WEIGHT].ints[1:])

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w = _u8(rng, 1, 2, 5, 6), _u8(rng, 4, 2, 3, 2)
        x_zero, w_zero = np.array(12, np.uint8), np.array(7, np.uint8)
        yield Example(cls(), (x, w, x_zero, w_zero))
        yield Example(cls((2, 1), (1, 0, 2, 1), (1, 2)), (x, w, x_zero))
        yield Example(cls(groups=2), (x, w[:, :1]))


def _u8(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(0, 256, shape).astype(np.uint8)
