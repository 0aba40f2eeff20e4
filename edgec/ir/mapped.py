"""Memory that the system can take back: of arrays that lie in files, and of what is gone."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable

import numpy as np

from edgec.ir.op import Array

__all__ = ["trim", "unload"]


def unload(arrays: Iterable[Array]) -> None:
    """Take what was read of mapped arrays out of memory; it is read again when needed.

    Does nothing to other arrays, nor where the system offers no such thing.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        if advice is not None and isinstance(base, mmap.mmap):
            base.madvise(advice)


def trim() -> None:
    """Give back what the C library keeps of freed memory, where it has a function for that.

    glibc keeps what is freed below blocks still in use, a third of a model that was closed.
    """
    try:
        free = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another library, or no such thing at all
        return
    free(0)
