"""The same numbers, or the same bits, in another element type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import DType, Example, OnnxForm, OnnxNode, TensorType
from edgec.ops.elementwise import Unary

__all__ = ["BitCast", "Cast"]

_INTEGERS = {DType.INT8, DType.INT16, DType.INT32, DType.INT64}
_UNSIGNED = {DType.BOOL, DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64}
_FLOATS = {DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64}
_PLAIN = _INTEGERS | _UNSIGNED | _FLOATS
"""Types between which a cast has no options."""


@dataclass(frozen=True, slots=True)
class Cast(Unary):
    """The same numbers in another type: fractions are cut off, integers wrap around.

    ``CastLike`` is imported as this. Casts from and to text and floats of 8 bits and less stay
    opaque.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Cast.html
    """

    onnx_name: ClassVar[str] = "Cast"
    to: DType = DType.FLOAT32

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        to = DType.of_onnx(node.attributes["to"])
        return cls(to) if {to, node.inputs[0].dtype} <= _PLAIN else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Cast", {"to": self.to.onnx})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        return (TensorType(self.to, x.dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.uniform(-9, 9, (1, 3, 4, 5)).astype(np.float32)
        for to in (DType.INT32, DType.INT64, DType.INT8, DType.BOOL, DType.FLOAT32):
            yield Example(cls(to), (x,))
        n = rng.integers(-300, 300, (2, 3))
        for dtype in (np.int64, np.int32, np.int16, bool):
            yield Example(cls(DType.FLOAT32), (n.astype(dtype),))
            yield Example(cls(DType.UINT8), (n.astype(dtype),))


@dataclass(frozen=True, slots=True)
class BitCast(Unary):
    """The same bits read as another type of the same width.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__BitCast.html
    """

    onnx_name: ClassVar[str] = "BitCast"
    since: ClassVar[int] = 26
    to: DType = DType.INT32

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        to = DType.of_onnx(node.attributes["to"])
        return cls(to) if {to, node.inputs[0].dtype} <= _PLAIN else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("BitCast", {"to": self.to.onnx})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.dtype.numpy.itemsize != self.to.numpy.itemsize:
            raise ValueError(f"x is {x}, whose elements are not as wide as {self.to.value}")
        return (TensorType(self.to, x.dims),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4)).astype(np.float32)
        yield Example(cls(DType.INT32), (x,))
        yield Example(cls(DType.FLOAT32), (x.view(np.int32),))
        yield Example(cls(DType.UINT8), (rng.integers(-9, 9, (2, 3)).astype(np.int8),))
