"""From explicit pads to what TFLite can say: SAME, VALID, or padding of its own."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.ops.window import Pads, Window

__all__ = ["Padding", "padding"]


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
    explicit: Pads = (0, 0, 0, 0)


def padding(window: Window, size: tuple[int, int], pads: Pads, out: tuple[int, int]) -> Padding:
    """Return how to pad for a result of size `out`.

    Rows and columns that no window reaches are not padded; where the result needs more than
    `pads` says (pooling in ceil mode), the rest is added at the end.
    """
    needed: list[tuple[int, int]] = []
    same: list[bool] = []
    for i in (0, 1):
        span = window.dilation[i] * (window.kernel[i] - 1) + 1
        total = (out[i] - 1) * window.stride[i] + span - size[i]
        before = pads[i]
        needed.append((before, max(total - before, 0)))
        # TensorFlow: out = ceil(in / stride), the odd element of padding comes last.
        fits = out[i] == -(-size[i] // window.stride[i])
        same.append(fits and before == max(total, 0) // 2)
    (top, bottom), (left, right) = needed
    if not any((top, bottom, left, right)):
        return Padding(same=False)
    if all(same):
        return Padding(same=True)
    return Padding(same=False, explicit=(top, left, bottom, right))
