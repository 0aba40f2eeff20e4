"""Which layers are computed band by band, so that an arena fits a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from edgec.errors import Diagnostic
from edgec.program import Layer, Program
from edgec.program.operators import Conv, DepthwiseConv
from edgec.targets.microcontroller.bands import (
    Bands,
    fits_bands,
    rows_done,
    schedule,
    with_bands,
)

__all__ = ["Fitted", "fitted", "notes_of"]

_HEIGHTS = (1, 2, 3, 4, 6, 8, 12, 16)
_MOST_LAYERS = 12
_TRIES = 24
"""Candidates whose code is generated; they are sorted, and the first that fits is taken."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A program, changed so that it fits, or nearly.

    Parameters
    ----------
    fits
        Whether the budget holds.
    """

    program: Program
    fits: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Layers and the height of their bands.

    Parameters
    ----------
    again
        Multiply-accumulates that are done more than once, counted from the second time on.
    least
        The arena is no smaller while it runs.
    """

    again: int
    least: int
    first: int
    count: int
    rows: int


def fitted(
    program: Program,
    most: int,
    needs: Mapping[int, int],
    arena: Callable[[Program], int | None],
) -> Fitted:
    """Return the program with layers in bands, so that little is computed twice.

    Parameters
    ----------
    most
        Bytes that the arena may take.
    needs
        By step, what the arena of the program as it is takes at least there.
    arena
        Tells the bytes of the arena of a program; ``None`` if there is no code for it.
    """
    heavy = [k for k, need in needs.items() if need > most]
    peak = [k for k, need in needs.items() if need == max(needs.values())]
    promising = sorted(
        (c for c in _candidates(program, heavy or peak) if c.least <= most),
        key=lambda c: (c.again, c.least, c.first, c.count, c.rows),
    )
    # If nothing can fit, the least that anything takes is looked for.
    smallest = sorted(
        _candidates(program, peak), key=lambda c: (c.least, c.again, c.first, c.count, c.rows)
    )
    best, size, again = program, arena(program), 0
    for c in (*promising[:_TRIES], *smallest[:_TRIES]):
        changed = with_bands(program, c.first, c.count, c.rows)
        found = arena(changed)
        if found is None or (size is not None and (found, c.again) >= (size, again)):
            continue
        best, size, again = changed, found, c.again
        if size <= most:
            return Fitted(best, fits=True)
    return Fitted(best, fits=size is not None and size <= most)


def _candidates(program: Program, heavy: list[int]) -> Iterator[_Candidate]:
    if not heavy:
        return
    low, high = min(heavy), max(heavy)
    for first in range(low, max(-1, high - _MOST_LAYERS), -1):
        for count in range(max(2, high - first + 1), _MOST_LAYERS + 1):
            if not _is_chain(program, first, count):
                continue
            layers = [program.layer(s) for s in program.steps[first : first + count]]
            for rows in _HEIGHTS:
                found = _candidate(layers, first, rows)
                if found is not None:
                    yield found


def _is_chain(program: Program, first: int, count: int) -> bool:
    steps = program.steps[first : first + count]
    if len(steps) != count or not all(fits_bands(program.layer(step)) for step in steps):
        return False
    for step, following in pairwise(steps):
        (result,) = step.outputs
        readers = [k for s in program.steps for k in s.inputs if k == result]
        alone = len(readers) == 1 and result not in (*program.outputs, *program.variables)
        if following.inputs[0] != result or not alone:
            return False
    return steps[0].inputs[0] not in program.variables


def _candidate(layers: list[Layer], first: int, rows: int) -> _Candidate | None:
    if rows >= layers[-1].output.shape[1]:
        return None
    bands = schedule(layers, rows)
    if bands is None:
        return None
    done = rows_done(layers, bands)
    again = sum(
        (done[k] - layer.output.shape[1]) * _row_work(layer) for k, layer in enumerate(layers)
    )
    between = max(
        layer.output.size_bytes // layer.output.shape[1] * (span.end - span.begin)
        for band in bands
        for layer, span in zip(layers[:-1], band, strict=False)
    )
    return _Candidate(again, layers[0].input(0).size_bytes + between, first, len(layers), rows)


def _row_work(layer: Layer) -> int:
    """Return the multiply-accumulates of a row of the result, or what is like them."""
    y = layer.output
    row = y.size // y.shape[1]
    if isinstance(layer.op, Conv | DepthwiseConv):
        axis = 0 if isinstance(layer.op, Conv) else -1
        return row * layer.input(1).size // layer.input(1).shape[axis]
    return row


def notes_of(
    program: Program, fits: bool, most: int, sizes: tuple[int, int], repeated: Mapping[str, int]
) -> tuple[Diagnostic, ...]:
    """Return what was done, and whether it was enough.

    Parameters
    ----------
    sizes
        Of the arena, as it would be and as it is.
    repeated
        By layer, multiply-accumulates that are done again.
    """
    before, after = sizes
    notes = [
        Diagnostic(
            f"computed {'a row' if step.op.rows == 1 else f'{step.op.rows} rows'} at a time: "
            f"the arena takes {after:,} bytes instead of {before:,}, and "
            f"{repeated[step.layer]:,} multiply-accumulates are done again",
            step.layer,
        )
        for step in program.steps
        if isinstance(step.op, Bands)
    ]
    if not fits:
        notes.append(
            Diagnostic(
                f"no way to compute it was found with an arena of {most:,} bytes: this is the "
                f"smallest, with {after:,}",
                program.name,
                "a smaller input or model helps",
            )
        )
    return tuple(notes)
