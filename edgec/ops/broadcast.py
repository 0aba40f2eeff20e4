"""Shapes under numpy's broadcasting, which ONNX shares."""

from __future__ import annotations

from itertools import zip_longest

from edgec.ir import UNKNOWN, Dim

__all__ = ["broadcast"]


def broadcast(*shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Return the shape that `shapes` broadcast to; raise ``ValueError`` if they do not."""
    out: list[Dim] = []
    for lengths in zip_longest(*(reversed(s) for s in shapes), fillvalue=1):
        others = {d for d in lengths if d != 1}
        numbers = {d for d in others if isinstance(d, int)}
        if len(numbers) > 1:
            texts = " and ".join(f"[{','.join(map(str, s))}]" for s in shapes)
            raise ValueError(f"{texts} do not broadcast")
        if numbers:  # a symbol beside a number above 1 can only be 1 or that number
            out.append(numbers.pop())
        elif len(others) == 1:
            out.append(others.pop())
        else:
            out.append(UNKNOWN if others else 1)
    return tuple(reversed(out))
