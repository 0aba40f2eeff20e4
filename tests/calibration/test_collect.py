"""Calibration: one streaming pass over the samples."""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from edgec.calibration import METHODS, Calibration, MinMax, RangeMethod, calibrate
from edgec.errors import DataError
from edgec.evaluate import evaluate
from edgec.ir import Array, Graph, Value
from edgec.ops import Activation, Conv, Div, MaxPool, Relu
from tests.targets.graphs import Net, f32, random

METHOD = pytest.mark.parametrize("method", [make() for make in METHODS.values()], ids=METHODS)


def net() -> Graph:
    made = Net(x=(1, 3, 16, 16))
    made.add("a", Conv(pad=(1, 1, 1, 1), activation=Activation.RELU), "x",
             random(8, 3, 3, 3, seed=1))  # fmt: skip
    made.add("b", Conv(), "a", random(8, 8, 1, 1, seed=2))
    made.add("y", MaxPool((2, 2), (2, 2)), "b")
    return made.graph("y")


def named(graph: Graph, *names: str) -> list[Value]:
    return [v for name in names for v in graph.values() if v.name == name]


def feeds(count: int, scale: float = 1.0) -> Iterator[Mapping[str, Array]]:
    for i in range(count):
        yield {"x": random(1, 3, 16, 16, seed=i % 50) * np.float32(scale)}


def calibrated(count: int, method: RangeMethod) -> Calibration:
    graph = net()
    return calibrate(graph, named(graph, "x", "a", "b"), feeds(count), method)


def test_ranges_are_those_of_all_samples() -> None:
    graph = net()
    want: dict[str, tuple[float, float]] = {}
    values = named(graph, "x", "a", "b")
    outputs = Graph("net", graph.inputs, tuple(values[1:]), graph.nodes[:2], graph.constants)
    for name in ("x", "a", "b"):
        arrays = [{**evaluate(outputs, f), **f}[name] for f in feeds(5)]
        want[name] = (min(0.0, min(float(a.min()) for a in arrays)),
                      max(float(a.max()) for a in arrays))  # fmt: skip

    found = calibrated(5, MinMax())

    assert (found.method, found.samples) == ("minmax", 5)
    assert set(found.ranges) == {"x", "a", "b"}
    for name, (low, high) in want.items():
        assert found.ranges[name] == pytest.approx((low, high), rel=1e-5)
    assert found.ranges["a"][0] == 0


@METHOD
def test_the_same_samples_give_the_same_ranges(method: RangeMethod) -> None:
    assert calibrated(6, method) == calibrated(6, method)


@METHOD
def test_memory_does_not_grow_with_the_samples(method: RangeMethod) -> None:
    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            calibrated(count, method)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # imports and caches

    # 350 more samples are 1 MB, and their activations 6 MB.
    assert peak(400) <= peak(50) + 100_000


def test_progress_counts_samples() -> None:
    graph, seen = net(), list[int]()

    calibrate(graph, named(graph, "b"), feeds(3), MinMax(), seen.append)

    assert seen == [1, 2, 3]


def test_samples_are_taken_one_at_a_time() -> None:
    graph, order = net(), list[str]()

    def source() -> Iterator[Mapping[str, Array]]:
        for i, feed in enumerate(feeds(2)):
            order.append(f"feed {i}")
            yield feed

    calibrate(graph, named(graph, "a"), source(), MinMax(), lambda n: order.append(f"seen {n}"))

    assert order == ["feed 0", "seen 1", "feed 1", "seen 2"]


def test_no_samples_is_an_error() -> None:
    graph = net()

    with pytest.raises(DataError, match="there are no calibration samples"):
        calibrate(graph, named(graph, "a"), iter(()))


@METHOD
def test_a_value_that_is_not_finite_is_named_with_its_sample(method: RangeMethod) -> None:
    made = Net(x=(1, 3))
    made.add("inverse", Div(), np.ones((1, 3), np.float32), "x")
    made.add("y", Relu(), "inverse")
    graph = made.graph("y")
    good, bad = f32([[1, 2, 3]]), f32([[1, 0, 3]])

    with pytest.raises(DataError) as caught:
        calibrate(
            graph, named(graph, "inverse"), [{"x": good}, {"x": good}, {"x": bad}], method
        )

    assert str(caught.value) == (
        "the model computes infinities or NaN on the calibration data\n"
        "  calibration sample 2: %inverse is not a finite number"
    )
    assert caught.value.exit_code == 2


def test_an_input_that_is_not_finite_is_named_too() -> None:
    graph = net()
    bad = {"x": np.full((1, 3, 16, 16), math.nan, np.float32)}

    with pytest.raises(DataError, match=r"calibration sample 0: %x is not a finite number"):
        calibrate(graph, named(graph, "x"), [bad])


def test_values_that_only_come_in_need_no_evaluation() -> None:
    graph = net()

    found = calibrate(graph, list(graph.inputs), feeds(2, scale=3))

    assert set(found.ranges) == {"x"}
    assert found.samples == 2
