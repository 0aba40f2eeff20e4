"""What is known of cores and boards, as TOML files beside the code, read with care."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import Diagnostic, InternalError, OptionError

__all__ = ["Cpi", "QemuMachine", "Region", "Table", "Timer", "names_in", "read"]

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Cpi:
    """Cycles per instruction: from the lowest to be expected to the highest.

    Parameters
    ----------
    source
        Where the numbers come from, and whether anybody measured them.
    """

    low: float
    typical: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of the address space."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Timer:
    """A register that counts up by itself, and after its highest value begins again from 0."""

    address: int
    hz: int
    bits: int = 32

    def since(self, start: int, end: int) -> int:
        """Return the ticks from one reading to another, modulo all that it can count."""
        return (end - start) % (1 << self.bits)


@dataclass(frozen=True, slots=True)
class QemuMachine:
    """A board that QEMU emulates, with its memory.

    Parameters
    ----------
    timer
        By which instructions are counted; ``None`` where none is known.
    slow_timer
        Another one of the same time, which tells how often the first began again from 0.
    """

    name: str
    flash: Region
    ram: Region
    timer: Timer | None = None
    slow_timer: Timer | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The contents of one file, with errors that name it."""

    file: str
    contents: Mapping[str, object]

    def wrong(self, message: str) -> InternalError:
        """Return the error to raise about this file."""
        return InternalError(f"The data file {self.file} is wrong: {message}.")

    def string(self, key: str) -> str:
        """Return a text."""
        value = self.contents.get(key)
        if not isinstance(value, str):
            raise self.wrong(f"{key} is a text")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.contents.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.wrong(f"{key} is a list of texts")
        return tuple(value)

    def count(self, key: str) -> int:
        """Return a number above 0."""
        value = self.contents.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self.wrong(f"{key} is a whole number above 0")
        return value

    def table(self, key: str) -> Table | None:
        """Return a table in it; ``None`` if there is none."""
        if key not in self.contents:
            return None
        values = self.contents[key]
        if not isinstance(values, dict):
            raise self.wrong(f"{key} is a table")
        return Table(self.file, values)

    def region(self, key: str) -> Region:
        """Return a start and a size."""
        value = self.contents.get(key)
        if not isinstance(value, list) or [type(v) for v in value] != [int, int]:
            raise self.wrong(f"{key} is an address and a number of bytes")
        if value[0] < 0 or value[1] <= 0:
            raise self.wrong(f"{key} is somewhere and has bytes")
        return Region(*value)

    def qemu(self) -> QemuMachine | None:
        """Return the table ``qemu``; ``None`` if there is none."""
        found = self.table("qemu")
        if found is None:
            return None
        timers = [
            Timer(found.count(key), found.count(f"{key}_hz")) if key in found.contents else None
            for key in ("timer", "slow_timer")
        ]
        name, flash, ram = found.string("machine"), found.region("flash"), found.region("ram")
        return QemuMachine(name, flash, ram, *timers)

    def cpi(self) -> Cpi | None:
        """Return the table ``cpi``; ``None`` if there is none."""
        found = self.table("cpi")
        if found is None:
            return None
        numbers = [found.contents.get(key) for key in ("low", "typical", "high")]
        low, typical, high = (n if isinstance(n, float) else 0.0 for n in numbers)
        if not 0 < low <= typical <= high:
            raise self.wrong("cpi has low, typical and high in this order, with decimal points")
        return Cpi(low, typical, high, found.string("source"))


def names_in(folder: str) -> tuple[str, ...]:
    """Return the names of the files of a folder, without their endings."""
    return tuple(sorted(path.stem for path in (_DATA / folder).glob("*.toml")))


def read(folder: str, name: str, what: str) -> Table:
    """Return the file of a core or a board.

    Raises
    ------
    OptionError
        If there is none of that name; `what` is what it would be.
    InternalError
        If it cannot be read, or calls itself otherwise.
    """
    known = names_in(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else ""
        raise OptionError(
            f"No {what} is called {name!r}.",
            [Diagnostic(f"Known are: {', '.join(known)}.", hint=hint)],
        )
    path = _DATA / folder / f"{name}.toml"
    try:
        contents = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InternalError(f"The data file {path.name} is no TOML: {error}.") from error
    table = Table(f"{folder}/{path.name}", contents)
    if table.string("name") != name:
        raise table.wrong(f"it is called {table.string('name')}")
    return table
