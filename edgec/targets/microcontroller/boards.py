"""Boards, from data files: adding a board is adding a file to ``data/boards``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from edgec.targets.microcontroller.cores import Core, load_core
from edgec.targets.microcontroller.datafiles import Cpi, names_in, read

__all__ = ["Board", "board_names", "load_board"]


@dataclass(frozen=True, slots=True)
class Board:
    """A board that can be bought.

    Parameters
    ----------
    name
        As users say it, such as ``nucleo-l4r5zi``.
    title
        As its maker calls it.
    flash_bytes, ram_bytes
        What there is in one piece; what other software takes is not subtracted.
    clock_hz
        The fastest it may run.
    cpi
        Cycles an instruction takes, measured on it or those of its core.
    source
        Where the facts come from.
    """

    name: str
    title: str
    core: Core
    flash_bytes: int
    ram_bytes: int
    clock_hz: int
    cpi: Cpi
    source: str


def board_names() -> tuple[str, ...]:
    """Return the names of all boards there are files of."""
    return names_in("boards")


@cache
def load_board(name: str) -> Board:
    """Return a board by its name.

    Raises
    ------
    OptionError
        If there is none, with the names of all.
    InternalError
        If its file says something that cannot be.
    """
    file = read("boards", name, "board")
    core = load_core(file.string("core"))
    cpi = file.cpi() or core.cpi
    if cpi is None:
        raise file.wrong(f"neither it nor {core.name} has cycles per instruction")
    return Board(
        name=name,
        title=file.string("title"),
        core=core,
        flash_bytes=file.count("flash_bytes"),
        ram_bytes=file.count("ram_bytes"),
        clock_hz=file.count("clock_hz"),
        cpi=cpi,
        source=file.string("source"),
    )
