"""Dilated average pools between integer layers: ONNX Runtime must not see them there."""

from __future__ import annotations

import numpy as np

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph, QuantParams
from edgec.ops import Dequantize, DilatedAveragePool, Quantize, Transpose
from edgec.targets import OnnxRuntime
from edgec.targets.onnxruntime.part_pools import PartPools
from tests.targets.graphs import Net, ran, random

GRID = QuantParams((0.05,), (120,))
POOL = DilatedAveragePool((2, 2), dilation=(2, 2))
X = {"x": random(1, 2, 5, 5)}


def pooled(*, moved: bool) -> Graph:
    net = Net(x=(1, 2, 5, 5))
    net.add("q", Quantize(GRID, DType.UINT8), "x")
    net.add("d", Dequantize(GRID, DType.UINT8), "q")
    last = net.add("p", POOL, "d")
    if moved:
        last = net.add("t", Transpose((0, 2, 3, 1)), last)
    net.add("r", Quantize(GRID, DType.UINT8), last)
    return net.graph(net.add("y", Dequantize(GRID, DType.UINT8), "r"))


def test_the_runtime_takes_what_it_would_refuse() -> None:
    for moved in (False, True):
        graph = pooled(moved=moved)
        after = PartPools().run(graph)

        got, _, _ = ran(OnnxRuntime(), after, X)
        np.testing.assert_allclose(got["y"], evaluate(graph, X)["y"], atol=0.051)
        assert PartPools().run(after) is after
        assert next(n for n in after.nodes if n.op == POOL).origin == ("p",)


def test_a_graph_without_integers_stays() -> None:
    net = Net(x=(1, 2, 5, 5))
    graph = net.graph(net.add("p", POOL, "x"))

    assert PartPools().run(graph) is graph


def test_it_is_done_before_emission() -> None:
    assert PartPools() in OnnxRuntime().finish()
