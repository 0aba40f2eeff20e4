"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "at",
    "bytes_text",
    "change_text",
    "count_text",
    "milliseconds_text",
    "share_text",
    "value_text",
]

_UNITS = ("", "k", "M", "G", "T")


def count_text(value: float) -> str:
    """Return three significant digits and a unit of thousands: ``1.23 M``."""
    number, unit = _scaled(value)
    return f"{number} {unit}" if unit else number


def bytes_text(value: float) -> str:
    """Return a size in bytes, with kB = 1,000 bytes: ``97.4 kB``."""
    number, unit = _scaled(value)
    return f"{number} {unit}B"


def _scaled(value: float) -> tuple[str, str]:
    """Return three significant digits of the number, and its unit of thousands."""
    unit = _UNITS[0]
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    if not unit and float(value).is_integer():
        return f"{value:.0f}", unit
    # The limits are where rounding to one digit more would give four digits.
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}", unit


def milliseconds_text(value: float) -> str:
    """Return a time: microseconds below one millisecond, seconds from 1,000 on."""
    # The limits are where rounding to three digits would give four.
    if value < 0.9995:
        value, unit = value * 1000, "µs"
    else:
        value, unit = (value / 1000, "s") if value >= 999.5 else (value, "ms")
    return f"{value:#.3g} {unit}".replace(". ", " ")


def share_text(value: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def change_text(pair: Sequence[float], show: Callable[[float], str]) -> str:
    """Return ``before → after``, or the one value if nothing changed."""
    before, after = pair
    return show(after) if before == after else f"{show(before)} → {show(after)}"


def value_text(value: float, unit: str) -> str:
    """Return the value of a metric of the gate in its unit."""
    if unit == "bytes":
        return bytes_text(value)
    if unit == "share":
        return f"{value:.4g}"
    if not unit:
        return count_text(value) if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:.4g} {unit}"


def at(tree: object, *path: str) -> Any:
    """Return what is at a path of keys in a report, or ``None`` where the path ends early."""
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree
