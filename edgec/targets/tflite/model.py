"""A TFLite model before it is written: tensors, operators, interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgec.ir import Array, DType, QuantParams

__all__ = ["Model", "Operator", "Tensor", "is_wide"]


@dataclass(slots=True)
class Tensor:
    """One tensor, in the order it is stored in.

    Parameters
    ----------
    shape
        Lengths of its axes; -1 for one that is only known when the model runs.
    data
        Contents of a constant; ``None`` for what is computed or fed.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    data: Array | None = None
    quant: QuantParams | None = None


def is_wide(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers on a grid of 16 bits."""
    return tensor.dtype is DType.INT16 and tensor.quant is not None


@dataclass(slots=True)
class Operator:
    """One builtin operator.

    Parameters
    ----------
    code
        Name of the builtin, as in ``BuiltinOperator``.
    options
        Name of the options table without ``Options``, and its fields; empty where it has none.
    layer
        The user's layer, for messages.
    """

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[str, Mapping[str, Any]] = ("", {})
    version: int = 1
    layer: str = ""


@dataclass(slots=True)
class Model:
    """One subgraph with a signature.

    Parameters
    ----------
    inputs, outputs
        Pairs of the name in the signature and the number of the tensor.
    """

    name: str
    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[tuple[str, int]] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)

    def without_dead(self) -> Model:
        """Return the model without operators and tensors that no output needs."""
        live = {index for _, index in self.outputs}
        kept: list[Operator] = []
        for op in reversed(self.operators):
            if live.intersection(op.outputs):
                kept.append(op)
                live.update(i for i in (*op.inputs, *op.outputs) if i >= 0)
        live.update(index for _, index in self.inputs)
        number = {old: new for new, old in enumerate(sorted(live))}
        number[-1] = -1
        operators = [
            Operator(
                op.code,
                tuple(number[i] for i in op.inputs),
                tuple(number[i] for i in op.outputs),
                op.options,
                op.version,
                op.layer,
            )
            for op in reversed(kept)
        ]
        return Model(
            self.name,
            [self.tensors[old] for old in sorted(live)],
            operators,
            [(name, number[i]) for name, i in self.inputs],
            [(name, number[i]) for name, i in self.outputs],
        )
