"""Layers and tensors that no output needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.program.counting import layer_macs, weight_bytes
from edgec.program.passes.base import Change, Outcome, ProgramPass
from edgec.program.program import Program, Step

__all__ = ["RemoveDeadCode"]


@dataclass(frozen=True, slots=True)
class RemoveDeadCode(ProgramPass):
    """Leave out layers whose results nothing reads, and tensors that no layer names."""

    name: ClassVar[str] = "remove-dead-code"

    @override
    def run(self, program: Program) -> Outcome:
        needed = set(program.outputs)
        kept: list[Step] = []
        changes: list[Change] = []
        for step in reversed(program.steps):
            if needed.isdisjoint(step.outputs):
                layer = program.layer(step)
                gone = (layer_macs(layer), 0), (weight_bytes(layer), 0)
                changes.append(Change(step.layer, "left out: nothing reads it", *gone))
                continue
            kept.append(step)
            needed.update(k for k in step.inputs if k >= 0)
            needed.update(step.outputs)
        needed.update(program.inputs)
        if not changes and len(needed) == len(program.tensors):
            return Outcome(program)
        number = {old: new for new, old in enumerate(sorted(needed))}
        number[-1] = -1
        steps = tuple(
            replace(
                step,
                inputs=tuple(number[k] for k in step.inputs),
                outputs=tuple(number[k] for k in step.outputs),
            )
            for step in reversed(kept)
        )
        smaller = Program(
            program.name,
            tuple(program.tensors[k] for k in sorted(needed)),
            steps,
            tuple(number[k] for k in program.inputs),
            tuple(number[k] for k in program.outputs),
            tuple(number[k] for k in program.variables if k in needed),
        )
        return Outcome(smaller, tuple(reversed(changes)))
