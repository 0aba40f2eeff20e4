"""The same numbers each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["THREADS", "deterministic"]

THREADS = 2
"""Sums are split among threads, so that their number decides how they are rounded."""


@contextmanager
def deterministic() -> Iterator[None]:
    """Let PyTorch compute the same bits each time, with a fixed number of threads.

    That holds for one machine and one release of PyTorch: another processor may have other
    kernels, which sum in another order.
    """
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=only_warned)
