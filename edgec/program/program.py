"""A model as microcontrollers run it: operators in their order, shapes known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgec.program.operators import Operator
from edgec.program.tensors import Tensor

__all__ = ["Layer", "Program", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One operator at its place.

    Parameters
    ----------
    inputs, outputs
        Numbers of tensors; -1 for an operand that is left out.
    layer
        The user's name for it.
    """

    op: Operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    layer: str


@dataclass(frozen=True, slots=True)
class Layer:
    """A step with its tensors, as kernels look at it.

    Parameters
    ----------
    inputs
        ``None`` for an operand that is left out.
    """

    op: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    name: str

    def input(self, k: int) -> Tensor:
        """Return an operand that has to be there.

        Raises
        ------
        ValueError
            If it is left out.
        """
        found = self.inputs[k] if k < len(self.inputs) else None
        if found is None:
            raise ValueError(f"{self.name} has no operand {k}")
        return found

    @property
    def output(self) -> Tensor:
        """The first result."""
        return self.outputs[0]


@dataclass(frozen=True, slots=True)
class Program:
    """What a ``.tflite`` file says, checked and typed.

    Semantics are those of TFLite Micro's reference kernels: integers are rounded twice.

    Parameters
    ----------
    steps
        In the order they run.
    inputs, outputs
        Numbers of tensors.
    variables
        Numbers of tensors that keep their contents from one run to the next, such as the state
        of a recurrent layer; zero (its zero point) at first.
    """

    name: str
    tensors: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: tuple[int, ...] = ()

    def layer(self, step: Step) -> Layer:
        """Return a step with its tensors."""
        given = tuple(None if i < 0 else self.tensors[i] for i in step.inputs)
        return Layer(step.op, given, tuple(self.tensors[i] for i in step.outputs), step.layer)

    def layers(self) -> Iterator[Layer]:
        """Yield all steps with their tensors."""
        return map(self.layer, self.steps)
