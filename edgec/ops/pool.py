"""Pooling over lines, images and volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    Array,
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
from edgec.ops.window import Pads, Window, explicit_pads

__all__ = [
    "AveragePool",
    "DilatedAveragePool",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "LpPool",
    "MaxPool",
    "Pool",
]


@dataclass(frozen=True, slots=True)
class Pool(Op):
    """What the windowed pools share: ``x [N, C, H, W]`` to ``[N, C, OH, OW]``.

    A line has one spatial axis instead of H and W, a volume three.

    Parameters
    ----------
    kernel, stride, dilation
        Of the window, along the spatial axes; the defaults are those of an image.
    pad
        Padding before H, before W, after H and after W; not counted unless a class says so.
    ceil_mode
        Whether a last window may hang over the end.
    """

    kernel: tuple[int, ...] = (1, 1)
    stride: tuple[int, ...] = (1, 1)
    pad: Pads = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)
    ceil_mode: bool = False

    @property
    def window(self) -> Window:
        """The window that slides over the input."""
        return Window(self.kernel, self.stride, self.dilation)

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x, a = node.inputs[0], node.attributes
        kernel = tuple(a["kernel_shape"])
        if x.dims is None or len(x.dims) != 2 + len(kernel) or node.outputs > 1:
            return None
        ones = (1,) * len(kernel)
        stride, dilation = tuple(a.get("strides", ones)), tuple(a.get("dilations", ones))
        ceil = bool(a.get("ceil_mode", 0))
        pads = explicit_pads(node, Window(kernel, stride, dilation), x.shape[2:])
        if pads is None or any(p >= k for p, k in zip(pads, kernel * 2, strict=True)):
            return None  # ONNX Runtime itself takes smaller pads only
        extra = cls._extra(a, pads)
        return None if extra is None else cls(kernel, stride, pads, dilation, ceil, **extra)

    @classmethod
    def _extra(cls, attributes: Any, pads: Pads) -> dict[str, Any] | None:
        """Return the fields of a subclass, or ``None`` if it has no form in opset `OPSET`."""
        del attributes, pads
        return {}

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes: dict[str, Any] = {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": self.pad,
            "ceil_mode": int(self.ceil_mode),
        }
        if any(d != 1 for d in self.dilation):
            attributes["dilations"] = self.dilation
        return OnnxForm(self.onnx_name, attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank != 2 + len(self.kernel):
            raise ValueError(f"x is {x}, but must have {2 + len(self.kernel)} axes")
        n, c, *size = x.shape
        out = self.window.out(size, self.pad, ceil=self.ceil_mode)
        return (x.with_shape((n, c, *out)),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (Tie((0, 1), (1, 1)),)


@dataclass(frozen=True, slots=True)
class MaxPool(Pool):
    """The largest value under the window; padding never wins.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__MaxPool.html
    """

    onnx_name: ClassVar[str] = "MaxPool"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), SameAsInput())

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 3, 7, 8)
        yield Example(cls((2, 2), (2, 2)), (x,))
        yield Example(cls((3, 3), (2, 2), (1, 1, 1, 1)), (x,))
        yield Example(cls((3, 3), (2, 2), (0, 0, 1, 1)), (x,))
        yield Example(cls((3, 2), (2, 3), ceil_mode=True), (x,))
        yield Example(cls((2, 2), dilation=(2, 2)), (x,))
        yield Example(cls((3,), (2,), (1, 1), (1,)), (x[0],))
        yield Example(
            cls((2, 2, 1), (1, 2, 3), (0,) * 6, (1,) * 3), (_f32(rng, 1, 2, 3, 4, 5),)
        )


@dataclass(frozen=True, slots=True)
class AveragePool(Pool):
    """The mean of the values under the window.

    Parameters
    ----------
    count_include_pad
        Whether padding counts as zeros.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__AveragePool.html
    """

    onnx_name: ClassVar[str] = "AveragePool"
    count_include_pad: bool = False

    @classmethod
    @override
    def _extra(cls, attributes: Any, pads: Pads) -> dict[str, Any] | None:
        if any(d != 1 for d in attributes.get("dilations", ())):
            return None  # AveragePool has dilations only from opset 19 on
        # Without pads there is nothing to count; kernels disagree about windows in ceil mode.
        return {"count_include_pad": any(pads) and bool(attributes.get("count_include_pad"))}

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        form = Pool.to_onnx(self, inputs)
        included = int(self.count_include_pad)
        return OnnxForm(form.op_type, {**form.attributes, "count_include_pad": included})

    @override
    def quant_rule(self) -> QuantRule | None:
        if len(self.kernel) > 2:
            return None  # TFLite has no integer kernel for volumes
        if self.count_include_pad and self.ceil_mode:
            # ONNX Runtime's integer kernel counts what hangs over the end, its float one not.
            return None
        return QuantRule((Role.ACTIVATION,), SameAsInput())

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 3, 7, 8)
        yield Example(cls((2, 2), (2, 2)), (x,))
        yield Example(cls((3, 3), (2, 2), (1, 1, 1, 1)), (x,))
        yield Example(cls((3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True), (x,))
        yield Example(cls((3, 2), (2, 3), ceil_mode=True), (x,))
        yield Example(cls((7, 8)), (x,))
        yield Example(cls((3,), (2,), (1, 1), (1,)), (x[0],))
        yield Example(
            cls((2, 2, 1), (1, 2, 3), (0,) * 6, (1,) * 3), (_f32(rng, 1, 2, 3, 4, 5),)
        )


@dataclass(frozen=True, slots=True)
class DilatedAveragePool(AveragePool):
    """`AveragePool` with gaps in its window, which ONNX has from opset 19 on."""

    since: ClassVar[int] = 19

    @classmethod
    @override
    def _extra(cls, attributes: Any, pads: Pads) -> dict[str, Any] | None:
        if all(d == 1 for d in attributes.get("dilations", ())):
            return None
        return {"count_include_pad": any(pads) and bool(attributes.get("count_include_pad"))}

    @override
    def quant_rule(self) -> QuantRule | None:
        return None

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 3, 7, 8)
        yield Example(cls((2, 2), (1, 2), dilation=(2, 3)), (x,))
        yield Example(cls((3, 3), (2, 2), (1, 1, 2, 0), (2, 1), count_include_pad=True), (x,))
        yield Example(cls((3, 2), (2, 3), (1, 1, 0, 0), (1, 2), ceil_mode=True), (x,))
        yield Example(cls((2,), (1,), (0, 1), (3,)), (x[0],))


@dataclass(frozen=True, slots=True)
class LpPool(Pool):
    """The p-norm of the values under the window: ``sum(abs(x) ** p) ** (1 / p)``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__LpPool.html
    """

    onnx_name: ClassVar[str] = "LpPool"
    p: int = 2

    @classmethod
    @override
    def _extra(cls, attributes: Any, pads: Pads) -> dict[str, Any] | None:
        return {"p": attributes.get("p", 2)}

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        form = Pool.to_onnx(self, inputs)
        return OnnxForm(form.op_type, {**form.attributes, "p": self.p})

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 3, 7, 8)
        yield Example(cls((2, 2), (2, 2)), (x,))
        yield Example(cls((3, 3), (2, 2), (1, 1, 1, 0), p=1), (x,))
        yield Example(cls((3, 2), (2, 3), ceil_mode=True, p=3), (x,))
        yield Example(cls((2, 2), dilation=(2, 3)), (x,))
        yield Example(cls((3,), (2,), (1, 1), (1,)), (x[0],))
        yield Example(
            cls((2, 2, 1), (1, 2, 3), (0,) * 6, (1,) * 3), (_f32(rng, 1, 2, 3, 4, 5),)
        )


@dataclass(frozen=True, slots=True)
class GlobalPool(Op):
    """A pool over all axes but the first two: ``[N, C, ...]`` to ``[N, C, 1, ...]``."""

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        dims = node.inputs[0].dims
        return cls() if dims is not None and len(dims) > 2 else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm(self.onnx_name)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank < 3:
            raise ValueError(f"x is {x}, but must have 3 axes or more")
        return (x.with_shape((*x.shape[:2], *(1,) * (x.rank - 2))),)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (Tie((0, 1), (1, 1)),)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 3, 4, 5),))
        yield Example(cls(), (_f32(rng, 2, 3, 4),))
        yield Example(cls(), (_f32(rng, 1, 3, 2, 2, 3),))


@dataclass(frozen=True, slots=True)
class GlobalAveragePool(GlobalPool):
    """The mean over all axes but the first two.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html
    """

    onnx_name: ClassVar[str] = "GlobalAveragePool"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,))


@dataclass(frozen=True, slots=True)
class GlobalMaxPool(GlobalPool):
    """The largest value over all axes but the first two.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html
    """

    onnx_name: ClassVar[str] = "GlobalMaxPool"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), SameAsInput())


@dataclass(frozen=True, slots=True)
class GlobalLpPool(GlobalPool):
    """The p-norm over all axes but the first two: ``sum(abs(x) ** p) ** (1 / p)``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GlobalLpPool.html
    """

    onnx_name: ClassVar[str] = "GlobalLpPool"
    p: int = 2

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        dims = node.inputs[0].dims
        return cls(node.attributes.get("p", 2)) if dims and len(dims) > 2 else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm(self.onnx_name, {"p": self.p})

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        for p in (1, 2, 3):
            yield Example(cls(p), (_f32(rng, 1, 3, 4, 5),))
        yield Example(cls(), (_f32(rng, 2, 3, 4),))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
