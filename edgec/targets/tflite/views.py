"""Reshapes that only regroup axes, whatever order these are stored in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

__all__ = ["grouped_perm", "reshaped_perm"]

Block = tuple[list[int], list[int]]


def reshaped_perm(
    before: Sequence[int], perm: Sequence[int], after: Sequence[int]
) -> tuple[int, ...] | None:
    """Return the order in which a reshaped value is stored if no element moves.

    The axes of both shapes fall into blocks of equal size, such as ``(H, W)`` and ``(H * W)``.
    Elements stay where they are if the axes of each block lie side by side, in order, in the
    tensor; axes of length 1 can lie anywhere.

    Parameters
    ----------
    before, after
        Shapes of the value.
    perm
        Stored axis ``k`` is axis ``perm[k]`` of the value before.

    Returns
    -------
    perm
        The same of the value after; ``None`` if elements must move.
    """
    if 0 in before:
        return None
    place = {axis: k for k, axis in enumerate(p for p in perm if before[p] != 1)}
    blocks = _blocks(before, after)
    starts: list[tuple[int, list[int]]] = []
    for old, new in blocks:
        places = [place[axis] for axis in old if axis in place]
        if any(b - a != 1 for a, b in pairwise(places)):
            return None
        starts.append((places[0] if places else -1, new))
    order = sorted(range(len(blocks)), key=lambda i: (starts[i][0], i))
    return tuple(axis for i in order for axis in starts[i][1])


def grouped_perm(
    before: Sequence[int], perm: Sequence[int], after: Sequence[int]
) -> tuple[int, ...]:
    """Return the order nearest to `perm` from which `reshaped_perm` finds a way.

    The axes of each block are brought together; the blocks stay in their order.
    """
    place = {axis: k for k, axis in enumerate(perm)}
    groups = [old for old, _ in _blocks(before, after) if old]
    groups.sort(key=lambda old: min(place[axis] for axis in old if before[axis] != 1)
                if any(before[axis] != 1 for axis in old) else -1)  # fmt: skip
    return tuple(axis for old in groups for axis in old)


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[Block]:
    """Return the smallest groups of consecutive axes of equal size in both shapes."""
    blocks: list[Block] = []
    i = j = 0
    while i < len(before) or j < len(after):
        old: list[int] = []
        new: list[int] = []
        if i < len(before) and before[i] == 1:
            old, i = [i], i + 1
        if j < len(after) and after[j] == 1:
            new, j = [j], j + 1
        a = b = 1
        while not (old or new) or a != b:
            if (a <= b and i < len(before)) or j == len(after):
                a *= before[i]
                old.append(i)
                i += 1
            else:
                b *= after[j]
                new.append(j)
                j += 1
        blocks.append((old, new))
    return blocks
