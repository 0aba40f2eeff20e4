"""The contract of an operator: everything true of it on every target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from edgec.ir.types import TensorType

__all__ = [
    "OPSET",
    "Array",
    "Example",
    "Fixed",
    "Measured",
    "OnnxForm",
    "OnnxNode",
    "Op",
    "QuantRule",
    "Role",
    "SameAsInput",
    "Tie",
]

Array = NDArray[Any]

OPSET = 18
"""The ONNX opset that typed operators are written in.

The lowest in which reductions, `Pad` and `Split` have the form of today's standard, so that
old runtimes still read what edgec writes.
"""


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """An ONNX node as plain Python, so that operators never see a protobuf.

    Parameters
    ----------
    opset
        Version of the operator set that gives the node its meaning.
    inputs, constants
        Type of each input, and its array where it is constant. An absent input has element
        type ``UNDEFINED`` and no array.
    outputs
        Number of leading outputs up to the last that something may read.
    listed
        Number of outputs, read or not.
    """

    op_type: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[TensorType, ...]
    constants: tuple[Array | None, ...]
    outputs: int = 1
    listed: int = 1

    def constant(self, index: int) -> Array | None:
        """Return the array of an input, or ``None`` if it is absent or computed."""
        return self.constants[index] if index < len(self.constants) else None

    def has(self, index: int) -> bool:
        """Whether an input is given, constant or not."""
        return index < len(self.inputs) and self.inputs[index].dtype.name != "UNDEFINED"


@dataclass(frozen=True, slots=True)
class OnnxForm:
    """How an operator is written in ONNX.

    Parameters
    ----------
    constants
        Inputs that follow the operands of the IR; ``None`` for an absent one.
    then
        A second node that takes the first one's result, such as a fused activation.
    """

    op_type: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: tuple[Array | None, ...] = ()
    then: OnnxForm | None = None


@dataclass(frozen=True, slots=True)
class Tie:
    """Two axes whose indices must be kept or removed together.

    Index ``i`` of the left axis goes with indices ``offset + i * repeat`` up to
    ``offset + (i + 1) * repeat`` (excluded) of the right axis.

    Parameters
    ----------
    left, right
        ``(operand, axis)``; operands count the inputs first, then the outputs.
    """

    left: tuple[int, int]
    right: tuple[int, int]
    offset: int = 0
    repeat: int = 1


class Role(Enum):
    """What an operand is to quantization."""

    ACTIVATION = "activation"
    """Data: per tensor, asymmetric; a constant is quantized by its own range."""
    WEIGHT = "weight"
    """Constant, symmetric, with a scale for each output channel."""
    BIAS = "bias"
    """Constant, int32, with the product of the scales of operands 0 and 1."""
    INDEX = "index"
    """Positions, lengths or conditions: no data, kept as they are."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The output's range is what calibration saw."""


@dataclass(frozen=True, slots=True)
class SameAsInput:
    """The output has the quantization of the inputs, which must agree among themselves."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The output's range is known from the operator: ``[low, high)`` in 256 steps of 8 bits."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class QuantRule:
    """How an operator is computed on integers.

    Parameters
    ----------
    inputs
        One role an operand; the last one stands for all further operands.
    output
        Where the quantization of the result comes from.
    channel
        The axis of weights that has the output channels, each with a scale.
    """

    inputs: tuple[Role, ...]
    output: Measured | SameAsInput | Fixed = field(default_factory=Measured)
    channel: int = 0

    def role(self, operand: int) -> Role:
        """Return the role of an operand by its number."""
        return self.inputs[min(operand, len(self.inputs) - 1)]


@dataclass(frozen=True, slots=True)
class Example:
    """One small application of an operator, for the conformance tests.

    The first array is fed when the example runs, the others are constants of the graph.

    Parameters
    ----------
    absent
        Positions of optional operands that are not given, among all operands.
    """

    op: Op
    inputs: tuple[Array, ...]
    absent: tuple[int, ...] = ()

    @property
    def operands(self) -> tuple[Array | None, ...]:
        """The arrays by position; ``None`` where an operand is absent."""
        given = iter(self.inputs)
        count = len(self.inputs) + len(self.absent)
        return tuple(None if i in self.absent else next(given) for i in range(count))


@dataclass(frozen=True, slots=True)
class Op(ABC):
    """An operator with its attributes, as one immutable value.

    Subclasses are frozen dataclasses; their fields are the attributes that no operand's
    shape already tells. Small constant inputs of ONNX (axes, pads, a target shape) are
    fields too; a node where they are computed stays an `Opaque`.

    Attributes
    ----------
    onnx_name
        The operator's name in ONNX's default domain.
    operands
        How many leading ONNX inputs are operands here; `from_onnx` turned the rest into fields.
    since
        The lowest opset in which its ONNX form exists.
    """

    onnx_name: ClassVar[str]
    operands: ClassVar[int] = 1
    since: ClassVar[int] = OPSET

    @classmethod
    @abstractmethod
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        """Return the operator for an ONNX node of any opset since 7, or ``None``.

        ``None`` means that this form has no typed equivalent; the node is kept as it is.
        """

    @abstractmethod
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        """Return the ONNX form in opset :data:`OPSET` for operands of these types."""

    def opset_for(self, inputs: Sequence[TensorType]) -> int:
        """Return the lowest opset whose form takes operands of these types."""
        del inputs
        return self.since

    @abstractmethod
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Return the output types, or raise ``ValueError`` if the inputs do not fit."""

    def infer_node(
        self, inputs: Sequence[TensorType], constants: Sequence[Array | None]
    ) -> tuple[TensorType, ...]:
        """Like `infer`, for an operator whose output shape depends on constant operands."""
        del constants
        return self.infer(*inputs)

    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Multiply-accumulates of one evaluation; additions alone count as none."""
        del inputs, outputs
        return 0

    def ties(
        self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Axes that must be pruned together; an axis in no tie of its node cannot be pruned."""
        del inputs, outputs
        return ()

    def quant_rule(self) -> QuantRule | None:
        """Return how the operator is quantized, or ``None`` if it stays in float."""
        return None

    @classmethod
    @abstractmethod
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        """Small cases that cover every attribute and every branch of `infer`."""

    def __str__(self) -> str:
        changed = [
            f"{f.name}={_short(getattr(self, f.name))}"
            for f in fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


def _short(value: object) -> str:
    return str(value.value) if isinstance(value, Enum) else repr(value)
