"""The difference of two models, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgec.cli.numbers import bytes_text, count_text
from edgec.cli.render import console, table

__all__ = ["print_difference"]

_SHOWN = 20


def print_difference(found: Mapping[str, Any]) -> None:
    """Print what :func:`edgec.structure.compared` found."""
    out = console()
    sizes = table("", found["a"], found["b"], "change")
    rows = (
        ("nodes", "nodes", count_text),
        ("parameters", "parameters", count_text),
        ("MACs", "macs", count_text),
        ("weights", "weight_bytes", bytes_text),
        ("file", "bytes", bytes_text),
    )
    for label, key, text in rows:
        before, after = found[key]
        sizes.add_row(label, text(before), text(after), _ratio(before, after))
    out.print(sizes)
    for kind in ("inputs", "outputs"):
        before, after = found[kind]
        for name in dict.fromkeys((*before, *after)):
            if before.get(name) != after.get(name):
                was, now = before.get(name, "absent"), after.get(name, "absent")
                out.print(f"{kind[:-1]} {name}: {was} -> {now}")
    if found["operators"]:
        counts = table("operator", found["a"], found["b"])
        for name, (before, after) in found["operators"].items():
            counts.add_row(name, str(before or "-"), str(after or "-"))
        out.print()
        out.print(counts)
    if not found["same_format"]:
        out.print("\nThe files are of two formats, so operators are not matched one by one.")
        return
    for kind in ("removed", "added", "changed"):
        _print_units(kind, found[kind])
    if not any(found[kind] for kind in ("removed", "added", "changed")):
        out.print("\nno operator differs")


def _print_units(kind: str, units: Sequence[Mapping[str, Any]]) -> None:
    if not units:
        return
    out = console()
    out.print(f"\n{kind}: {len(units)}")
    for unit in units[:_SHOWN]:
        what = ", ".join(unit["what"]) if kind == "changed" else ", ".join(unit["outputs"])
        out.print(f"  {unit['name']}: {unit['operator']} {what}".rstrip())
    if len(units) > _SHOWN:
        out.print(f"  and {len(units) - _SHOWN} more; --json lists them all")


def _ratio(before: int, after: int) -> str:
    if before == after:
        return "same"
    return f"{after / before:.2f}x" if before else "new"
