"""Run a command and count what its whole process tree costs."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

__all__ = ["Usage", "measure"]

_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run of a command took.

    Parameters
    ----------
    cpu_s
        User and system time of all its processes.
    wall_s
        From start to end.
    peak_bytes
        The largest sum of the resident memory of all processes, sampled every 20 ms.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int
    exit_code: int
    output: str


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end and return what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=None if env is None else dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, _resident(watched))
        time.sleep(_INTERVAL_S)
    wall = time.perf_counter() - start
    output = process.communicate()[0]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Usage(cpu, wall, peak, process.returncode, output)


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in tree:
        try:
            total += one.memory_info().rss
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total
