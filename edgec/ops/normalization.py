"""Normalisation: with statistics fixed at export or taken from the data, and over classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import (
    Array,
    Example,
    Fixed,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    Role,
    TensorType,
    Tie,
)
from edgec.ops.arguments import axis_of

__all__ = [
    "LRN",
    "BatchNorm",
    "GroupNorm",
    "Hardmax",
    "InstanceNorm",
    "LayerNorm",
    "LogSoftmax",
    "LpNorm",
    "MeanVarianceNorm",
    "OverClasses",
    "RMSNorm",
    "Softmax",
]


@dataclass(frozen=True, slots=True)
class BatchNorm(Op):
    """``y = gamma * (x - mean) / sqrt(var + epsilon) + beta``, per channel (axis 1).

    Inputs are ``x [N, C, ...]``, then ``gamma``, ``beta``, ``mean`` and ``var``, each ``[C]``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
    """

    onnx_name: ClassVar[str] = "BatchNormalization"
    operands: ClassVar[int] = 5
    epsilon: float = 1e-5

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        if node.attributes.get("training_mode", 0) or node.outputs > 1:
            return None
        if not node.attributes.get("spatial", 1) or node.inputs[0].dims is None:
            return None
        return cls(node.attributes.get("epsilon", 1e-5))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("BatchNormalization", {"epsilon": self.epsilon})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, *params = inputs
        if any(p.dims != x.shape[1:2] for p in params):
            raise ValueError(f"x is {x}, but the parameters are {', '.join(map(str, params))}")
        return (x,)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return outputs[0].size

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (Tie((0, 1), (5, 1)), *(Tie((0, 1), (i, 0)) for i in range(1, 5)))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((1, 3, 4, 4)).astype(np.float32)
        gamma, beta, mean = rng.standard_normal((3, 3)).astype(np.float32)
        var = rng.uniform(0.1, 2, 3).astype(np.float32)
        yield Example(cls(), (x, gamma, beta, mean, var))
        yield Example(cls(epsilon=0.5), (x, gamma, beta, mean, var))


@dataclass(frozen=True, slots=True)
class InstanceNorm(Op):
    """``y = gamma * (x - mean) / sqrt(var + epsilon) + beta`` with each image's own statistics.

    Inputs are ``x [N, C, ...]``, ``gamma [C]`` and ``beta [C]``. Mean and variance are taken
    over all axes but the first two.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html
    """

    onnx_name: ClassVar[str] = "InstanceNormalization"
    operands: ClassVar[int] = 3
    epsilon: float = 1e-5

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return cls(node.attributes.get("epsilon", 1e-5))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("InstanceNormalization", {"epsilon": self.epsilon})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, *params = inputs
        if x.rank < 3 or any(p.dims != x.shape[1:2] for p in params):
            raise ValueError(f"x is {x}, but the parameters are {', '.join(map(str, params))}")
        return (x,)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        return (
            Tie((0, 0), (3, 0)),
            Tie((0, 1), (3, 1)),
            *(Tie((0, 1), (i, 0)) for i in (1, 2)),
        )

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        gamma, beta = _f32(rng, 3), _f32(rng, 3)
        yield Example(cls(), (_f32(rng, 2, 3, 4, 4), gamma, beta))
        yield Example(cls(0.5), (_f32(rng, 1, 3, 5), gamma, beta))


@dataclass(frozen=True, slots=True)
class GroupNorm(Op):
    """`InstanceNorm` with the statistics of groups of neighbouring channels.

    Inputs are ``x [N, C, ...]``, ``gamma [C]`` and ``beta [C]``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GroupNormalization.html; before opset 21 it had one
    factor for each group instead, which stays opaque.
    """

    onnx_name: ClassVar[str] = "GroupNormalization"
    operands: ClassVar[int] = 3
    since: ClassVar[int] = 21
    groups: int = 1
    epsilon: float = 1e-5

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        if node.opset < 21 or a.get("stash_type", 1) != 1 or node.inputs[0].rank < 3:
            return None
        return cls(a["num_groups"], a.get("epsilon", 1e-5))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {"num_groups": self.groups, "epsilon": self.epsilon}
        return OnnxForm("GroupNormalization", attributes)

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, *params = inputs
        channels = x.shape[1] if x.rank > 2 else "?"
        if any(p.dims != (channels,) for p in params):
            raise ValueError(f"x is {x}, but the parameters are {', '.join(map(str, params))}")
        if isinstance(channels, str) or channels % self.groups:
            raise ValueError(f"x is {x}, whose channels do not make {self.groups} groups")
        return (x,)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        gamma, beta = _f32(rng, 6), _f32(rng, 6)
        yield Example(cls(), (_f32(rng, 2, 6, 4, 4), gamma, beta))
        yield Example(cls(3), (_f32(rng, 1, 6, 4, 3), gamma, beta))
        yield Example(cls(2, 0.5), (_f32(rng, 1, 6, 5), gamma, beta))


@dataclass(frozen=True, slots=True)
class _Trailing(Op):
    """What normalisations over the last axes share: from `axis` (counted from the end) on."""

    axis: int = -1
    epsilon: float = 1e-5

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x, a = node.inputs[0], node.attributes
        if a.get("stash_type", 1) != 1 or node.outputs > 1:
            return None
        axis = axis_of(a.get("axis", -1), x.rank) - x.rank
        given = [p for i, p in enumerate(node.inputs) if i and node.has(i)]
        if any(p.dims != x.shape[axis:] for p in given):
            return None  # parameters that broadcast
        return cls(axis, a.get("epsilon", 1e-5))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm(self.onnx_name, {"axis": self.axis, "epsilon": self.epsilon})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        x, *params = inputs
        if not -x.rank <= self.axis < 0:
            raise ValueError(f"x is {x} and has no axis {self.axis}")
        if any(p.dims != x.shape[self.axis :] for p in params):
            raise ValueError(f"x is {x}, but the parameters are {', '.join(map(str, params))}")
        return (x,)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        kept = range(inputs[0].rank + self.axis)
        return tuple(Tie((0, axis), (len(inputs), axis)) for axis in kept)


@dataclass(frozen=True, slots=True)
class LayerNorm(_Trailing):
    """``y = gamma * (x - mean) / sqrt(var + epsilon) + beta`` over the axes from `axis` on.

    Inputs are ``x``, ``gamma`` and, optionally, ``beta``, of the shape of those axes.
    A node whose mean and deviation are read as well stays opaque.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__LayerNormalization.html
    """

    onnx_name: ClassVar[str] = "LayerNormalization"
    operands: ClassVar[int] = 3

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 3, 8), _f32(rng, 8), _f32(rng, 8)))
        yield Example(cls(-2, 0.5), (_f32(rng, 2, 3, 4), _f32(rng, 3, 4), _f32(rng, 3, 4)))
        yield Example(cls(-3), (_f32(rng, 1, 3, 4, 5), _f32(rng, 3, 4, 5)))


@dataclass(frozen=True, slots=True)
class RMSNorm(_Trailing):
    """``y = gamma * x / sqrt(mean(x^2) + epsilon)`` over the axes from `axis` on.

    Inputs are ``x`` and ``gamma``, of the shape of those axes.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__RMSNormalization.html
    """

    onnx_name: ClassVar[str] = "RMSNormalization"
    operands: ClassVar[int] = 2
    since: ClassVar[int] = 23

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 3, 8), _f32(rng, 8)))
        yield Example(cls(-2, 0.5), (_f32(rng, 2, 3, 4), _f32(rng, 3, 4)))


@dataclass(frozen=True, slots=True)
class MeanVarianceNorm(Op):
    """``y = (x - mean) / (sqrt(var) + 1e-9)`` over `axes`.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html
    """

    onnx_name: ClassVar[str] = "MeanVarianceNormalization"
    axes: tuple[int, ...] = (0, 2, 3)

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        rank = node.inputs[0].rank
        listed = node.attributes.get("axes", (0, 2, 3))
        return cls(tuple(sorted(axis_of(axis, rank) for axis in listed)))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("MeanVarianceNormalization", {"axes": self.axes})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if any(axis >= x.rank for axis in self.axes):
            raise ValueError(f"x is {x}, which lacks one of the axes {list(self.axes)}")
        return (x,)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        kept = (axis for axis in range(inputs[0].rank) if axis not in self.axes)
        return tuple(Tie((0, axis), (1, axis)) for axis in kept)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 2, 3, 4, 5),))
        yield Example(cls((1, 2)), (_f32(rng, 2, 3, 4),))


@dataclass(frozen=True, slots=True)
class LpNorm(Op):
    """``y = x / (sum |x|^p)^(1/p)`` along `axis` (counted from the end); `p` is 1 or 2.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__LpNormalization.html
    """

    onnx_name: ClassVar[str] = "LpNormalization"
    axis: int = -1
    p: int = 2

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        rank = node.inputs[0].rank
        axis = axis_of(node.attributes.get("axis", -1), rank) - rank
        return cls(axis, node.attributes.get("p", 2))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("LpNormalization", {"axis": self.axis, "p": self.p})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if not -x.rank <= self.axis < 0:
            raise ValueError(f"x is {x} and has no axis {self.axis}")
        return (x,)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 2, 3, 4),))
        # Without negative numbers: onnx's reference does not take their magnitude.
        yield Example(cls(-2, 1), (np.abs(_f32(rng, 1, 3, 4)),))
        yield Example(cls(-3), (_f32(rng, 1, 3, 4, 4),))


@dataclass(frozen=True, slots=True)
class LRN(Op):
    """``y = x / (bias + alpha / size * sum(x^2))^beta``, summed over neighbouring channels.

    The window is centred; one of even `size`, which no runtime takes, stays opaque.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__LRN.html
    """

    onnx_name: ClassVar[str] = "LRN"
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        if a["size"] % 2 == 0:
            return None
        names = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
        return cls(a["size"], **{name: a.get(name, usual) for name, usual in names.items()})

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        names = ("size", "alpha", "beta", "bias")
        return OnnxForm("LRN", {name: getattr(self, name) for name in names})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank < 2:
            raise ValueError(f"x is {x} and has no channels")
        return (x,)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = 3 * _f32(rng, 5, 5, 2, 3)  # onnx's reference takes the batch for the channels
        yield Example(cls(), (x,))
        yield Example(cls(3, 0.5, 0.5, 2.0), (x,))
        yield Example(cls(1, 0.5, beta=0.9), (x,))


@dataclass(frozen=True, slots=True)
class OverClasses(Op):
    """What functions of all values along `axis` share; it is counted from the end."""

    axis: int = -1

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        x = node.inputs[0]
        if x.dims is None:
            return None
        axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
        axis = axis - x.rank if axis >= 0 else axis
        if node.opset < 13 and any(d != 1 for d in x.shape[x.rank + axis + 1 :]):
            return None  # before opset 13 all axes from `axis` on were one
        return cls(axis)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm(self.onnx_name, {"axis": self.axis})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if not -x.rank <= self.axis < 0:
            raise ValueError(f"x is {x} and has no axis {self.axis}")
        return (x,)

    @override
    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        rank = inputs[0].rank
        return tuple(Tie((0, a), (1, a)) for a in range(rank) if a != rank + self.axis)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls(), (_f32(rng, 1, 7),))
        yield Example(cls(-2), (_f32(rng, 1, 3, 4),))


@dataclass(frozen=True, slots=True)
class Softmax(OverClasses):
    """``y = exp(x) / sum(exp(x))``, summed along `axis`.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Softmax.html
    """

    onnx_name: ClassVar[str] = "Softmax"

    @override
    def quant_rule(self) -> QuantRule:
        return QuantRule((Role.ACTIVATION,), Fixed(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class LogSoftmax(OverClasses):
    """``y = x - ln(sum(exp(x)))``, summed along `axis`."""

    onnx_name: ClassVar[str] = "LogSoftmax"


@dataclass(frozen=True, slots=True)
class Hardmax(OverClasses):
    """1 at the first largest value along `axis`, 0 elsewhere."""

    onnx_name: ClassVar[str] = "Hardmax"


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)
