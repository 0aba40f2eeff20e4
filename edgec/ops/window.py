"""Windows that slide over images: the arithmetic convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.ir import UNKNOWN, Dim, OnnxNode

__all__ = ["Pads", "Window", "explicit_pads", "out_length"]

Pads = tuple[int, int, int, int]
"""Before H, before W, after H, after W."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window over H and W."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    dilation: tuple[int, ...] = (1, 1)

    def out(self, size: Sequence[Dim], pads: Pads, *, ceil: bool = False) -> tuple[Dim, Dim]:
        """Return output height and width; raise ``ValueError`` if the window does not fit."""
        h, w = (
            out_length(
                size[i],
                self.kernel[i],
                self.stride[i],
                self.dilation[i],
                pads[i],
                pads[i + 2],
                ceil=ceil,
            )
            for i in (0, 1)
        )
        return h, w


def out_length(
    length: Dim,
    kernel: int,
    stride: int,
    dilation: int,
    before: int,
    after: int,
    *,
    ceil: bool = False,
) -> Dim:
    """Return how many windows fit along one axis.

    With `ceil` a last window may hang over the end, but must begin inside the image or the
    padding before it (ONNX pooling, ``ceil_mode``).
    """
    if isinstance(length, str):
        return UNKNOWN
    span = dilation * (kernel - 1) + 1
    room = length + before + after - span
    if room < 0 or kernel < 1:
        raise ValueError(
            f"a window of {span} does not fit in {length} with padding {before} and {after}"
        )
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= length + before else count


def explicit_pads(node: OnnxNode, window: Window, size: Sequence[Dim]) -> Pads | None:
    """Return the pads of an ONNX node, ``auto_pad`` worked out.

    ``None`` if they depend on a length that is not known.
    """
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
        return top, left, bottom, right
    if mode == "VALID":
        return 0, 0, 0, 0
    halves: list[tuple[int, int]] = []
    for i in (0, 1):
        length = size[i]
        if isinstance(length, str):
            return None
        count = -(-length // window.stride[i])
        span = window.dilation[i] * (window.kernel[i] - 1) + 1
        total = max((count - 1) * window.stride[i] + span - length, 0)
        small, large = total // 2, total - total // 2
        halves.append((small, large) if mode == "SAME_UPPER" else (large, small))
    (top, bottom), (left, right) = halves
    return top, left, bottom, right
