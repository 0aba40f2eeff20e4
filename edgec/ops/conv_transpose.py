"""Transposed convolutions over images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import UNKNOWN, Array, Dim, Example, OnnxForm, OnnxNode, Op, TensorType, Tie
from edgec.ops.arguments import same_dtype
from edgec.ops.window import Pads

__all__ = ["ConvTranspose"]

X, WEIGHT, BIAS = 0, 1, 2  # operand numbers; the bias may be missing


@dataclass(frozen=True, slots=True)
class ConvTranspose(Op):
    """The gradient of a convolution: every input pixel adds a kernel to the result.

    Inputs are ``x [N, IC, H, W]``, ``w [IC, OC, KH, KW]`` and, if there is one, ``b [OC]``.
    Along each axis the result has ``(length - 1) * stride + dilation * (kernel - 1) + 1 -
    pads + output_pad`` elements.

    Parameters
    ----------
    stride, dilation
        Steps along H and W, in the result.
    pad
        Elements cut off before H, before W, after H and after W.
    output_pad
        Elements added after H and W.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
    """

    onnx_name: ClassVar[str] = "ConvTranspose"
    operands: ClassVar[int] = 3
    stride: tuple[int, int] = (1, 1)
    pad: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    output_pad: tuple[int, int] = (0, 0)

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a, (x, w) = node.attributes, node.inputs[:2]
        images = x.dims is not None and len(x.dims) == 4 and w.is_static
        explicit = a.get("auto_pad", "NOTSET") in ("NOTSET", "") and "output_shape" not in a
        if not images or not explicit or a.get("group", 1) != 1:
            return None
        top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
        sh, sw = a.get("strides", (1, 1))
        dh, dw = a.get("dilations", (1, 1))
        ph, pw = a.get("output_padding", (0, 0))
        return cls((sh, sw), (top, left, bottom, right), (dh, dw), (ph, pw))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "strides": self.stride,
            "pads": self.pad,
            "dilations": self.dilation,
            "output_padding": self.output_pad,
            "kernel_shape": inputs[WEIGHT].shape[2:],
        }
        return OnnxForm("ConvTranspose", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, w = inputs[:2]
        same_dtype(*inputs)
        if x.rank != 4 or w.rank != 4 or x.shape[1] != w.shape[0]:
            raise ValueError(f"x is {x}, w is {w}; expected [N, IC, H, W] and [IC, OC, KH, KW]")
        if len(inputs) > BIAS and inputs[BIAS].dims != w.shape[1:2]:
            raise ValueError(f"the bias is {inputs[BIAS]}, w is {w}")
        size: list[Dim] = []
        for i in (0, 1):
            length = x.shape[2 + i]
            span = self.dilation[i] * (w.ints[2 + i] - 1) + 1
            extra = span - self.pad[i] - self.pad[i + 2] + self.output_pad[i]
            if isinstance(length, str):
                size.append(UNKNOWN)
                continue
            size.append((length - 1) * self.stride[i] + extra)
            if (length - 1) * self.stride[i] + extra < 1:
                raise ValueError(f"x is {x}, of which pads {self.pad} leave nothing")
        return (x.with_shape((x.shape[0], w.shape[1], *size)),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        _, oc, kh, kw = inputs[WEIGHT].ints
        return inputs[X].size * oc * kh * kw

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        bias = (Tie((WEIGHT, 1), (BIAS, 0)),) if len(inputs) > BIAS else ()
        return (Tie((X, 1), (WEIGHT, 0)), Tie((WEIGHT, 1), (len(inputs), 1)), *bias)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w, b = _f32(rng, 1, 3, 4, 5), _f32(rng, 3, 2, 3, 2), _f32(rng, 2)
        yield Example(cls(), (x, w))
        yield Example(cls((2, 2)), (x, _f32(rng, 3, 2, 2, 2), b))
        yield Example(cls((2, 2), (1, 0, 2, 1)), (x, w, b))
        yield Example(cls((2, 2), (1, 1, 1, 1), output_pad=(1, 1)), (x, _f32(rng, 3, 2, 3, 3)))
        yield Example(cls(dilation=(2, 1)), (x, w, b))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
