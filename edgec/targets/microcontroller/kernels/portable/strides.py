"""Loops over the axes of a tensor, as statements of C."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Axis", "contiguous", "merged", "nested"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop.

    Parameters
    ----------
    steps
        How far each pointer moves with every turn.
    """

    length: int
    steps: tuple[int, ...]


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Return how far apart neighbours lie along each axis."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """Return as few loops as do the same, outermost first."""
    found: list[Axis] = []
    for axis in axes:
        if axis.length == 1:
            continue
        if found and found[-1].steps == tuple(step * axis.length for step in axis.steps):
            found[-1] = Axis(found[-1].length * axis.length, axis.steps)
        else:
            found.append(axis)
    return found


def nested(axes: Sequence[Axis], body: str, names: Sequence[str], first: str = "i") -> str:
    """Return loops around statements, for a call.

    Parameters
    ----------
    body
        With ``{name}`` for how far each pointer has moved, such as `` + i0 * 3``.
    names
        Of the pointers, in the order of the steps of the axes.
    first
        What the variables of the loops begin with.
    """
    moved = dict.fromkeys(names, "")
    head = tail = ""
    for depth, axis in enumerate(axes):
        variable, indent = f"{first}{depth}", "    " * depth
        head += (
            f"{indent}for (int32_t {variable} = 0; {variable} < {axis.length}; "
            f"{variable}++) {{{{\n"
        )
        tail = f"\n{indent}}}}}{tail}"
        for name, step in zip(names, axis.steps, strict=True):
            if step:
                moved[name] += f" + {variable}" if step == 1 else f" + {variable} * {step}"
    for name in names:
        body = body.replace("{" + name + "}", moved[name])
    indent = "    " * len(axes)
    return head + "\n".join(f"{indent}{line}" for line in body.splitlines()) + tail
