"""Processes that end with the one that started them, however that ends.

This file is also the program that such a process begins as: it asks the system to be killed,
and becomes what it was told to be.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["tethered"]

_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG``; it outlasts ``exec``."""


def tethered(command: Sequence[str]) -> list[str]:
    """Return the command to start so that it is killed when this process ends.

    Linux does so, when the thread ends that started it. Elsewhere the command itself is
    returned. The process has the same number, output and exit code as without.
    """
    if sys.platform != "linux":
        return list(command)
    # Nothing of this folder or of the environment is imported in its place.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _become(parent: int, command: Sequence[str]) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before that
        sys.exit(1)
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
