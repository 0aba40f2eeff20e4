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
    if not chosen:
        yield f"\n{file}: {found['left']}, which meets the goal as it is: nothing was taken out"
        return
    yield (
        f"\n{file}: {found['left']} (goal {found['goal']}); the outputs lose "
        f"{found['nats']:.3g} nats a sample ({found['held_out']} held out of "
        f"{found['samples']})"
    )
    speed = at(report, "run", "structure", str(artifact.get("target")))
    if speed:
        yield (
            f"  {speed['speedup']:.2f} times as fast as with all of its structure "
            f"({speed['latency_ms']:g} ms, {speed['float_latency_ms']:g} ms), "
            f"{speed['size_bytes'] / speed['float_size_bytes']:.2f}x of its size"
        )
    count = Counter(c["technique"] for c in chosen)
    told = ", ".join(f"{name} at {n} place{'s' * (n > 1)}" for name, n in count.items())
    yield f"  {told}; what costs most:"
    dearest = sorted(chosen, key=lambda c: -float(c["nats"]))
    for c in dearest[:_MOST]:
        yield f"    {short(c['layer'], _LONGEST)}: {c['option']} ({c['nats']:.2g} nats alone)"
    if len(chosen) > _MOST:
        yield f"    and {len(chosen) - _MOST} more, in report.json"
