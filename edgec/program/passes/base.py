"""What passes on programs have in common, and what they tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from edgec.program.program import Program

__all__ = ["Change", "Outcome", "ProgramPass", "run_passes"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a pass did to one layer.

    Parameters
    ----------
    layer
        The user's name for it.
    done
        What was done, as a sentence without the layer.
    macs, weight_bytes
        Of the layer, before and after.
    """

    layer: str
    done: str
    macs: tuple[int, int] = (0, 0)
    weight_bytes: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A program after a pass.

    Parameters
    ----------
    changes
        In the order of the layers; empty if the program is the very same.
    """

    program: Program
    changes: tuple[Change, ...] = ()


class ProgramPass(ABC):
    """A function from program to program that keeps every output, to the bit.

    Inputs and outputs keep names, types, shapes and order. Numbers of tensors may change.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, program: Program) -> Outcome:
        """Return the program after the pass; the very same object if nothing was to do."""


def run_passes(program: Program, passes: Iterable[ProgramPass]) -> Outcome:
    """Return the program after several passes, with all that they did."""
    changes: list[Change] = []
    for each in passes:
        outcome = each.run(program)
        program = outcome.program
        changes += outcome.changes
    return Outcome(program, tuple(changes))
