"""Pixel shuffles, which exporters write as reshape, transpose and reshape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph, Node
from edgec.ops import DepthToSpace, Transpose
from edgec.passes.base import Exact, Pass, Promise
from edgec.passes.patterns import Call, Reader, kind, recognize

__all__ = ["RecognizePixelShuffle"]


@dataclass(frozen=True, slots=True)
class RecognizePixelShuffle(Pass):
    """Rewrite what unfolds channels into blocks of pixels as ``DepthToSpace``.

    ``x [N, C * B * B, H, W]`` is reshaped to six axes, ``[N, C, B, B, H, W]`` (pixel shuffle)
    or ``[N, B, B, C, H, W]``, transposed so that each ``B`` follows its side of the image, and
    reshaped to ``[N, C, H * B, W * B]``. Lengths must be known. Exact: numbers are only moved.

    A channel shuffle stays as it is: no target has one operator for it.
    """

    name: ClassVar[str] = "recognize-pixel-shuffle"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        return recognize(graph, (_pixel_shuffle,), ("Transpose",))


_ORDERS: Mapping[tuple[int, ...], bool] = {
    (0, 1, 4, 2, 5, 3): True,
    (0, 3, 4, 1, 5, 2): False,
}
"""The transpose, and whether the channels come first among the axes they are split into."""


def _pixel_shuffle(r: Reader, node: Node) -> Call | None:
    turned = r.made_by(node.inputs[0], "Transpose") if kind(node) == "Reshape" else None
    split = r.made_by(turned.inputs[0], "Reshape") if turned else None
    if turned is None or split is None or not isinstance(turned.op, Transpose):
        return None
    x, wide = split.inputs[0].type, split.outputs[0].type
    column_first = _ORDERS.get(turned.op.perm)
    if column_first is None or x.rank != 4 or not (x.is_static and wide.is_static):
        return None
    n, channels, height, width = x.ints
    block = wide.ints[3 if column_first else 1]
    inner = channels // block**2
    blocks = (n, inner, block, block) if column_first else (n, block, block, inner)
    if wide.ints != (*blocks, height, width):
        return None
    return Call.of(DepthToSpace(block, column_first), split.inputs[0])
