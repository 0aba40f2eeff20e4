"""Processor cores, from data files: adding a core is adding a file to ``data/cores``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from edgec.targets.microcontroller.datafiles import Cpi, QemuMachine, names_in, read

__all__ = ["Core", "Tier", "core_names", "load_core"]

Tier = Literal["portable", "dsp", "mve"]
"""Which kernels: C99 alone, the DSP extension of Armv7E-M and Armv8-M, or Helium."""

_TIERS: tuple[Tier, ...] = ("mve", "dsp", "portable")  # the best first


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
    zig
        Flags that choose it for zig's compiler.
    cpi
        Cycles an instruction takes, for estimates.
    qemu
        What QEMU emulates with such a core and enough memory.
    """

    name: str
    tiers: tuple[Tier, ...]
    compiler: tuple[str, ...] = ()
    emulator: str = ""
    zig: tuple[str, ...] = ()
    cpi: Cpi | None = None
    qemu: QemuMachine | None = None


def core_names() -> tuple[str, ...]:
    """Return the names of all cores there are files of."""
    return names_in("cores")


@cache
def load_core(name: str) -> Core:
    """Return a core by its name.

    Raises
    ------
    OptionError
        If there is none, with the names of all.
    InternalError
        If its file says something that cannot be.
    """
    file = read("cores", name, "core")
    tiers = file.strings("tiers")
    if set(tiers) - set(_TIERS) or "portable" not in tiers:
        raise file.wrong(f"tiers are some of {', '.join(_TIERS)}, portable among them")
    return Core(
        name=name,
        tiers=tuple(tier for tier in _TIERS if tier in tiers),
        compiler=file.strings("compiler"),
        emulator=file.string("emulator"),
        zig=file.strings("zig"),
        cpi=file.cpi(),
        qemu=file.qemu(),
    )
