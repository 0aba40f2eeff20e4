"""Transposed convolutions over lines, images and volumes."""

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
    TensorType,
    Tie,
)
from edgec.ops.arguments import same_dtype
from edgec.ops.window import Pads, Window

__all__ = ["ConvTranspose"]

X, WEIGHT, BIAS = 0, 1, 2  # operand numbers; the bias may be missing


@dataclass(frozen=True, slots=True)
class ConvTranspose(Op):
    """The gradient of a convolution: every input pixel adds a kernel to the result.

    Inputs are ``x [N, IC, H, W]``, ``w [IC, OC / groups, KH, KW]`` and, if there is one,
    ``b [OC]``; a line has one spatial axis instead of H and W, a volume three. Along each the
    result has ``(length - 1) * stride + dilation * (kernel - 1) + 1 - pads + output_pad``
    elements.

    Parameters
    ----------
    stride, dilation
        Steps along the spatial axes of the result; the defaults are those of an image.
    pad
        Elements cut off before H, before W, after H and after W.
    output_pad
        Elements added after each spatial axis.
    groups
        Equal parts of the channels, each with its own kernels.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
    """

    onnx_name: ClassVar[str] = "ConvTranspose"
    operands: ClassVar[int] = 3
    stride: tuple[int, ...] = (1, 1)
    pad: Pads = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)
    output_pad: tuple[int, ...] = (0, 0)
    groups: int = 1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a, (x, w) = node.attributes, node.inputs[:2]
        if x.dims is None or len(x.dims) < 3 or not w.is_static or w.rank != len(x.dims):
            return None
        ones = (1,) * (w.rank - 2)
        window = Window(
            w.ints[2:], tuple(a.get("strides", ones)), tuple(a.get("dilations", ones))
        )
        extra = tuple(a.get("output_padding", (0,) * len(ones)))
        mode = a.get("auto_pad", "NOTSET") or "NOTSET"
        wanted = a.get("output_shape")
        if wanted is None and mode in ("NOTSET", "VALID"):
            pads = tuple(a.get("pads", ())) if mode == "NOTSET" else ()
            pads = pads or (0,) * (2 * len(ones))
        elif not all(isinstance(d, int) for d in x.shape[2:]):
            return None
        else:
            size = tuple(int(d) for d in x.shape[2:])
            if wanted is None:
                wanted = [d * s for d, s in zip(size, window.stride, strict=True)]
            pads, extra = _pads_for(window, size, extra, wanted[-len(ones) :], mode)
        if min(pads) < 0:
            return None
        return cls(window.stride, pads, window.dilation, extra, a.get("group", 1))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {
            "strides": self.stride,
            "pads": self.pad,
            "dilations": self.dilation,
            "output_padding": self.output_pad,
            "group": self.groups,
            "kernel_shape": inputs[WEIGHT].shape[2:],
        }
        return OnnxForm("ConvTranspose", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, w = inputs[:2]
        same_dtype(*inputs)
        axes = len(self.stride)
        if x.rank != 2 + axes or w.rank != 2 + axes or x.shape[1] != w.shape[0]:
            raise ValueError(f"x is {x}, w is {w}; expected [N, IC, H, W] and [IC, OC, KH, KW]")
        ic, oc = w.ints[0], w.ints[1] * self.groups
        if self.groups < 1 or ic % self.groups:
            raise ValueError(f"{ic} channels do not divide into {self.groups} groups")
        if len(inputs) > BIAS and inputs[BIAS].dims != (oc,):
            raise ValueError(f"the bias is {inputs[BIAS]}, w is {w}")
        size: list[Dim] = []
        span = Window(w.ints[2:], self.stride, self.dilation).span
        for i, length in enumerate(x.shape[2:]):
            extra = span[i] - self.pad[i] - self.pad[i + axes] + self.output_pad[i]
            if isinstance(length, str):
                size.append(UNKNOWN)
                continue
            size.append((length - 1) * self.stride[i] + extra)
            if (length - 1) * self.stride[i] + extra < 1:
                raise ValueError(f"x is {x}, of which pads {self.pad} leave nothing")
        return (x.with_shape((x.shape[0], oc, *size)),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[X].size * math.prod(inputs[WEIGHT].ints[1:])

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        if self.groups > 1:
            return ()
        bias = (Tie((WEIGHT, 1), (BIAS, 0)),) if len(inputs) > BIAS else ()
        return (Tie((X, 1), (WEIGHT, 0)), Tie((WEIGHT, 1), (len(inputs), 1)), *bias)

    @override
    def quant_rule(self) -> QuantRule | None:
        if len(self.stride) > 2 or self.groups > 1:
            return None  # TFLite has no integer kernel for volumes, nor for groups
        return QuantRule((Role.ACTIVATION, Role.WEIGHT, Role.BIAS), channel=1)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w, b = _f32(rng, 1, 3, 4, 5), _f32(rng, 3, 2, 3, 2), _f32(rng, 2)
        yield Example(cls(), (x, w))
        yield Example(cls((2, 2)), (x, _f32(rng, 3, 2, 2, 2), b))
        yield Example(cls((2, 2), (1, 0, 2, 1)), (x, w, b))
        yield Example(cls((2, 2), (1, 1, 1, 1), output_pad=(1, 1)), (x, _f32(rng, 3, 2, 3, 3)))
        yield Example(cls(dilation=(2, 1)), (x, w, b))
        yield Example(cls((3, 2), groups=3), (x, _f32(rng, 3, 2, 2, 4), _f32(rng, 6)))
        yield Example(cls(groups=2), (_f32(rng, 1, 4, 3, 3), _f32(rng, 4, 1, 2, 2), b))
        line = cls((2,), (1, 0), (2,), (1,))
        yield Example(line, (_f32(rng, 2, 3, 5), _f32(rng, 3, 2, 3), b))
        volume = cls((2, 1, 1), (0, 1, 0, 1, 0, 1), (1, 1, 1), (0, 0, 0))
        yield Example(volume, (_f32(rng, 1, 3, 3, 2, 4), _f32(rng, 3, 2, 2, 3, 2), b))


def _pads_for(
    window: Window,
    size: tuple[int, ...],
    extra: tuple[int, ...],
    out: Sequence[int],
    mode: str,
) -> tuple[Pads, tuple[int, ...]]:
    """Return pads and output padding that give a result of lengths `out`.

    The odd element is cut off at the end with SAME_UPPER, in front otherwise. A result longer
    than everything that kernels reach is padded at its end.
    """
    before, after, added = [], [], []
    for i, length in enumerate(size):
        total = window.stride[i] * (length - 1) + extra[i] + window.span[i] - out[i]
        small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
        added.append(extra[i] + max(-total, 0))
    return (*before, *after), tuple(added)


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
