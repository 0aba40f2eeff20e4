"""Samples that are a little different each time they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgec.ir import Array

__all__ = ["WAYS", "Way", "mixed", "varied"]

_IMAGES = 5
"""Axes of stacked images, each with a batch of its own."""

_MOVED = 1 / 8


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which images may differ.

    Parameters
    ----------
    side
        Along which of their two sides: those of the last three axes that are longest, so that
        it does not matter whether channels come first or last.
    mirrored
        Whether half of them are mirrored; else all are moved by up to an eighth, and what
        leaves at one end comes back at the other.
    """

    side: int
    mirrored: bool

    def of(self, images: Tensor, draws: Array) -> Tensor:
        """Return stacked images, each changed as a number between 0 and 1 says."""
        longest = np.argsort([-n for n in images.shape[-3:]], kind="stable")[:2]
        axis = int(np.sort(longest)[self.side]) - 3
        if self.mirrored:
            each = [
                one.flip(axis) if d < 0.5 else one for one, d in zip(images, draws, strict=True)
            ]
        else:
            steps = np.rint((2 * draws - 1) * _MOVED * images.shape[axis]).astype(int)
            each = [torch.roll(one, int(k), axis) for one, k in zip(images, steps, strict=True)]
        return torch.stack(each)


WAYS = tuple(Way(side, mirrored) for mirrored in (False, True) for side in (0, 1))


def varied(
    feeds: Mapping[str, Tensor], ways: Sequence[Way], rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return samples whose images differ from before; all images of a sample in the same way.

    No label has to be right for that: the original is asked about the very same numbers.
    """
    found = dict(feeds)
    for way in ways:
        draws = rng.random(_count(feeds))
        for name, tensor in found.items():
            if tensor.ndim == _IMAGES and tensor.is_floating_point():
                found[name] = way.of(tensor, draws)
    return found


def mixed(
    feeds: Mapping[str, Tensor], share: float, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return samples of which a share has become a mixture of two.

    What has integers among its inputs is left as it is: between two words there is none.
    """
    if not all(t.is_floating_point() for t in feeds.values()):
        return dict(feeds)
    count = _count(feeds)
    part = np.where(rng.random(count) < share, rng.random(count) / 2, 0.0)
    other = torch.from_numpy(np.roll(np.arange(count), 1))
    weights = torch.from_numpy(part.astype(np.float32))
    return {name: t + _each(weights, t) * (t[other] - t) for name, t in feeds.items()}


def _count(feeds: Mapping[str, Tensor]) -> int:
    return len(next(iter(feeds.values())))


def _each(weights: Tensor, like: Tensor) -> Tensor:
    """Return one number for each sample in a shape that fits all of its elements."""
    return weights.reshape(-1, *(1,) * (like.ndim - 1))
