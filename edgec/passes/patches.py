"""What each output of a layer is a product of: patches of its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.ir import Array, Op
from edgec.ops import Conv, Convolution, DepthwiseConv, FullyConnected, GroupedConv

__all__ = ["groups_of", "patches", "places_of", "results_at"]


def groups_of(op: Op, channels: int) -> int | None:
    """Return in how many groups a layer computes its channels.

    ``None`` for what is no sum over patches of its input.
    """
    match op:
        case Conv() | FullyConnected():
            return 1
        case GroupedConv():
            return op.groups
        case DepthwiseConv():
            return channels
        case _:
            return None


def places_of(result: Array) -> int:
    """Return at how many places an array ``[N, C, ...]`` has a value of each channel."""
    return int(result.shape[0] * math.prod(result.shape[2:]))


def patches(
    op: Op, kernel: tuple[int, ...], x: Array, y: Array, groups: int, at: Array
) -> tuple[Array, Array]:
    """Return patches of the input and what the layer yields for them.

    Parameters
    ----------
    kernel
        Shape of the weights.
    at
        Which places to take, as flat indices over the batch and the spatial axes.

    Returns
    -------
    x
        ``[groups, places, n]``: what each output of a group is the sum over.
    y
        ``[groups, places, outputs]``.
    """
    where = np.unravel_index(at, (y.shape[0], *y.shape[2:]))
    if isinstance(op, Convolution):
        axes = len(op.stride)
        pads = list(zip(op.pad[:axes], op.pad[axes:], strict=True))
        padded = np.pad(x, [(0, 0), (0, 0), *pads]) if any(op.pad) else x
        span = [d * (k - 1) + 1 for d, k in zip(op.dilation, kernel[2:], strict=True)]
        every = np.lib.stride_tricks.sliding_window_view(
            padded, span, axis=tuple(range(2, 2 + axes))
        )
        apart: tuple[Any, ...] = (..., *(slice(None, None, d) for d in op.dilation))
        starts = [i * s for i, s in zip(where[1:], op.stride, strict=True)]
        found = _at(every[apart], (where[0], *starts))
    else:
        found = x[where[0]]
    inner = found.reshape(len(at), groups, -1).transpose(1, 0, 2)
    return np.ascontiguousarray(inner), results_at(y, groups, at)


def results_at(y: Array, groups: int, at: Array) -> Array:
    """Return an array ``[N, C, ...]`` at some places: ``[groups, places, C / groups]``."""
    n, channels, *size = y.shape
    taken = _at(y, np.unravel_index(at, (n, *size)))
    results = taken.reshape(len(at), groups, channels // groups).transpose(1, 0, 2)
    return np.ascontiguousarray(results)


def _at(array: Array, where: Sequence[Array]) -> Array:
    """Return what an array ``[N, C, ...]`` holds at some places: ``[places, C, ...]``."""
    index: tuple[Any, ...] = (where[0], slice(None), *where[1:])
    return np.asarray(array[index])
