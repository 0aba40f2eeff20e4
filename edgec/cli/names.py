"""Names as people read them."""

from __future__ import annotations

__all__ = ["short"]


def short(name: str, most: int = 60) -> str:
    """Return a name, or its two ends: exporters make names of hundreds of letters."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"
