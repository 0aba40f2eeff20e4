"""The same numbers each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["deterministic"]


@contextmanager
def deterministic() -> Iterator[None]:
    """Let PyTorch compute the same bits each time, each operator in one thread.

    Sums are split among the threads of an operator, so that their number would decide how
    they are rounded; and on a machine that has other work to do, threads that wait for each
    other at every operator take many times as long as one alone.

    The promise holds for one machine and one release of PyTorch: another processor may have
    other kernels, which sum in another order.
    """
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=only_warned)
