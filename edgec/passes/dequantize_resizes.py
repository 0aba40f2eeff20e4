"""Interpolation between stored integers, as that between the real numbers they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph, Op, QuantParams
from edgec.ops import Resize
from edgec.passes.base import Lossy, Pass, Promise
from edgec.passes.dequantize_moves import in_pairs

__all__ = ["DequantizeResizes"]


@dataclass(frozen=True, slots=True)
class DequantizeResizes(Pass):
    """Let a linear `Resize` of the integers of a quantized value resize real numbers.

    ``Quantize -> Resize`` becomes ``Quantize -> Dequantize -> Resize -> Quantize``, all on one
    grid, for which runtimes have kernels. Models in QOperator form have it so.

    Lossy: ONNX Runtime cuts what it interpolates between integers off towards zero, and here
    it is rounded to the nearest: closer to the real numbers, and at most one step apart.
    """

    name: ClassVar[str] = "dequantize-resizes"
    promise: ClassVar[Promise] = Lossy()

    @override
    def run(self, graph: Graph) -> Graph:
        return in_pairs(graph, _real)


def _real(op: Op, params: QuantParams) -> Op | None:
    del params  # a mean of numbers on a grid is one of the real numbers; not what is beyond
    linear = isinstance(op, Resize) and op.mode == "linear" and not op.roi
    return op if linear else None
