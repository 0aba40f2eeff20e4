"""What the order of loops means for memory: how far a result may follow behind its operand."""

from __future__ import annotations

import numpy as np

from edgec.program.operators import Pads, Pair

__all__ = ["row_slack", "window_slack"]


def window_slack(
    x: tuple[int, ...],
    y: tuple[int, ...],
    strides: Pair,
    pads: Pads,
    itemsize: int = 1,
    *,
    at_once: int = 1,
    fetched: bool = False,
) -> int:
    """Return the slack of a loop over the places of a result, row by row.

    At each place a window is read whose first row and column are clamped to the picture.

    Parameters
    ----------
    x, y
        Shapes ``[N, H, W, C]``.
    itemsize
        Bytes of a number, of both.
    at_once
        How many neighbours of a row are computed together.
    fetched
        Whether the windows are read wholly before the numbers at their places are written.
    """
    _, height, width, channels = x
    batches, rows, columns, filters = y
    (top, _), (left, _) = pads
    first_row = [min(height, max(0, oy * strides[0] - top)) for oy in range(rows)] + [height]
    everything = batches * height * width * channels
    least = everything  # where all is read before anything is written
    starts = np.arange(0, columns, at_once, dtype=np.int64)
    ends = np.minimum(columns, starts + at_once)
    following = ends if fetched else starts  # the first place of the row that is still read
    column = np.clip(following * strides[1] - left, 0, width)
    for n in range(batches):
        for oy in range(rows):
            beneath = first_row[oy + 1] * width
            here = np.where(following < columns, first_row[oy] * width + column, beneath)
            dead = (n * height * width + np.minimum(here, beneath)) * channels
            written = ((n * rows + oy) * columns + ends) * filters
            room = (dead - written)[dead < everything]  # else there is nothing to be kept
            if room.size:
                least = min(least, int(room.min()))
    return least * itemsize


def row_slack(rows: int, read: int, written: int) -> int:
    """Return the slack of a loop over rows of which each is read wholly, then written.

    Parameters
    ----------
    read, written
        Bytes of a row of the operand and of the result.
    """
    return min((row + 1) * (read - written) for row in range(rows))
