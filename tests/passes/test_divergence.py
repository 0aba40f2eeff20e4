"""Loss in nats."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.errors import DataError, UnsupportedError
from edgec.ir import Graph
from edgec.ops import Add, ArgMax, Mul, Shape, Softmax
from edgec.passes.divergence import Divergence
from tests.targets.graphs import Feeds, Net, f32


def moved(*by: float, softmax: bool = False, shape: tuple[int, ...] = (1, 2)) -> Graph:
    net = Net(x=shape)
    net.add("a", Add(), "x", f32(by))
    return net.graph(net.add("y", Softmax(-1), "a") if softmax else "a")


def nats(p: float, q: float) -> float:
    return float(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


@pytest.mark.parametrize("softmax", [False, True])
def test_of_classes_it_is_the_divergence_of_what_is_predicted(softmax: bool) -> None:
    feeds: list[Feeds] = [{"x": f32([[0, 0]])}, {"x": f32([[1, 0]])}]
    measure = Divergence(moved(0, 0, softmax=softmax), feeds)

    assert not measure.of(moved(3, 3, softmax=softmax)).any()
    found = measure.of(moved(np.log(3), 0, softmax=softmax))
    want = [nats(0.5, 0.75), nats(np.e / (np.e + 1), 3 * np.e / (3 * np.e + 1))]
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_an_output_of_integers_is_judged_by_what_it_was_chosen_from() -> None:
    def graph(*by: float) -> Graph:
        net = Net(x=(1, 2))
        net.add("a", Add(), "x", f32(by))
        return net.graph(net.add("y", ArgMax(1, keepdims=False), "a"))

    measure = Divergence(graph(0, 0), [{"x": f32([[0, 1]])}])
    assert measure.of(graph(0, 1))[0] > 0.05


def test_without_floats_nothing_can_be_told() -> None:
    net = Net(x=(1, 2))
    shape = net.graph(net.add("y", Shape(), "x"))
    with pytest.raises(UnsupportedError, match="no output comes from floats"):
        Divergence(shape, [{"x": f32([[1, 1]])}])


def test_a_model_that_yields_no_numbers_is_refused() -> None:
    with pytest.raises(DataError, match="NaN or infinities for calibration sample 1"):
        Divergence(moved(0, 0), [{"x": f32([[1, 1]])}, {"x": f32([[1, np.inf]])}])


def test_of_other_outputs_it_is_half_of_the_relative_error() -> None:
    shape = (1, 2, 1)
    measure = Divergence(moved(0, shape=shape), [{"x": np.full(shape, 2, np.float32)}])
    np.testing.assert_allclose(measure.of(moved(1, shape=shape)), [1 / 4 / 2])


def test_several_outputs_add_up_and_none_of_them_has_classes() -> None:
    def graph(*by: float) -> Graph:
        net = Net(x=(1, 2))
        net.add("a", Add(), "x", f32([by]))
        net.add("b", Mul(), "a", f32([10]))
        return net.graph("a", "b")

    measure = Divergence(graph(0, 0), [{"x": f32([[1, 1]])}])
    np.testing.assert_allclose(measure.of(graph(1, 1)), [0.5 + 0.5])


def test_what_is_no_number_costs_everything() -> None:
    measure = Divergence(moved(0, 0), [{"x": f32([[1, 1]])}])
    assert measure.of(moved(np.nan, 0)) == np.inf
