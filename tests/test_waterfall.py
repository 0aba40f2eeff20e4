"""The error of each layer is that of graphs in which only it, or all, is quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from edgec.calibration import MinMax, Percentile, calibrate
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph
from edgec.numerics import sqnr
from edgec.ops import Activation, Add, Concat, Conv, FullyConnected, MaxPool, Relu, Reshape
from edgec.passes import QuantizeGraph
from edgec.waterfall import Difference, LayerError, waterfall
from tests.passes.quantization import INT8
from tests.targets.graphs import Net, f32, random

SAMPLES = [{"x": random(1, 3, 8, 8, seed=seed)} for seed in range(6)]


def net() -> Graph:
    made = Net(x=(1, 3, 8, 8))
    weights = random(8, 8, 1, 1, seed=3) / 3
    made.add("a", Conv(activation=Activation.RELU), "x", random(8, 3, 3, 3, seed=1) / 4,
             random(8, seed=2))  # fmt: skip
    made.add("b", Conv(), "a", weights)
    made.add("c", Conv(), "b", weights)  # with the weights of another
    made.add("sum", Add(), "c", "a")
    made.add("shift", Add(), "sum", f32([0.5, -0.25]).reshape(1, 1, 1, 2).repeat(3, axis=3))
    made.add("pool", MaxPool((2, 2), (2, 2)), "shift")
    made.add("flat", Reshape((1, 72)), "pool")
    made.add("y", FullyConnected(), "flat", random(5, 72, seed=4), random(5, seed=5))
    return made.graph("y")


def quantizer(graph: Graph, *keep_float: str, percentile: float = 100) -> QuantizeGraph:
    method = MinMax() if percentile == 100 else Percentile(percentile)
    values = [v for v in graph.values() if graph.constant(v) is None]
    return QuantizeGraph(calibrate(graph, values, SAMPLES, method), INT8, keep_float)


def errors(graph: Graph, step: QuantizeGraph) -> dict[str, LayerError]:
    found = waterfall(graph, step.plan(graph), step.run(graph), iter(SAMPLES), len(SAMPLES))
    return {layer.layer: layer for layer in found}


def measured(graph: Graph, other: Graph, name: str) -> Mapping[str, float]:
    """Return figures of a value of two graphs, computed from all samples at once."""
    a, b = (_values(g, name) for g in (graph, other))
    error = b - a
    return {
        "sqnr_db": sqnr(float((a * a).sum()), float((error * error).sum())),
        "cosine": float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())),
        "max_error": float(np.abs(error).max()),
    }


def _values(graph: Graph, name: str) -> Array:
    (value,) = [v for v in graph.values() if v.name == name]
    evaluator = Evaluator(graph, [value], optimize=True)
    return np.stack([evaluator.run(f)[name] for f in SAMPLES]).astype(np.float64)


def assert_close(found: Mapping[str, float], want: Mapping[str, float]) -> None:
    for key, value in want.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=0.02), key


def test_layers_come_in_order_and_those_that_move_values_do_not() -> None:
    graph = net()

    assert list(errors(graph, quantizer(graph))) == ["a", "b", "c", "sum", "shift", "y"]


def test_accumulated_is_the_quantized_graph_as_it_is() -> None:
    graph = net()
    step = quantizer(graph)

    found = errors(graph, step)

    for name, layer in found.items():
        assert_close(layer.accumulated, measured(graph, step.run(graph), name))


@pytest.mark.parametrize("name", ["a", "b", "c", "sum", "shift"])
def test_alone_is_a_graph_with_only_that_layer_in_integers(name: str) -> None:
    graph = net()
    others = [n.output.name for n in graph.nodes if n.output.name != name]

    found = errors(graph, quantizer(graph))[name]

    assert_close(found.alone, measured(graph, quantizer(graph, *others).run(graph), name))


def test_the_first_layer_has_nothing_before_it() -> None:
    graph = net()
    found = errors(graph, quantizer(graph))

    assert found["a"].alone == found["a"].accumulated
    assert found["y"].alone["sqnr_db"] > found["y"].accumulated["sqnr_db"]


def test_layers_in_float_are_left_out() -> None:
    graph = net()

    found = errors(graph, quantizer(graph, "b"))

    assert "b" not in found
    assert_close(found["c"].accumulated, measured(graph, quantizer(graph, "b").run(graph), "c"))


def test_saturation_and_the_range_used() -> None:
    graph = net()
    everything = errors(graph, quantizer(graph))["b"].alone
    clipped = errors(graph, quantizer(graph, percentile=90))["b"].alone

    assert everything["saturated"] == 0
    assert 0.9 < everything["range_used"] <= 1
    assert 0.05 < clipped["saturated"] < 0.15
    assert clipped["max_error"] > everything["max_error"]


def test_a_join_is_a_layer() -> None:
    made = Net(x=(1, 3, 8, 8))
    made.add("a", Relu(), "x")
    made.add("b", Conv(), "x", random(2, 3, 1, 1, seed=1) * 20)
    graph = made.graph(made.add("y", Concat(1), "a", "b"))

    found = errors(graph, quantizer(graph))

    assert found["y"].operator == "Concat"


def test_work_and_names_are_those_of_the_layer() -> None:
    graph = net()
    found = errors(graph, quantizer(graph))["a"]

    assert (found.names, found.output, found.macs) == (("a",), "a", 8 * 6 * 6 * 27)


def figures(want: Sequence[float], got: Sequence[float]) -> dict[str, float]:
    made = Difference((-1.0, 1.0, 2 / 255))
    made.add(f32(want), f32(got))
    return made.to_dict()


def test_figures_of_a_few_numbers() -> None:
    assert figures([0.5, -0.5], [0.5, -0.5]) == {
        "sqnr_db": 200.0,
        "cosine": 1.0,
        "max_error": 0.0,
        "saturated": 0.0,
        "range_used": 0.5,
    }
    found = figures([3, 0, 0, 0], [1, 0, 0, 0])
    assert found["saturated"] == 0.25
    assert found["cosine"] == 1.0
    assert figures([1, 0], [0, 1])["cosine"] == 0.0
    assert figures([0.5], [-0.5])["cosine"] == -1.0
    assert figures([], [])["range_used"] == 0.0
