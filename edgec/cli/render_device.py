"""What an artifact takes on the device it is for, as lines on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgec.cli.numbers import bytes_text

__all__ = ["count_of", "device_lines", "proof_text"]


def device_lines(artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield instructions, RAM and flash, and whether the outputs are right to the bit."""
    found = artifact.get("device")
    if not found:
        return
    ram, flash = found["ram"], found["flash"]
    yield (
        f"\n{artifact['file']} on {found['device']}: {found['instructions']:,} instructions an "
        f"inference, {bytes_text(ram['total'])} of RAM (arena {bytes_text(ram['arena'])}), "
        f"{bytes_text(flash['total'])} of flash ({bytes_text(flash['beyond_weights'])} beside "
        "weights)"
    )
    yield f"  counted with {found['emulator']}, compiled with {found['compiler']['name']}"
    yield f"  {proof_text(found)}"


def proof_text(found: Mapping[str, Any]) -> str:
    """Return how the outputs compare with TFLite Micro's, of what was measured."""
    told = found["verification"]
    if told is None:
        missing = "TFLite Micro is not installed: pip install 'edgec[mcu]'"
        return f"not compared: {found['not_compared'] or missing}"
    on = f"{told['oracle']} on {count_of(told['inputs'], 'sample')}"
    if told["exact"]:
        return f"every output bit equals that of {on}"
    return f"within {told['largest_difference']:g} of {on}"


def count_of(number: int, what: str) -> str:
    """Return a number of things."""
    return f"{number} {what}{'s' * (number != 1)}"
