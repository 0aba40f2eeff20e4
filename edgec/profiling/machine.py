"""What is known of this machine and of this process, for the record."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

__all__ = ["describe", "peak_rss_bytes"]


def describe() -> dict[str, Any]:
    """Return processor, cores, frequency governor and load; ``None`` where unknown."""
    affinity = getattr(os, "sched_getaffinity", None)
    load = None
    with contextlib.suppress(OSError, AttributeError):  # not on every system
        load = round(os.getloadavg()[0], 2)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "usable_cores": len(affinity(0)) if affinity else os.cpu_count(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_average": load,
    }


def _cpu() -> str | None:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    # ARM kernels name no processor, but boards have a device tree.
    board = _text("/sys/firmware/devicetree/base/model")
    return board or platform.processor() or None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def peak_rss_bytes() -> int | None:
    """Return the most memory this process has held at once."""
    # Not getrusage on Linux: what it tells survives exec, so a child starts with the peak of
    # the process that started it.
    for line in (_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
