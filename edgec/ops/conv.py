"""Convolutions over lines, images and volumes, in the N, C, spatial axes order of ONNX."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Example, OnnxForm, OnnxNode, Op, QuantRule, Role, TensorType, Tie
from edgec.ops.activation import Activation, form
from edgec.ops.arguments import same_dtype
from edgec.ops.window import Pads, Window, explicit_pads

__all__ = ["Conv", "Convolution", "DepthwiseConv", "GroupedConv", "window_fields"]

X, WEIGHT, BIAS = 0, 1, 2  # operand numbers; the bias may be missing


@dataclass(frozen=True, slots=True)
class Convolution(Op):
    """What all convolutions share.

    Inputs are ``x [N, IC, H, W]``, ``w [OC, IC / groups, KH, KW]`` and, if there is one,
    ``b [OC]``; a line has one spatial axis instead of H and W, a volume three.

    Parameters
    ----------
    stride, dilation
        Steps along the spatial axes; the defaults are those of an image.
    pad
        Zeros added before H, before W, after H and after W: the order of ONNX ``pads``.
    activation
        Applied to the sum.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Conv.html
    """

    onnx_name: ClassVar[str] = "Conv"
    operands: ClassVar[int] = 3
    stride: tuple[int, ...] = (1, 1)
    pad: Pads = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)
    activation: Activation = Activation.NONE

    @abstractmethod
    def groups_of(self, x: TensorType, w: TensorType) -> int:
        """Return the number of groups; raise ``ValueError`` if the operands do not fit."""

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        w = inputs[WEIGHT].shape
        attributes = {
            "strides": self.stride,
            "pads": self.pad,
            "dilations": self.dilation,
            "group": self.groups_of(inputs[X], inputs[WEIGHT]),
            "kernel_shape": w[2:],
        }
        return form(self.activation, inputs[X], "Conv", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, w = inputs[:2]
        if x.rank != w.rank or x.rank != 2 + len(self.stride):
            raise ValueError(f"x is {x}, w is {w}, the strides are {self.stride}")
        same_dtype(*inputs)
        groups = self.groups_of(x, w)
        n, _, *size = x.shape
        oc = w.ints[0]
        if oc % groups:
            raise ValueError(f"{oc} output channels do not divide into {groups} groups")
        if len(inputs) > BIAS and inputs[BIAS].dims != (oc,):
            raise ValueError(f"the bias is {inputs[BIAS]}, but there are {oc} output channels")
        return (TensorType(x.dtype, (n, oc, *self.window(w).out(size, self.pad))),)

    def window(self, w: TensorType) -> Window:
        """Return the window that the kernel of these weights slides over the input."""
        return Window(w.ints[2:], self.stride, self.dilation)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size * math.prod(inputs[WEIGHT].ints[1:])

    @override
    def quant_rule(self) -> QuantRule | None:
        if len(self.stride) > 2:
            return None  # TFLite has no integer kernel for volumes
        return QuantRule((Role.ACTIVATION, Role.WEIGHT, Role.BIAS))


def window_fields(node: OnnxNode) -> dict[str, tuple[int, ...]] | None:
    """Return stride, pad and dilation of an ONNX node, or ``None`` if it has no typed form."""
    x, w = node.inputs[:2]
    if x.dims is None or len(x.dims) < 3 or not w.is_static or w.rank != len(x.dims):
        return None
    a, ones = node.attributes, (1,) * (w.rank - 2)
    window = Window(w.ints[2:], tuple(a.get("strides", ones)), tuple(a.get("dilations", ones)))
    pads = explicit_pads(node, window, x.shape[2:])
    if pads is None or min(pads) < 0:
        return None
    return {"stride": window.stride, "pad": pads, "dilation": window.dilation}


@dataclass(frozen=True, slots=True)
class Conv(Convolution):
    """Cross-correlation with a bank of kernels.

    ``y[n,o,i,j] = b[o] + sum(w[o,c,u,v] * x[n,c, i*s0 + u*d0 - top, j*s1 + v*d1 - left])``,
    summed over ``c``, ``u`` and ``v``.
    """

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        fields = window_fields(node)
        if fields is None or node.attributes.get("group", 1) != 1:
            return None
        return cls(**fields)  # type: ignore[arg-type]

    @override
    def groups_of(self, x: TensorType, w: TensorType) -> int:
        if x.shape[1] != w.shape[1]:
            raise ValueError(f"x has {x.shape[1]} channels, w expects {w.shape[1]}")
        return 1

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        bias = (Tie((WEIGHT, 0), (BIAS, 0)),) if len(inputs) > BIAS else ()
        return (Tie((X, 1), (WEIGHT, 1)), Tie((WEIGHT, 0), (len(inputs), 1)), *bias)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w, b = _f32(rng, 1, 3, 9, 8), _f32(rng, 4, 3, 3, 2), _f32(rng, 4)
        yield Example(cls(), (x, w, b))
        yield Example(cls(), (x, w))
        yield Example(cls(stride=(2, 3), pad=(1, 0, 2, 1)), (x, w, b))
        yield Example(cls(pad=(1, 0, 2, 1), dilation=(2, 1)), (x, w, b))
        yield Example(cls(dilation=(4, 7)), (x, w, b))  # one window exactly
        yield Example(cls(stride=(2, 2), pad=(0, 0, 1, 1)), (_f32(rng, 1, 3, 8, 8), w, b))
        for activation in Activation:
            yield Example(cls(activation=activation), (4 * x, w, b))
        line = cls((2,), (1, 0), (3,), Activation.RELU)
        yield Example(line, (_f32(rng, 2, 3, 9), _f32(rng, 4, 3, 2), b))
        volume = cls((1, 2, 1), (1, 0, 0, 0, 1, 2), (1, 1, 2))
        yield Example(volume, (_f32(rng, 1, 3, 4, 5, 6), _f32(rng, 4, 3, 2, 3, 2), b))


@dataclass(frozen=True, slots=True)
class DepthwiseConv(Convolution):
    """A convolution of each channel with its own kernels: ``w`` is ``[C * M, 1, KH, KW]``.

    Output channel ``o`` is made from input channel ``o // M``; ``M`` is the multiplier.
    """

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        fields = window_fields(node)
        group = node.attributes.get("group", 1)
        if fields is None or group == 1 or node.inputs[X].shape[1] != group:
            return None
        return cls(**fields)  # type: ignore[arg-type]

    @override
    def groups_of(self, x: TensorType, w: TensorType) -> int:
        channels = x.shape[1]
        if not isinstance(channels, int) or w.shape[1] != 1:
            raise ValueError(f"x has {channels} channels, w is {w}")
        return channels

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        repeat = inputs[WEIGHT].ints[0] // inputs[X].ints[1]
        ends = [(WEIGHT, 0), (len(inputs), 1)] + ([(BIAS, 0)] if len(inputs) > BIAS else [])
        return tuple(Tie((X, 1), end, repeat=repeat) for end in ends)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w, b = _f32(rng, 1, 3, 7, 7), _f32(rng, 3, 1, 3, 3), _f32(rng, 3)
        yield Example(cls(pad=(1, 1, 1, 1)), (x, w, b))
        yield Example(cls(stride=(2, 2), activation=Activation.RELU6), (x, w))
        yield Example(cls(dilation=(2, 2)), (x, _f32(rng, 6, 1, 3, 3), _f32(rng, 6)))
        line = cls((1,), (1, 1), (2,))
        yield Example(line, (_f32(rng, 2, 3, 7), _f32(rng, 6, 1, 3), _f32(rng, 6)))


@dataclass(frozen=True, slots=True)
class GroupedConv(Convolution):
    """A convolution of `groups` equal parts of the channels, each with its own kernels."""

    groups: int = 1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        fields = window_fields(node)
        if fields is None:
            return None
        return cls(**fields, groups=node.attributes.get("group", 1))  # type: ignore[arg-type]

    @override
    def groups_of(self, x: TensorType, w: TensorType) -> int:
        inner = w.ints[1]
        if x.shape[1] != self.groups * inner:
            raise ValueError(f"x has {x.shape[1]} channels, w expects {self.groups} * {inner}")
        return self.groups

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x, w, b = _f32(rng, 1, 4, 5, 5), _f32(rng, 6, 2, 3, 3), _f32(rng, 6)
        yield Example(cls(pad=(1, 1, 1, 1), groups=2), (x, w, b))
        x, w = _f32(rng, 1, 6, 5, 5), _f32(rng, 3, 2, 2, 3)
        yield Example(
            cls((2, 1), dilation=(1, 2), activation=Activation.RELU, groups=3), (x, w)
        )
        x, w = _f32(rng, 1, 4, 3, 4, 3), _f32(rng, 6, 2, 2, 2, 3)
        yield Example(cls((1,) * 3, (0,) * 6, (1,) * 3, groups=2), (x, w, b))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
