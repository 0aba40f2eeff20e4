"""What was taken out of a model to reach a goal, as lines on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from edgec.cli.names import short
from edgec.cli.numbers import at

__all__ = ["compression_lines"]

_MOST = 8
_LONGEST = 60  # letters of a layer's name


def compression_lines(report: Mapping[str, Any], artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is left of a model, what that loses, and where something was done."""
    found = artifact.get("compression")
    if not found:
        return
    file, chosen = artifact["file"], found["chosen"]
    if not chosen and not found["holds"]:
        yield f"\n{file}: {found['left']} (goal {found['goal']}); nothing could be taken out"
        return
    if not chosen:
        yield f"\n{file}: {found['left']}, which meets the goal as it is: nothing was taken out"
        return
    yield (
        f"\n{file}: {found['left']} (goal {found['goal']}); the outputs lose "
        f"{_nats(found['nats'])} nats a sample ({_judges(found)})"
    )
    speed = at(report, "run", "structure", str(artifact.get("target")))
    if speed:
        yield (
            f"  {speed['speedup']:.2f} times as fast as with all of its structure "
            f"({speed['latency_ms']:g} ms, {speed['float_latency_ms']:g} ms), "
            f"{speed['size_bytes'] / speed['float_size_bytes']:.2f}x of its size"
        )
    if before := found.get("whole_instructions"):
        now = found["instructions"]
        yield (
            f"  {now / before:.2f}x of the instructions that it takes with all of its "
            f"structure ({now:,}, {before:,})"
        )
    count = Counter(c["technique"] for c in chosen)
    told = ", ".join(f"{name} at {n} place{'s' * (n > 1)}" for name, n in count.items())
    yield f"  {told}; what costs most:"
    dearest = sorted(chosen, key=lambda c: -float(c["nats"] or 0))
    for c in dearest[:_MOST]:
        name, alone = short(c["layer"], _LONGEST), _nats(c["nats"])
        yield f"    {name}: {c['option']} ({alone} nats alone)"
    if len(chosen) > _MOST:
        yield f"    and {len(chosen) - _MOST} more, in report.json"


def _nats(value: float | None) -> str:
    return "all" if value is None else f"{value:.2g}"


def _judges(found: Mapping[str, Any]) -> str:
    """Return what the loss was told on."""
    if not found["held_out"]:
        return f"{found['samples']} samples, all of which it was fitted to"
    return f"{found['held_out']} held out of {found['samples']}"
