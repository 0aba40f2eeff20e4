"""Times that are predicted from shapes."""

from __future__ import annotations

import pytest

from edgec.ir import Graph
from edgec.latency import KERNELS, Kernels, kernels_for, node_seconds, predicted_seconds
from edgec.ops import Add, Conv, DepthwiseConv, FullyConnected, MatMul, Reshape
from tests.targets.graphs import Net, quantized, random

UNIT = Kernels(4, (1, 10, 1e3, 1e5, 1e7, 1e9), (2, 20, 2e3, 2e5), (3, 30), (4, 40), 7)


def conv(out: int, kernel: int) -> Graph:
    net = Net(x=(1, 2, 4, 4))
    net.add("y", Conv(), "x", random(out, 2, kernel, kernel))
    return net.graph("y")


def test_a_convolution_pays_for_whole_tiles_and_for_windows_that_overlap() -> None:
    places = 2 * 2
    one = predicted_seconds(conv(3, 3), UNIT)
    assert one == (
        1
        + 10 * places * 4 * 18
        + 1e3 * places * 3
        + 1e5 * 32
        + 1e7 * 3 * 18
        + 1e9 * places * 18
    )
    flat = predicted_seconds(conv(3, 1), UNIT)
    assert flat == 1 + 10 * 16 * 4 * 2 + 1e3 * 16 * 3 + 1e5 * 32 + 1e7 * 6


def test_depthwise_dense_and_other_kernels_have_costs_of_their_own() -> None:
    net = Net(x=(1, 2, 4, 4))
    net.add("d", DepthwiseConv(pad=(1, 1, 1, 1)), "x", random(2, 1, 3, 3))
    net.add("a", Add(), "d", "x")
    net.add("r", Reshape((1, 32)), "a")
    net.add("y", FullyConnected(), "r", random(5, 32))
    graph = net.graph("y")
    deep, add, reshape, dense = (node_seconds(n, UNIT) for n in graph.nodes)

    assert deep == 2 + 20 * 16 * 4 * 9 + 2e3 * 32 + 2e5 * 32
    assert add == 4 + 40 * 32
    assert reshape == 0
    assert dense == 3 + 30 * 160 + 10 * 160


def test_several_channels_of_each_have_other_kernels() -> None:
    net = Net(x=(1, 2, 4, 4))
    net.add("y", DepthwiseConv(pad=(1, 1, 1, 1)), "x", random(6, 1, 3, 3))
    took = predicted_seconds(net.graph("y"), UNIT)
    assert took == 2 + 7 * 16 * 8 * 9 + 2e3 * 96 + 2e5 * 32
    for kernels in KERNELS.values():
        assert kernels.multiplied >= kernels.depthwise[1]


def test_many_rows_of_a_product_read_its_weights_once() -> None:
    net = Net(x=(1, 7, 6))
    net.add("y", MatMul(), "x", random(6, 5))
    assert predicted_seconds(net.graph("y"), UNIT) == 3 + 30 * 30 + 10 * 210


@pytest.mark.parametrize("kind", KERNELS)
def test_fewer_channels_never_take_longer(kind: tuple[str, bool]) -> None:
    took = [predicted_seconds(conv(n, 3), KERNELS[kind]) for n in (16, 32, 48, 64)]
    assert took == sorted(took)
    assert 0 < took[0] < took[-1] < 1e-3


def test_a_model_that_came_quantized_runs_on_integers() -> None:
    graph = conv(16, 3)
    came = quantized(graph, {"x": random(1, 2, 4, 4)})
    floats, integers = (KERNELS["tflite", kind] for kind in (False, True))

    assert kernels_for("tflite", graph, integers=False) is floats
    assert kernels_for("tflite", graph, integers=True) is integers
    assert kernels_for("tflite", came, integers=False) is integers
    # The nodes that say what is quantized are no work of their own.
    assert predicted_seconds(came, integers) == predicted_seconds(graph, integers)


def test_integers_before_little_of_the_work_count_for_little() -> None:
    net = Net(x=(1, 2, 4, 4))
    net.add("s", Conv(), "x", random(2, 2, 1, 1))
    graph = net.graph(net.add("y", Conv(), "s", random(16, 2, 3, 3)))
    part = quantized(graph, {"x": random(1, 2, 4, 4)}, keep_float=("y",))

    assert kernels_for("onnxruntime", part, integers=False) is KERNELS["onnxruntime", False]
