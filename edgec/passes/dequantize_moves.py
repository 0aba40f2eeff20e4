"""Moves of stored integers, as moves of the real numbers they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node, Op, QuantParams, SameAsInput, Value
from edgec.ops import Dequantize, Pad, Quantize, Resize, Trilu
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["DequantizeMoves", "in_pairs"]

_Grid = tuple[QuantParams, DType]


@dataclass(frozen=True, slots=True)
class DequantizeMoves(Pass):
    """Let what only moves or compares the integers of quantized values move real numbers.

    ``Quantize -> Reshape`` becomes ``Quantize -> Dequantize -> Reshape -> Quantize``, all on
    one grid, and so do transposes, slices, max pools, a concatenation of values on one grid,
    paddings with the zero point and the nearest form of a resize. Models in QOperator form
    have them so, and a target then sees pairs around every operator.

    Exact: a dequantized number is on its grid, and is quantized to the integer it came from.
    """

    name: ClassVar[str] = "dequantize-moves"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        return in_pairs(graph, _real)


def in_pairs(graph: Graph, real: Callable[[Op, QuantParams], Op | None]) -> Graph:
    """Return a graph in which operators on integers are operators on real numbers, in pairs.

    Parameters
    ----------
    real
        What is to be computed on the real numbers, for an operator on integers on a grid;
        ``None`` for one that is to stay. Its results are on the grid of its operands.
    """
    b = Builder(graph)
    grids: dict[Value, _Grid] = {}
    for node in graph.nodes:
        if isinstance(node.op, Quantize) and node.op.params.axis is None:
            grids[node.output] = (node.op.params, node.op.dtype)
        if not _rewrite(b, node, grids, real):
            b.copy(node)
    return b.finish()


def _rewrite(
    b: Builder,
    node: Node,
    grids: dict[Value, _Grid],
    real: Callable[[Op, QuantParams], Op | None],
) -> bool:
    """Put an operator in pairs and note the grid of its results; whether it is to be."""
    grid = grids.get(node.inputs[0]) if node.inputs else None
    if grid is None or isinstance(node.op, Dequantize):
        return False
    params, dtype = grid
    op = real(node.op, params)
    if op is None:
        return False
    data = replace(node, op=op).data
    results = [v for v in node.outputs if v.type.dtype is dtype]
    if any(grids.get(v) != grid for v in data):
        return False
    inputs = [
        b.step(Dequantize(params, dtype), b.now(v), of=node, near=f"{v.name}.real")
        if v in data
        else b.now(v)
        for v in node.inputs
    ]
    names = [b.fresh(f"{v.name}.float") if v in results else v.name for v in node.outputs]
    made = b.add(op, *inputs, names=names, absorbs=(node,))
    for old, new in zip(node.outputs, made, strict=True):
        if old in results:
            names = [old.name]
            (stored,) = b.add(Quantize(params, dtype), new, names=names, absorbs=(node,))
            grids[old] = grid
        else:
            stored = new
        b.replace(old, stored)
    return True


def _real(op: Op, params: QuantParams) -> Op | None:
    """Return the move on real numbers of what is one on integers."""
    match op:
        case Pad():
            return replace(op, value=0.0) if op.value == params.zero_point[0] else None
        case Resize() if op.mode != "nearest":
            return None  # on integers, what is interpolated is cut off to one
        case Trilu() if params.zero_point[0]:
            return None  # it writes zeros
    rule = op.quant_rule()
    return op if rule is not None and isinstance(rule.output, SameAsInput) else None
