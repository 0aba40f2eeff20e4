"""What a target takes, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgec.cli.render import console

__all__ = ["print_support"]


def print_support(found: Mapping[str, Any]) -> None:
    """Print what :func:`edgec.support.check_support` found."""
    out = console()
    refused = found["refused"]
    if refused:
        count = f"{len(refused)} problem{'' if len(refused) == 1 else 's'}"
        out.print(f"{found['target']} refuses {found['file']}: {count}")
        for d in refused:
            place = f"{d['where']}: " if d["where"] else ""
            hint = f" ({d['hint']})" if d["hint"] else ""
            out.print(f"  {place}{d['message']}{hint}")
        return
    out.print(f"{found['target']} takes {found['file']}")
    for name, said in found["delegates"].items():
        total, fallen = said["operators"], said["fallen"]
        out.print(f"{name} runs {said['delegated']} of {total} operators ({said['version']})")
        for entry in fallen:
            out.print(f"  {entry['layer']}: {entry['operator']} {entry['reason']}")
