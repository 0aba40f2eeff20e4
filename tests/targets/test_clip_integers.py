"""Clips after quantization instead of before: the same integers."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph, Op, QuantParams
from edgec.ops import Activation, Add, Clip, Conv, Dequantize, Quantize, Relu
from edgec.passes import Scheme
from edgec.targets.onnxruntime.absorb import AbsorbActivations
from edgec.targets.onnxruntime.clip_integers import ClipIntegers
from tests.targets.graphs import Net, f32, quantized, random, tiny_cnn

GRIDS = [
    (QuantParams((0.1,), (0,)), DType.INT8),
    (QuantParams((0.03,), (128,)), DType.UINT8),
    (QuantParams((0.0123,), (-100,)), DType.INT8),
    (QuantParams((2.0**-4,), (7,)), DType.UINT8),
]
VALUES = np.resize(
    f32([*np.linspace(-15, 15, 601), 0.05, -0.05, 5.95, 6.05, 0.5, -1, 1, 1e6, -1e6]), (1, 640)
)


def clipped(op: Op, grid: QuantParams, dtype: DType) -> Graph:
    net = Net(x=(1, 640))
    net.add("sum", op, "x", *([f32(0)] if isinstance(op, Add) else []))
    net.add("q", Quantize(grid, dtype), "sum")
    return net.graph(net.add("y", Dequantize(grid, dtype), "q"))


def kinds(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph.nodes]


@pytest.mark.parametrize(("grid", "dtype"), GRIDS)
@pytest.mark.parametrize(
    "op",
    [
        *(Add(a) for a in Activation if a is not Activation.NONE),
        *(Relu(), Clip(-0.7, 0.33), Clip(high=-1.0), Clip(low=2.0), Clip(-20, -10), Clip(20)),
    ],
    ids=str,
)
def test_the_integers_stay_the_same(op: Op, grid: QuantParams, dtype: DType) -> None:
    before = clipped(op, grid, dtype)
    after = ClipIntegers().run(before)

    quantize = next(n for n in after.nodes if isinstance(n.op, Quantize))
    made = after.producers.get(quantize.inputs[0])
    assert made is None or made.op == Add()
    np.testing.assert_array_equal(
        evaluate(after, {"x": VALUES})["y"], evaluate(before, {"x": VALUES})["y"]
    )


def test_only_the_bound_is_clipped_that_saturation_misses() -> None:
    after = ClipIntegers().run(clipped(Relu(), QuantParams((0.1,), (128,)), DType.UINT8))

    assert kinds(after) == ["Quantize", "Clip", "Dequantize"]
    assert after.nodes[1].op == Clip(low=128.0)


def test_every_reader_has_its_own_grid() -> None:
    net = Net(x=(1, 640))
    net.add("r", Relu(), "x")
    for name, scale in (("a", 0.1), ("b", 0.02)):
        net.add(f"{name}.q", Quantize(QuantParams((scale,), (0,))), "r")
        net.add(name, Dequantize(QuantParams((scale,), (0,))), f"{name}.q")
    before = net.graph("a", "b")
    after = ClipIntegers().run(before)

    assert "Relu" not in kinds(after)
    want, got = (evaluate(g, {"x": VALUES}) for g in (before, after))
    for name in ("a", "b"):
        np.testing.assert_array_equal(got[name], want[name])


def test_a_clip_stays_that_others_read_as_real_numbers() -> None:
    grid = QuantParams((0.1,), (0,))
    net = Net(x=(1, 4))
    net.add("r", Relu(), "x")
    net.add("q", Quantize(grid), "r")
    net.add("y", Dequantize(grid), "q")
    graph = net.graph("y", "r")
    assert ClipIntegers().run(graph) is graph

    net.add("other", Add(), "r", f32(1))
    graph = net.graph("y", "other")
    assert ClipIntegers().run(graph) is graph


def test_a_clip_stays_before_a_grid_per_channel() -> None:
    grid = QuantParams((0.1, 0.2), (0, 0), 1)
    net = Net(x=(1, 2))
    net.add("r", Relu(), "x")
    net.add("q", Quantize(grid), "r")
    graph = net.graph(net.add("y", Dequantize(grid), "q"))

    assert ClipIntegers().run(graph) is graph


def test_layers_of_a_symmetric_graph_are_next_to_their_quantize() -> None:
    graph, feeds = tiny_cnn()
    before = quantized(graph, feeds, scheme=Scheme(DType.UINT8, symmetric=True))
    after = ClipIntegers().run(AbsorbActivations().run(before))

    for node in after.nodes:
        if isinstance(node.op, Conv | Add):
            assert node.op.activation is Activation.NONE
            assert all(isinstance(u.op, Quantize) for u in after.users[node.output])
    assert ClipIntegers().run(after) is after
    feeds = {"image": random(1, 3, 8, 8, seed=9)}
    np.testing.assert_array_equal(
        evaluate(after, feeds)["classes"], evaluate(before, feeds)["classes"]
    )
