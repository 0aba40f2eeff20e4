"""What --max-drop found, as lines on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgec.cli.names import short
from edgec.cli.numbers import bytes_text

__all__ = ["search_lines"]

_MOST = 8
_LONGEST = 60  # letters of a layer's name


def search_lines(artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an artifact loses, and which layers have more bits for that."""
    found = artifact.get("search")
    if not found:
        return
    tries, raised = found["tries"], found["raised"]
    count = f"{len(tries)} tries" if len(tries) > 1 else "the first try"
    samples = "1 sample" if found["samples"] == 1 else f"{found['samples']} samples"
    points = 100 / found["samples"]
    if found["measure"] in ("accuracy", "agreement") and points > found["max_drop"] > 0:
        samples += f", of which each is {points:.2g} points"
    yield (
        f"\n{artifact['file']} loses {found['loses']} on {samples}; at most "
        f"{found['max_drop']:g} is allowed; {count}"
    )
    if not raised:
        return
    plain, now = tries[0]["bytes"], artifact["bytes"]
    grown = f"{bytes_text(plain)} → {bytes_text(now)}"
    if plain:
        grown += f", {100 * (now / plain - 1):+.1f} %"
    yield f"{len(raised)} of {found['layers']} layers have more bits ({grown}):"
    for r in raised[:_MOST]:
        name = short(r["layer"], _LONGEST)
        yield f"  {name} ({r['operator']}): {r['before']} → {r['after']}"
    if len(raised) > _MOST:
        yield f"  and {len(raised) - _MOST} more, in report.json"
