"""``python -m edgec``."""

from __future__ import annotations

from edgec.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main(prog_name="edgec")
