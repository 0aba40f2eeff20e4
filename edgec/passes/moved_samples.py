"""Samples moved a little: what a model was trained on it may know by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgec.ir import Array

__all__ = ["moved"]

_IMAGE = 4
_SHARE = 1 / 8


def moved(
    samples: Sequence[Mapping[str, Array]], copies: int = 1, *, seed: int = 0
) -> list[Mapping[str, Array]]:
    """Return samples whose images are moved by up to an eighth of their height and width.

    What leaves at one side comes back at the other. A model was often trained on the samples
    that calibrate it, and answers them with more certainty than others; what a change costs
    shows better on such copies.

    Arrays of floats with four axes are images, whose height and width are the two longest axes
    behind the batch. Where no array is one, the samples come back as they are, once.

    Parameters
    ----------
    copies
        How often each sample comes back, each time moved in another way.
    """
    if not any(_is_image(a) for sample in samples for a in sample.values()):
        return list(samples)
    rng = np.random.default_rng(seed)
    found: list[Mapping[str, Array]] = []
    for _ in range(copies):
        for sample in samples:
            shares = rng.uniform(-_SHARE, _SHARE, 2)
            found.append({n: _rolled(a, shares) for n, a in sample.items()})
    return found


def _is_image(array: Array) -> bool:
    return array.ndim == _IMAGE and array.dtype.kind == "f"


def _rolled(array: Array, shares: Array) -> Array:
    if not _is_image(array):
        return array
    lengths = np.array(array.shape[1:])
    axes = np.sort(np.argsort(-lengths, kind="stable")[:2]) + 1
    steps = np.rint(shares * [array.shape[int(a)] for a in axes]).astype(int)
    return np.roll(array, steps.tolist(), axes.tolist())
