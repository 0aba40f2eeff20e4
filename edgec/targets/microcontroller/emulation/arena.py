"""The smallest arena that TFLite Micro runs a model in, found by trying."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgec.errors import NumericsError
from edgec.targets.microcontroller.emulation.oracle import require_oracle, run_worker

__all__ = ["ARENA_STEP", "smallest_arena"]

ARENA_STEP = 16
"""Bytes that TFLite Micro aligns its arena to."""

_MOST = 1 << 28
_WORKER = "arena_worker.py"
_MOST_CRASHES = 8
_SECONDS = 300.0


def smallest_arena(data: bytes) -> int:
    """Return the least size of an arena, in bytes, that a ``.tflite`` file runs in.

    It is a multiple of :data:`ARENA_STEP`; one step less fails, which is tried. The size is
    that of the host, where pointers take 64 bits: boards with 32 bits need less.

    Raises
    ------
    NumericsError
        If TFLite Micro does not run the file in any arena.
    OptionError
        If TFLite Micro is not installed.
    """
    require_oracle()
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(data)
        if not _runs(folder, _MOST):
            raise NumericsError("TFLite Micro does not run the model in any arena")
        low, high = 0, _MOST // ARENA_STEP
        for _ in range(_MOST_CRASHES):  # a small arena may end the process
            low, high = _search(folder, low, high)
            if high - low == 1:
                break
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _runs(folder, middle * ARENA_STEP) else (middle, high)
        # In processes of their own: nothing is left from another try.
        if not _runs(folder, high * ARENA_STEP) or _runs(folder, low * ARENA_STEP):
            raise NumericsError("TFLite Micro needs now more memory and now less")
        return high * ARENA_STEP


def _search(folder: Path, low: int, high: int) -> tuple[int, int]:
    """Return the greatest size known to fail and the least known to do, in steps."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    run_worker(_WORKER, [str(folder), "search", str(low), str(high)], _SECONDS)
    fates = dict(line.split() for line in log.read_text().splitlines()) if log.exists() else {}
    for size, fate in fates.items():
        if fate == "runs":
            high = min(high, int(size))
        else:  # it failed, or was the last that was tried
            low = max(low, int(size))
    return low, high


def _runs(folder: Path, size: int) -> bool:
    done = run_worker(_WORKER, [str(folder), "try", str(size)], _SECONDS)
    return done.returncode == 0
