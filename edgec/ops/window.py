"""Windows that slide over lines, images and volumes: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.ir import UNKNOWN, Dim, OnnxNode

__all__ = ["Pads", "Window", "explicit_pads", "out_length"]

Pads = tuple[int, ...]
"""Before each spatial axis, then after each: of an image before H and W, after H and W."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the spatial axes, which come after N and C."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    dilation: tuple[int, ...] = (1, 1)

    @property
    def span(self) -> tuple[int, ...]:
        """From the first to the last element that the window covers, both counted."""
        pairs = zip(self.kernel, self.dilation, strict=True)
        return tuple(dilation * (kernel - 1) + 1 for kernel, dilation in pairs)

    def out(self, size: Sequence[Dim], pads: Pads, *, ceil: bool = False) -> tuple[Dim, ...]:
        """Return the output lengths; raise ``ValueError`` if the window does not fit."""
        axes = len(self.kernel)
        fields = (self.stride, self.dilation, pads[:axes], pads[axes:], size)
        if any(len(f) != axes for f in fields):
            raise ValueError(
                f"strides {self.stride}, dilations {self.dilation} and pads {pads} are not for "
                f"a kernel {self.kernel} over {len(size)} axes"
            )
        return tuple(
            out_length(
                size[i],
                self.kernel[i],
                self.stride[i],
                self.dilation[i],
                pads[i],
                pads[i + axes],
                ceil=ceil,
            )
            for i in range(axes)
        )


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
    if stride < 1 or dilation < 1:
        raise ValueError(f"a window does not move by {stride}, nor spread by {dilation}")
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
    axes = len(window.kernel)
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return tuple(node.attributes.get("pads", (0,) * (2 * axes)))
    if mode == "VALID":
        return (0,) * (2 * axes)
    before, after = [], []
    for i, length in enumerate(size):
        if isinstance(length, str):
            return None
        count = -(-length // window.stride[i])
        total = max((count - 1) * window.stride[i] + window.span[i] - length, 0)
        small, large = total // 2, total - total // 2
        upper = mode == "SAME_UPPER"
        before.append(small if upper else large)
        after.append(large if upper else small)
    return (*before, *after)
