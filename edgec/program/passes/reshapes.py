"""Reshapes that need not run: of constants, of reshapes, to the shape that is there already."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.program import operators as ops
from edgec.program.passes.base import Change, Outcome, ProgramPass
from edgec.program.program import Program, Step
from edgec.program.tensors import Tensor

__all__ = ["FoldReshapes"]


@dataclass(frozen=True, slots=True)
class FoldReshapes(ProgramPass):
    """Read what a reshape reads where that is the same numbers.

    Layers that only look at the order of the numbers read through reshapes, as fully connected
    ones do. Transposes that only move axes of length 1 count as reshapes.
    """

    name: ClassVar[str] = "fold-reshapes"

    @override
    def run(self, program: Program) -> Outcome:
        return _Fold(program).outcome()


class _Fold:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.tensors = list(program.tensors)
        self.source: dict[int, int] = {}  # of results of reshapes: what holds the numbers
        self.alias: dict[int, int] = {}  # of results that are not needed: what to read instead
        self.changes: list[Change] = []

    def outcome(self) -> Outcome:
        steps = [found for step in self.program.steps for found in self.step(step)]
        if not self.changes:
            return Outcome(self.program)
        program = replace(self.program, tensors=tuple(self.tensors), steps=tuple(steps))
        return Outcome(_without_unread(program), tuple(self.changes))

    def step(self, step: Step) -> list[Step]:
        inputs = tuple(self.alias.get(k, k) for k in step.inputs)
        step = replace(step, inputs=inputs)
        layer = self.program.layer(step)
        if isinstance(step.op, ops.Transpose) and _moves_nothing(
            layer.input(0).shape, step.op.perm
        ):
            self.changes.append(Change(step.layer, "its transpose moves nothing"))
            step = replace(step, op=ops.Reshape())
        if isinstance(step.op, ops.Reshape):
            return self.reshape(step)
        if isinstance(step.op, ops.FullyConnected) and inputs[0] in self.source:
            origin = self.source[inputs[0]]
            if self.tensors[origin].grid == self.tensors[inputs[0]].grid:
                self.changes.append(Change(step.layer, "reads through a reshape"))
                step = replace(step, inputs=(origin, *inputs[1:]))
        return [step]

    def reshape(self, step: Step) -> list[Step]:
        (y,) = step.outputs
        x = step.inputs[0]
        origin = self.source.get(x, x)
        if origin != x:
            self.changes.append(Change(step.layer, "a reshape of a reshape is one"))
        given, result = self.tensors[origin], self.tensors[y]
        fixed = y in self.program.outputs
        if given.data is not None and not fixed:
            data = given.data.reshape(result.shape)
            self.tensors[y] = Tensor(result.name, result.dtype, result.shape, result.grid, data)
            self.changes.append(Change(step.layer, "a reshape of a constant is a constant"))
            return []
        if given.shape == result.shape and given.grid == result.grid and not fixed:
            self.alias[y] = origin
            self.changes.append(Change(step.layer, "left out: the shape is there already"))
            return []
        self.source[y] = origin
        return [replace(step, inputs=(origin,))]


def _moves_nothing(shape: tuple[int, ...], perm: tuple[int, ...]) -> bool:
    long = [axis for axis in perm if shape[axis] > 1]
    return long == sorted(long)


def _without_unread(program: Program) -> Program:
    """Leave out reshapes that nothing reads any more."""
    readers = Counter(k for step in program.steps for k in step.inputs)
    readers.update(program.outputs)
    kept: list[Step] = []
    for step in reversed(program.steps):
        if isinstance(step.op, ops.Reshape) and not readers[step.outputs[0]]:
            readers.subtract(step.inputs)
        else:
            kept.append(step)
    return replace(program, steps=tuple(reversed(kept)))
