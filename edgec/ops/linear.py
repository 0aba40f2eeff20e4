"""Matrix products."""

from __future__ import annotations

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
    TensorType,
    Tie,
)
from edgec.ops.activation import Activation, form
from edgec.ops.arguments import same_dtype
from edgec.ops.broadcast import broadcast

__all__ = ["Det", "FullyConnected", "Gemm", "MatMul", "product_shape"]

X, WEIGHT, BIAS = 0, 1, 2  # operand numbers


@dataclass(frozen=True, slots=True)
class FullyConnected(Op):
    """``y = x @ w.T + b`` for ``x [N, I]``, ``w [O, I]`` and, if there is one, ``b [O]``.

    The form in which every runtime wants a layer; ONNX writes it as ``Gemm(transB=1)``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Gemm.html
    """

    onnx_name: ClassVar[str] = "Gemm"
    operands: ClassVar[int] = 3
    activation: Activation = Activation.NONE

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        plain = (
            a.get("alpha", 1.0) == 1
            and a.get("beta", 1.0) == 1
            and not a.get("transA", 0)
            and a.get("transB", 0) == 1
        )
        if not plain or any(t.dims is None for t in node.inputs[:2]):
            return None
        if node.has(BIAS) and node.inputs[BIAS].dims != node.inputs[WEIGHT].shape[:1]:
            return None
        return cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return form(self.activation, inputs[X], "Gemm", {"transB": 1})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        same_dtype(*inputs)
        x, w = inputs[:2]
        if x.rank != 2 or w.rank != 2 or not _meet(x.shape[1], w.shape[1]):
            raise ValueError(f"x is {x}, w is {w}; expected [N, I] and [O, I]")
        if len(inputs) > BIAS and inputs[BIAS].dims != w.shape[:1]:
            raise ValueError(f"the bias is {inputs[BIAS]}, w is {w}")
        return (TensorType(x.dtype, (x.shape[0], w.shape[0])),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * inputs[WEIGHT].ints[1]

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        bias = (Tie((WEIGHT, 0), (BIAS, 0)),) if len(inputs) > BIAS else ()
        return (Tie((X, 1), (WEIGHT, 1)), Tie((WEIGHT, 0), (len(inputs), 1)), *bias)

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION, Role.WEIGHT, Role.BIAS))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w, b = _f32(rng, 2, 5), _f32(rng, 3, 5), _f32(rng, 3)
        yield Example(cls(), (x, w, b))
        yield Example(cls(activation=Activation.RELU), (x, w))


@dataclass(frozen=True, slots=True)
class Gemm(Op):
    """``y = alpha * a @ b + beta * c``, with ``a`` and ``b`` transposed on request.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Gemm.html
    """

    onnx_name: ClassVar[str] = "Gemm"
    operands: ClassVar[int] = 3
    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        if any(t.dims is None for t in node.inputs[:2]):
            return None
        a = node.attributes
        return cls(
            a.get("alpha", 1.0),
            a.get("beta", 1.0),
            bool(a.get("transA", 0)),
            bool(a.get("transB", 0)),
        )

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "alpha": self.alpha,
            "beta": self.beta,
            "transA": int(self.trans_a),
            "transB": int(self.trans_b),
        }
        return OnnxForm("Gemm", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        same_dtype(*inputs)
        a, b = inputs[:2]
        if a.rank != 2 or b.rank != 2:
            raise ValueError(f"a is {a}, b is {b}; expected two matrices")
        m, k = a.shape[::-1] if self.trans_a else a.shape
        inner, n = b.shape[::-1] if self.trans_b else b.shape
        if not _meet(k, inner):
            raise ValueError(f"inner lengths differ: {k} and {inner}")
        if len(inputs) > BIAS and broadcast((m, n), inputs[BIAS].shape) != (m, n):
            raise ValueError(f"c is {inputs[BIAS]}, which does not broadcast to [{m},{n}]")
        return (TensorType(a.dtype, (m, n)),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * inputs[0].ints[0 if self.trans_a else 1]

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        a, b, c = _f32(rng, 2, 5), _f32(rng, 5, 3), _f32(rng, 2, 3)
        yield Example(cls(), (a, b, c))
        yield Example(cls(0.5, 2.0, trans_a=True, trans_b=True), (a.T.copy(), b.T.copy(), c))


@dataclass(frozen=True, slots=True)
class MatMul(Op):
    """``y = a @ b`` over the last two axes, the others broadcast.

    A vector in front is a row, one behind a column; its axis of length 1 is dropped from the
    result.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__MatMul.html
    """

    onnx_name: ClassVar[str] = "MatMul"
    operands: ClassVar[int] = 2

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return None if any(t.dims is None for t in node.inputs) else cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("MatMul")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        same_dtype(*inputs)
        a, b = inputs
        return (TensorType(a.dtype, product_shape(a, b)),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * inputs[0].ints[-1]

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        a, b = inputs
        y = outputs[0]
        if a.rank < 2 or b.rank < 2:
            return ()
        last = Tie((0, a.rank - 1), (1, b.rank - 2))
        ends = (Tie((0, a.rank - 2), (2, y.rank - 2)), Tie((1, b.rank - 1), (2, y.rank - 1)))
        outer = (
            Tie((operand, axis), (2, axis + y.rank - t.rank))
            for operand, t in enumerate(inputs)
            for axis in range(t.rank - 2)
            if t.shape[axis] == y.shape[axis + y.rank - t.rank]
        )
        return (last, *ends, *outer)

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION, Role.ACTIVATION))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 2, 3, 4), _f32(rng, 4, 5)))
        yield Example(cls(), (_f32(rng, 3, 4), _f32(rng, 4, 5)))
        yield Example(cls(), (_f32(rng, 2, 3, 4), _f32(rng, 4)))
        yield Example(cls(), (_f32(rng, 3, 1, 2, 4), _f32(rng, 1, 2, 4, 5)))


@dataclass(frozen=True, slots=True)
class Det(Op):
    """The determinants of square matrices, which lie in the last two axes.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Det.html
    """

    onnx_name: ClassVar[str] = "Det"

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return None if node.inputs[0].dims is None else cls()

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Det")

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank < 2 or not _meet(x.shape[-2], x.shape[-1]):
            raise ValueError(f"x is {x}, not of square matrices")
        return (x.with_shape(x.shape[:-2]),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 2, 3, 3),))
        yield Example(cls(), (_f32(rng, 2, 2, 2, 2),))


def product_shape(a: TensorType, b: TensorType) -> tuple[Dim, ...]:
    """Return the shape of a matrix product; raise ``ValueError`` if there is none."""
    if a.rank == 0 or b.rank == 0:
        raise ValueError(f"{a} and {b} cannot be multiplied: one is a scalar")
    left = a.shape if a.rank > 1 else (1, *a.shape)
    right = b.shape if b.rank > 1 else (*b.shape, 1)
    if not _meet(left[-1], right[-2]):
        raise ValueError(f"{a} and {b} cannot be multiplied")
    outer = broadcast(left[:-2], right[:-2])
    rows, columns = left[-2:-1] if a.rank > 1 else (), right[-1:] if b.rank > 1 else ()
    return (*outer, *rows, *columns)


def _meet(left: Dim, right: Dim) -> bool:
    """Whether two lengths are equal, or one is not known at all."""
    return left == right or UNKNOWN in (left, right)


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
