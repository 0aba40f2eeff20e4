"""Padding that convolutions do themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.program import operators as ops
from edgec.program.operators import Pads
from edgec.program.passes.base import Change, Outcome, ProgramPass
from edgec.program.program import Layer, Program, Step

__all__ = ["FoldPads"]


@dataclass(frozen=True, slots=True)
class FoldPads(ProgramPass):
    """Let convolutions read what is padded before them, and pad it themselves.

    TFLite's own padding puts what is left over behind, other tools put it before: their files
    have a layer for it, whose result takes memory.
    """

    name: ClassVar[str] = "fold-pads"

    @override
    def run(self, program: Program) -> Outcome:
        makers = {step.outputs[0]: step for step in program.steps}
        changes: list[Change] = []
        folded: dict[int, Step] = {}
        for number, step in enumerate(program.steps):
            maker = makers.get(step.inputs[0]) if step.inputs else None
            if maker is None or not isinstance(maker.op, ops.Pad):
                continue
            pads = _folded(program.layer(maker), program.layer(step))
            if pads is not None:
                assert isinstance(step.op, (ops.Conv, ops.DepthwiseConv))
                inputs = (maker.inputs[0], *step.inputs[1:])
                folded[number] = replace(step, op=replace(step.op, pads=pads), inputs=inputs)
                changes.append(Change(step.layer, "pads what it reads itself"))
        if not folded:
            return Outcome(program)
        steps = [folded.get(number, step) for number, step in enumerate(program.steps)]
        read = {k for step in steps for k in step.inputs} | set(program.outputs)
        kept = (s for s in steps if not isinstance(s.op, ops.Pad) or s.outputs[0] in read)
        return Outcome(replace(program, steps=tuple(kept)), tuple(changes))


def _folded(pad: Layer, layer: Layer) -> Pads | None:
    """Return the padding of a convolution that does another layer's, too, if it can."""
    assert isinstance(pad.op, ops.Pad)
    x, result = pad.input(0), pad.output
    if not isinstance(layer.op, (ops.Conv, ops.DepthwiseConv)) or x.grid != result.grid:
        return None
    (batch, *sides, depth) = pad.op.pads
    if len(sides) != 2 or any(batch) or any(depth):
        return None
    if pad.op.value != (0 if x.grid is None else x.zero_point):
        return None
    found = []
    for axis, (more, own) in enumerate(zip(sides, layer.op.pads, strict=True)):
        reach = (layer.input(1).shape[axis + 1] - 1) * layer.op.dilations[axis] + 1
        both = (more[0] + own[0], more[1] + own[1])
        if max(both) >= reach:
            return None  # windows would see nothing of the picture
        found.append(both)
    return (found[0], found[1])
