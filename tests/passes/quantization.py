"""Schemes, and what is asked of quantized graphs."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array, DType, Graph, Node, QuantParams
from edgec.numerics import sqnr
from edgec.ops import (
    Dequantize,
    Quantize,
)
from edgec.passes import QuantizeGraph, Scheme
from tests.targets.graphs import random

__all__ = [
    "INT8",
    "REDUCED",
    "SCHEMES",
    "UINT8",
    "X",
    "dequantized",
    "grids",
    "layer",
    "ratio",
    "reasons",
]

INT8, UINT8 = Scheme(DType.INT8), Scheme(DType.UINT8)
REDUCED = Scheme(DType.UINT8, 63)
SCHEMES = pytest.mark.parametrize(
    "scheme", [INT8, UINT8, REDUCED], ids=["int8", "uint8", "7bit"]
)
X = random(1, 2, 6, 6)


def grids(graph: Graph) -> dict[str, QuantParams]:
    """Return the grid of every quantized activation, by the name of its float value."""
    return {
        n.output.name.split(".quantized")[0]: n.op.params
        for n in graph.nodes
        if isinstance(n.op, Quantize)
    }


def dequantized(graph: Graph, node: Node) -> list[tuple[Array, Dequantize]]:
    """Return the stored constants that a node reads."""
    found = []
    for value in node.inputs:
        source = graph.producers.get(value)
        if source is not None and isinstance(source.op, Dequantize):
            array = graph.constant(source.inputs[0])
            if array is not None:
                found.append((array, source.op))
    return found


def layer(graph: Graph, name: str) -> Node:
    return next(
        n
        for n in graph.nodes
        if name in n.origin and not isinstance(n.op, Quantize | Dequantize)
    )


def reasons(graph: Graph, keep_float: tuple[str, ...] = ()) -> list[str]:
    return [str(r) for r in QuantizeGraph(keep_float=keep_float).diagnostics(graph)]


def ratio(want: Array, got: Array) -> float:
    w, error = want.astype(np.float64), (got - want).astype(np.float64)
    return sqnr(float((w * w).sum()), float((error * error).sum()))
