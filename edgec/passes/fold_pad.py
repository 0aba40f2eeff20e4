"""Fold padding into the layer behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node
from edgec.ops import AveragePool, Convolution, MaxPool, Pad, Pool
from edgec.passes.base import Exact, Pass, Promise
from edgec.passes.bounds import bounds

__all__ = ["FoldPad"]


@dataclass(frozen=True, slots=True)
class FoldPad(Pass):
    """Rewrite ``Conv(Pad(x))`` and ``Pool(Pad(x))`` as one layer with larger pads.

    Only along spatial axes, and only what the layer's own padding amounts to: zeros
    for a convolution, zeros that count for an average, and for a maximum any number that no
    element of ``x`` is below, such as zeros behind a ReLU. A pool without dilation, without
    ``ceil_mode`` and wider than its pads, so that each window sees an element of ``x``.

    Other readers of the padded value keep the `Pad`. Exact: the same zeros are multiplied.
    """

    name: ClassVar[str] = "fold-pad"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._fold(b, node):
                b.copy(node)
        return b.finish()

    def _fold(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, Convolution | Pool):
            return False
        op, absorbed = node.op, list[Node]()
        x, *rest = map(b.now, node.inputs)
        while (pad := b.producer(x)) is not None and isinstance(pad.op, Pad):
            spatial = _spatial(pad.op)
            if spatial is None or not _fits(b, op, pad, pad.op):
                break
            wider = _wider(op, spatial)
            if wider is None:
                break
            op, x = wider, pad.inputs[0]
            absorbed.insert(0, pad)
        if absorbed:
            b.add(op, x, *rest, like=node, absorbs=absorbed)
        return bool(absorbed)


def _spatial(pad: Pad) -> tuple[int, ...] | None:
    """Return the pads before and after all axes but the first two, if those have none."""
    rank = len(pad.pads) // 2
    before, after = pad.pads[:rank], pad.pads[rank:]
    if any((*before[:2], *after[:2])) or min(pad.pads) < 0:
        return None
    return before[2:] + after[2:]


def _fits(b: Builder, op: Convolution | Pool, node: Node, pad: Pad) -> bool:
    """Whether what a `Pad` adds is what the padding of a layer amounts to."""
    match op:
        case AveragePool():
            return pad.value == 0 and (op.count_include_pad or not any(op.pad))
        case MaxPool():
            (x,) = node.inputs
            least, _ = bounds(x, b.producer)
            return pad.value <= max(least, _lowest(x.type.dtype))
    return pad.value == 0


def _lowest(dtype: DType) -> float:
    """Return a number that no finite element is below."""
    if dtype in (DType.FLOAT16, DType.FLOAT32, DType.FLOAT64):
        return float(np.finfo(dtype.name.lower()).min)
    return -np.inf if dtype.is_float else float(dtype.limits[0])


def _wider(op: Convolution | Pool, more: tuple[int, ...]) -> Convolution | Pool | None:
    """Return the layer with more padding, or ``None`` if it cannot have that."""
    pad = tuple(a + c for a, c in zip(op.pad, more, strict=True))
    if isinstance(op, Pool):
        if op.ceil_mode or any(d != 1 for d in op.dilation):
            return None
        if any(p >= k for p, k in zip(pad, op.kernel * 2, strict=True)):
            return None
    wider = replace(op, pad=pad)
    return replace(wider, count_include_pad=True) if isinstance(wider, AveragePool) else wider
