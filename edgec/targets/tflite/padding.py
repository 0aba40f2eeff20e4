"""From explicit pads to what TFLite can say: SAME, VALID, or padding of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array
from edgec.ops.window import Pads, Window

__all__ = ["Padding", "counts", "padding"]


@dataclass(frozen=True, slots=True)
class Padding:
    """How a window operator is padded.

    Parameters
    ----------
    same
        Whether the operator pads itself, as TensorFlow's SAME does.
    explicit
        What must be padded before; all zero if nothing.
    """

    same: bool
    explicit: Pads


def padding(
    window: Window,
    size: Sequence[int],
    pads: Pads,
    out: Sequence[int],
    *,
    builtin: bool = True,
) -> Padding:
    """Return how to pad for a result of size `out`.

    Elements that no window reaches are not padded; where the result needs more than `pads`
    says (pooling in ceil mode), the rest is added at the end.

    Parameters
    ----------
    builtin
        Whether the operator may pad itself.
    """
    axes = len(window.kernel)
    after: list[int] = []
    same: list[bool] = []
    for i in range(axes):
        total = (out[i] - 1) * window.stride[i] + window.span[i] - size[i]
        after.append(max(total - pads[i], 0))
        # TensorFlow: out = ceil(in / stride), the odd element of padding comes last.
        fits = out[i] == -(-size[i] // window.stride[i])
        same.append(fits and pads[i] == max(total, 0) // 2)
    explicit = (*pads[:axes], *after)
    if builtin and any(explicit) and all(same):
        return Padding(same=True, explicit=(0,) * (2 * axes))
    return Padding(same=False, explicit=explicit)


def counts(
    window: Window, size: Sequence[int], pads: Pads, out: Sequence[int], *, padded: bool
) -> list[Array]:
    """Return for each axis how many elements the window holds at each of its places.

    Parameters
    ----------
    padded
        Whether elements of the padding count; what hangs over it, in ceil mode, never does.
    """
    found: list[Array] = []
    axes = len(window.kernel)
    for i in range(axes):
        before, after = (pads[i], pads[i + axes]) if padded else (0, 0)
        start = np.arange(out[i]) * window.stride[i] - pads[i]
        places = start[:, None] + np.arange(window.kernel[i]) * window.dilation[i]
        found.append(((places >= -before) & (places < size[i] + after)).sum(1))
    return found
