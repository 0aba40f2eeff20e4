"""A profile, as tables."""

from __future__ import annotations

from pathlib import Path

from edgec.cli.numbers import bytes_text, milliseconds_text, share_text
from edgec.cli.render import console, table
from edgec.profiling import OperatorTime, Profile

__all__ = ["print_profile"]

_SLOWEST = 10


def print_profile(file: Path, profile: Profile) -> None:
    """Print times, where they go, and what to know of the machine."""
    out = console()
    times = table("", "median", "p95", "min", "max", "cold start", "peak RSS")
    peak = profile.peak_rss_bytes
    times.add_row(
        file.name,
        *map(
            milliseconds_text,
            (
                profile.latency_ms,
                profile.latency_p95_ms,
                profile.latency_min_ms,
                profile.latency_max_ms,
                profile.cold_ms,
            ),
        ),
        "-" if peak is None else bytes_text(peak),
    )
    out.print(times)
    threads = "1 thread" if profile.threads == 1 else f"{profile.threads} threads"
    out.print(
        f"\n{profile.runtime['name']} {profile.runtime['version']}, {threads}, "
        f"{profile.runs} runs after {profile.warmup} to warm up"
    )
    out.print(_machine(profile))
    if profile.operators:
        out.print()
        _print_operators(profile.operators)
    if profile.delegation:
        _print_delegation(profile)
    for note in profile.notes:
        out.print(f"note  {note}")


def _machine(profile: Profile) -> str:
    m = profile.machine
    parts = [str(m.get("cpu") or "unknown processor"), f"{m.get('usable_cores')} cores"]
    if m.get("governor"):
        parts.append(f"governor {m['governor']}")
    if m.get("load_average") is not None:
        parts.append(f"load {m['load_average']}")
    return ", ".join([*parts, str(m.get("system"))])


def _print_operators(operators: tuple[OperatorTime, ...]) -> None:
    total = sum(o.ms * o.calls for o in operators) or 1.0
    made = table("operator", "type", "time", "share", text=2)
    ranked = sorted(operators, key=lambda o: -o.ms * o.calls)
    for o in ranked[:_SLOWEST]:
        ms = o.ms * o.calls
        made.add_row(o.name, o.type, milliseconds_text(ms), share_text(ms / total))
    out = console()
    out.print(made)
    if rest := ranked[_SLOWEST:]:
        ms = sum(o.ms * o.calls for o in rest)
        out.print(f"and {len(rest)} more: {milliseconds_text(ms)}, {share_text(ms / total)}")


def _print_delegation(profile: Profile) -> None:
    placed = profile.delegation or {}
    delegated, left = placed["delegated"], placed["not_delegated"]
    if not placed["delegate"]:
        text = "no operator is delegated; all run in LiteRT's own kernels"
    else:
        partitions = placed["partitions"]
        text = (
            f"{placed['delegate']} runs {sum(delegated.values())} operators in {partitions} "
            f"partition{'' if partitions == 1 else 's'}"
        )
        if left:
            listed = ", ".join(f"{count} {name}" for name, count in left.items())
            text += f"; outside of it run {listed}"
    console().print(text)
