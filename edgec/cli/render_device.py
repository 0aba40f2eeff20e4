"""What an artifact takes on the device it is for, as lines on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["device_lines"]


def device_lines(artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield instructions, RAM and flash, and whether the outputs are right to the bit."""
    found = artifact.get("device")
    if not found:
        return
    ram, flash = found["ram"], found["flash"]
    yield (
        f"\n{artifact['file']} on {found['device']}: {found['instructions']:,} instructions an "
        f"inference, {_kb(ram['total'])} of RAM (arena {_kb(ram['arena'])}), "
        f"{_kb(flash['total'])} of flash ({_kb(flash['beyond_weights'])} beside weights)"
    )
    yield f"  counted with {found['emulator']}, compiled with {found['compiler']['name']}"
    told = found["verification"]
    if told is None:
        why = found["not_compared"] or "TFLite Micro is not installed"
        yield f"  not compared: {why}"
        return
    on = f" on {told['inputs']} sample{'s' * (told['inputs'] != 1)}"
    if told["exact"]:
        yield f"  bit for bit what {told['oracle']} computes{on}"
    else:
        most = told["largest_difference"]
        yield f"  at most {most:g} from what {told['oracle']} computes{on}"


def _kb(count: float) -> str:
    return f"{count / 1e3:.1f} kB"
