"""Pads between integer layers: done on the integers."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph, QuantParams
from edgec.ops import Dequantize, Pad, Quantize
from edgec.targets.onnxruntime.pad_integers import PadIntegers
from tests.targets.graphs import Net

GRID = QuantParams((0.5,), (7,))
OTHER = QuantParams((0.25,), (7,))


def padded(inside: QuantParams, after: QuantParams, op: Pad) -> Graph:
    net = Net(x=(1, 2, 3, 3))
    net.add("q", Quantize(inside, DType.UINT8), "x")
    net.add("d", Dequantize(inside, DType.UINT8), "q")
    net.add("p", op, "d")
    net.add("r", Quantize(after, DType.UINT8), "p")
    return net.graph(net.add("y", Dequantize(after, DType.UINT8), "r"))


def test_pads_the_integers_with_the_zero_point() -> None:
    graph = padded(GRID, GRID, Pad((0, 0, 1, 0, 0, 2, 0, 1)))
    after = PadIntegers().run(graph)

    assert [str(n.op).split("(")[0] for n in after.nodes] == ["Quantize", "Pad", "Dequantize"]
    assert after.nodes[1].op == Pad((0, 0, 1, 0, 0, 2, 0, 1), 7.0)
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32)
    want = evaluate(graph, {"x": x})
    np.testing.assert_array_equal(evaluate(after, {"x": x})["y"], want["y"])


@pytest.mark.parametrize(
    ("inside", "after", "op"),
    [
        (GRID, OTHER, Pad((0, 0, 1, 0, 0, 0, 0, 0))),
        (GRID, GRID, Pad((0, 0, 1, 0, 0, 0, 0, 0), 1.0)),
    ],
    ids=["another grid", "another value"],
)
def test_keeps_a_pad(inside: QuantParams, after: QuantParams, op: Pad) -> None:
    graph = padded(inside, after, op)

    assert PadIntegers().run(graph) is graph
