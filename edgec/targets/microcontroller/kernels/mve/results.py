"""From vectors of four sums to int8, as TFLite Micro rounds.

``vqrdmulh`` is TFLite Micro's first rounding: twice the product, halves up, the upper half.
``vrshl`` by a negative count is the second, except that it rounds halves up where TFLite Micro
rounds them away from zero; that differs for negative numbers only. With one less where the
number is negative it is the same: half of a step less one, rounded up, is half a step rounded
down, and nothing else moves over an edge, as steps have at least two places. The sign of the
sum may stand for that of the product, as they differ only where the product is 0, and less one
is then still 0 after rounding. Where everything below zero is stored as zero, nothing of that
is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums
from edgec.targets.microcontroller.kernels.requantization import Requantization

__all__ = ["Rounding", "rounding_of"]

Form = Literal["up", "away", "any"]
"""Halves up, away from zero with shifts to the right, or with shifts in both directions."""

_INT8 = (-128, 127)


@dataclass(frozen=True, slots=True)
class Rounding:
    """How vectors of sums become int8: the part of it that is code.

    Parameters
    ----------
    clamp
        Whether the result has to be brought into less than int8.
    """

    form: Form
    clamp: bool

    @property
    def label(self) -> str:
        """For the names of functions."""
        return self.form + ("_clamped" if self.clamp else "")

    @property
    def vectors(self) -> int:
        """How many vectors of constants four channels have behind their biases."""
        return 3 if self.form == "any" else 2

    def apply(
        self, asm: Assembly, sums: Sequence[str], free: tuple[str, str], constants: str
    ) -> None:
        """Scale and round vectors of sums of the same four channels.

        Parameters
        ----------
        sums
            Registers, the biases in them already.
        free
            Two more registers.
        constants
            The register that points to the constants, and moves on behind them.
        """
        other, factor = free
        load = f"vldrw.u32 {factor}, [{constants}], #16"
        if self.form == "any":
            asm(load, *(f"vshl.s32 {q}, {q}, {factor}" for q in sums))
        asm(load)
        for q in sums:
            if self.form == "away":
                asm(f"vshr.s32 {other}, {q}, #31")
            asm(f"vqrdmulh.s32 {q}, {q}, {factor}")
            if self.form == "away":
                asm(f"vadd.i32 {q}, {q}, {other}")
        asm(load)
        for q in sums:
            if self.form == "any":
                asm(f"vand {other}, {q}, {factor}", f"vshr.s32 {other}, {other}, #31")
                asm(f"vadd.i32 {q}, {q}, {other}")
            asm(f"vrshl.s32 {q}, {q}, {factor}")

    def finish(self, asm: Assembly, q: str, limits: tuple[str, str, str], free: str) -> None:
        """Add the zero point to eight numbers of 16 bits and bring them into their range.

        Parameters
        ----------
        limits
            Registers with the zero point, and with the range where it is less than int8.
        free
            A vector, where it is.
        """
        zero, least, most = limits
        asm(f"vqadd.s16 {q}, {q}, {zero}")
        if self.clamp:
            asm(f"vdup.16 {free}, {least}", f"vmax.s16 {q}, {q}, {free}")
            asm(f"vdup.16 {free}, {most}", f"vmin.s16 {q}, {q}, {free}")


def rounding_of(sums: Sums) -> tuple[Rounding, Ints] | None:
    """Return how the sums of a layer are rounded, and the constants of each channel.

    ``None`` if TFLite Micro's own product would leave 32 bits.
    """
    how: Requantization = sums.requantization
    shifts, values = how.shifts, how.values
    widest = np.maximum(np.abs(sums.low), np.abs(sums.high))
    if np.any((shifts > 0) & (widest >= np.right_shift(2**31, np.maximum(shifts, 0)))):
        return None
    clamp = (how.least, how.greatest) != _INT8
    # A factor of 0 gives 0 whatever the shift: one that is no exception.
    right = np.where(values == 0, 1, np.maximum(-shifts, 0))
    if np.any(shifts > 0) or (np.any(right == 0) and how.least < how.zero_point):
        left = np.where(values == 0, 0, np.maximum(shifts, 0))
        return Rounding("any", clamp), np.stack([left, values, -right])
    form: Form = "up" if how.least >= how.zero_point else "away"
    return Rounding(form, clamp), np.stack([values, -right])
