"""A linked program: what is to be loaded, and what lies where."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from edgec.errors import InternalError
from edgec.targets.microcontroller.emulation.extra import require

__all__ = ["Image", "Segment", "Symbol"]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function or an object.

    Parameters
    ----------
    address
        Of a function without the bit that says Thumb.
    """

    name: str
    address: int
    size: int
    is_function: bool

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.size


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes that a loader puts at an address, in flash."""

    address: int
    contents: bytes


@dataclass(frozen=True, slots=True)
class Image:
    """What a linker wrote.

    Parameters
    ----------
    symbols
        By name; where a name is there twice, the last.
    sections
        Sizes in bytes, by name, without those for debuggers.
    """

    segments: tuple[Segment, ...]
    symbols: Mapping[str, Symbol]
    sections: Mapping[str, int]

    @classmethod
    def of(cls, elf: bytes) -> Self:
        """Return what an ELF file for a 32-bit Arm says.

        Raises
        ------
        OptionError
            If pyelftools is not installed.
        """
        require("elftools", "Reading what a compiler made")
        from elftools.elf.elffile import ELFFile

        file = ELFFile(io.BytesIO(elf))
        segments = tuple(
            Segment(segment["p_paddr"], segment.data())
            for segment in file.iter_segments()
            if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
        )
        symbols: dict[str, Symbol] = {}
        table: Any = file.get_section_by_name(".symtab")
        for entry in table.iter_symbols() if table else ():
            kind = entry["st_info"]["type"]
            is_function = kind == "STT_FUNC"
            if (
                not entry.name
                or entry.name.startswith("$")
                or kind in ("STT_FILE", "STT_SECTION")
            ):
                continue
            address = entry["st_value"] & ~1 if is_function else entry["st_value"]
            symbols[entry.name] = Symbol(entry.name, address, entry["st_size"], is_function)
        for name in list(symbols):
            # GCC renames functions of which it makes one for the arguments that they get.
            plain, _, rest = name.partition(".")
            if rest.startswith(("constprop", "isra")):
                symbols.setdefault(plain, symbols[name])
        # What debuggers read names the folder that it was compiled in, another each time.
        own = (s for s in file.iter_sections() if s.name and not s.name.startswith(".debug"))
        sections = {s.name: int(s["sh_size"]) for s in own}
        return cls(segments, MappingProxyType(symbols), MappingProxyType(sections))

    def symbol(self, name: str) -> Symbol:
        """Return what has to be there.

        Raises
        ------
        InternalError
            If it is not.
        """
        if name not in self.symbols:
            raise InternalError(f"The compiled program has no {name}.")
        return self.symbols[name]

    def around(self, address: int) -> str:
        """Return where an address is, for messages: a function and how far in, or a number."""
        for symbol in self.symbols.values():
            if symbol.is_function and symbol.address <= address < max(
                symbol.end, symbol.address + 1
            ):
                return f"{symbol.name}+{address - symbol.address:#x}"
        return f"{address:#010x}"
