"""The bias with which a layer's channels have the means that they should have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array
from edgec.ops import Activation
from edgec.passes.judging import held_out

__all__ = ["Yielded", "best_bias", "places"]

_CHANNELS = 1
_TURNS = 3


def places(rank: int) -> tuple[int, ...]:
    """Return all axes of a layer's result but that of the channels."""
    return tuple(axis for axis in range(rank) if axis != _CHANNELS)


@dataclass(frozen=True, slots=True)
class Yielded:
    """What a layer yields before its activation, on every sample."""

    results: Sequence[Array]
    bounds: tuple[float, float]

    def moved(self, by: Array) -> Iterator[Array]:
        """Yield the results behind the activation, with each channel's bias moved."""
        along = by.reshape(-1, *(1,) * (self.results[0].ndim - 2)).astype(np.float32)
        for y in self.results:
            yield np.clip(y + along, *self.bounds).astype(np.float32)

    def means(self, by: Array) -> Array:
        """Return the mean of each channel behind the activation, for each sample."""
        axes = places(self.results[0].ndim)
        return np.array([y.mean(axes, dtype=np.float64) for y in self.moved(by)])

    def free(self, by: Array) -> Array:
        """Return the share of each channel that the activation does not cut off."""
        axes = places(self.results[0].ndim)
        low, high = self.bounds
        shares = [((y > low) & (y < high)).mean(axes) for y in self.moved(by)]
        return np.asarray(np.array(shares).mean(axis=0))


def best_bias(
    found: Yielded, want: Array, steps: Array, biases: Sequence[Array]
) -> tuple[Array, Array, Array]:
    """Return the bias with whose means a layer is nearest to those it should have.

    Of several biases, and of the last of them moved until the means are right: by Newton's
    method, as what the activation cuts off does not move with the bias. A channel that is cut
    off nearly everywhere moves by no more than one of which a fifth is left would. A move ``d``
    with standard error ``e`` over the samples is shrunk to ``d * max(0, 1 - e^2 / d^2)``: a
    mean over few samples is a guess, and many small wrong moves add up to noise. Which bias is
    best, samples say that the move was not computed from.

    Parameters
    ----------
    found
        With the first of the biases.
    want
        Mean of each channel behind the activation, ``[samples, C]``.
    steps
        What one step of the integer bias is.
    biases
        Integers, in float64.

    Returns
    -------
    bias
        Integers, in float64: the first of those that are equally good.
    before, after
        How far the mean of each channel is off with the first bias and with the best.

    References
    ----------
    Nagel et al., arXiv:1906.04721, section 4.2; empirical form. The factor is that of James
    and Stein (1961), for each channel alone.
    """
    held = held_out(len(want))
    start = (biases[-1] - biases[0]) * steps
    moved = start + np.zeros(want.shape[1])
    turns = 1 if found.bounds == Activation.NONE.bounds else _TURNS
    missing = np.zeros_like(want)
    for _ in range(turns):
        missing = (want - found.means(moved))[~held] / np.maximum(found.free(moved), 0.2)
        moved += missing.mean(axis=0)
    chance = missing.var(axis=0, ddof=1) / len(missing)
    move = moved - start
    move *= np.maximum(0, 1 - chance / np.maximum(move**2, 1e-30))
    offered = [*biases, np.clip(np.rint(biases[-1] + move / steps), -(2**31), 2**31 - 1)]
    off = [(want - found.means((b - biases[0]) * steps))[held].mean(axis=0) for b in offered]
    best = int(np.argmin([(o**2).sum() for o in off]))
    return offered[best], off[0], off[best]
