"""Texts that must not change unnoticed; ``UPDATE_GOLDEN=1 pytest`` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["matches"]


def matches(name: str, text: str) -> bool:
    """Compare with ``tests/golden/<name>``, so that pytest shows the difference."""
    path = Path(__file__).parent / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines()
    return True
