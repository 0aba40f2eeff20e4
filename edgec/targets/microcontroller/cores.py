"""Processor cores, from data files: adding a core or a board is adding a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Core", "Tier"]

Tier = Literal["portable", "dsp", "mve"]
"""Which kernels: C99 alone, the DSP extension of Armv7E-M and Armv8-M, or Helium."""


@dataclass(frozen=True, slots=True)
class Core:
    """A kind of processor.

    Parameters
    ----------
    name
        As users say it, such as ``cortex-m4``.
    tiers
        What it can run, the best first.
    compiler
        Flags for clang and GCC that choose it, such as ``-mcpu=cortex-m4``.
    emulator
        What the emulator calls it; ``""`` if it cannot emulate it.
    """

    name: str
    tiers: tuple[Tier, ...]
    compiler: tuple[str, ...] = ()
    emulator: str = ""
