"""Whether images have their channels in the order the model knows: labels can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from edgec.calibration.report import Warned
from edgec.calibration.watch import channel_axis
from edgec.ir import Array, Value

__all__ = ["check_channels"]

_COLOURS = 3
_SURE = 2.0
"""Standard deviations; with the right order, swapping loses and the other sign comes out."""


def check_channels(
    scores: Callable[[Mapping[str, Array]], Array],
    inputs: Iterable[Value],
    feeds: Iterable[Mapping[str, Array]],
    labels: Array,
) -> tuple[Warned, ...]:
    """Return a warning if the float model is right more often with red and blue swapped.

    Parameters
    ----------
    scores
        Computes the scores of the classes, [N, classes].
    labels
        One row for each sample of `feeds`.
    """
    found = {v.name: (channel_axis(v.type), v.type) for v in inputs}
    axes = {k: a for k, (a, t) in found.items() if a is not None and t.shape[a] == _COLOURS}
    if not axes:
        return ()
    gained = lost = given = swapped = count = 0
    for feed, label in zip(feeds, labels, strict=True):
        other = {k: np.flip(x, axes[k]).copy() if k in axes else x for k, x in feed.items()}
        a = scores(feed).argmax(axis=1) == label
        b = scores(other).argmax(axis=1) == label
        gained, lost = gained + int((b & ~a).sum()), lost + int((a & ~b).sum())
        given, swapped, count = given + int(a.sum()), swapped + int(b.sum()), count + a.size
    if gained - lost <= _SURE * np.sqrt(gained + lost):
        return ()
    names = ", ".join(repr(name) for name in axes)
    return (
        Warned(
            "channels",
            f"input {names}",
            f"the model is right on {100 * swapped / count:.1f} % of {count} samples with red "
            f"and blue swapped, on {100 * given / count:.1f} % as they are given",
            "give the channels in the other order; for images in a folder, color=bgr in "
            "--preprocess",
        ),
    )
