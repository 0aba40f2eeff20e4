"""Passes on programs; all are lossless: every output stays what it was, to the bit."""

from __future__ import annotations

from edgec.program.passes.base import Change, Outcome, ProgramPass, run_passes
from edgec.program.passes.constant_channels import RemoveConstantChannels
from edgec.program.passes.dead_code import RemoveDeadCode
from edgec.program.passes.pads import FoldPads
from edgec.program.passes.reshapes import FoldReshapes

__all__ = [
    "LOSSLESS",
    "Change",
    "FoldPads",
    "FoldReshapes",
    "Outcome",
    "ProgramPass",
    "RemoveConstantChannels",
    "RemoveDeadCode",
    "run_passes",
]

LOSSLESS: tuple[ProgramPass, ...] = (
    FoldReshapes(),
    FoldPads(),
    RemoveConstantChannels(multiple=4),  # which kernels take at a time
    RemoveDeadCode(),
)
"""What is done to every program before code is generated."""
