"""How many instructions a piece of Thumb code has, and how many words it loads.

Counts flatter code that loads two or more words with one instruction (LDRD, LDM), which takes
the time of several; so the words are counted too. A byte or a half-word counts as a word.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Block", "decode"]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of code that runs from its beginning to its end."""

    instructions: int
    loaded_words: int


def decode(code: bytes) -> Block:
    """Return what is in some code, which starts and ends between instructions."""
    halves = struct.unpack(f"<{len(code) // 2}H", code)
    instructions = words = at = 0
    while at < len(halves):
        first = halves[at]
        instructions += 1
        if first >> 11 in (0b11101, 0b11110, 0b11111):
            words += _wide(first, halves[at + 1] if at + 1 < len(halves) else 0)
            at += 2
        else:
            words += _narrow(first)
            at += 1
    return Block(instructions, words)


def _narrow(half: int) -> int:
    """Return the words that a 16-bit instruction loads (Armv7-M manual, A5.2)."""
    if half >> 11 == 0b01001:  # LDR from the literal pool
        return 1
    if half >> 12 == 0b0101:  # register offset: three stores, then five loads
        return int((half >> 9) & 7 >= 3)
    if half >> 13 == 0b011 or half >> 12 in (0b1000, 0b1001):  # immediate offset
        return (half >> 11) & 1
    if half >> 9 == 0b1011110:  # POP, with the program counter in bit 8
        return (half & 0x1FF).bit_count()
    if half >> 11 == 0b11001:  # LDM
        return (half & 0xFF).bit_count()
    return 0


def _wide(first: int, second: int) -> int:
    """Return the words that a 32-bit instruction loads (Armv7-M manual, A5.3)."""
    is_load = (first >> 4) & 1
    if not is_load:
        return 0
    if first & 0xFE40 == 0xE800:  # LDM
        return second.bit_count()
    if first & 0xFE40 == 0xE840:  # LDRD if it has an index, else exclusive, or a table branch
        return 2 if first & 0x0120 else 1
    if first & 0xFE00 == 0xF800:  # single registers; a byte or half into PC is a hint
        is_hint = second >> 12 == 15 and first & 0x0060 != 0x0040
        return 0 if is_hint else 1
    if first & 0xFE00 == 0xEC00 and second & 0x0E00 == 0x0A00:  # floating-point registers
        if first & 0x0120 == 0x0100:  # VLDR
            return 2 if second & 0x0100 else 1
        return second & 0xFF if first & 0x01A0 else 0  # VLDM, VPOP; else moves of two
    return 0
