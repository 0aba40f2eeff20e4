"""Loss in nats."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.errors import DataError, UnsupportedError
from edgec.evaluate import evaluate
from edgec.ir import Graph, Op
from edgec.ops import (
    Add,
    ArgMax,
    Clip,
    HardSigmoid,
    LpNorm,
    Mul,
    Reshape,
    Shape,
    Sigmoid,
    Softmax,
    Tanh,
)
from edgec.passes.divergence import Divergence
from tests.targets.graphs import Feeds, Net, f32


def moved(
    *by: float, softmax: bool = False, shape: tuple[int, ...] = (1, 2), last: Op | None = None
) -> Graph:
    net = Net(x=(*shape, 1))
    net.add("r", Reshape(shape), "x")
    made = net.add("a", Add(), "r", f32(by))
    if softmax or last is not None:
        made = net.add("y", last or Softmax(-1), made)
    return net.graph(made)


def feeds(*rows: list[float]) -> list[Feeds]:
    return [{"x": f32(row).reshape(1, 2, 1)} for row in rows]


def nats(p: float, q: float) -> float:
    return float(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


@pytest.mark.parametrize("softmax", [False, True])
def test_of_classes_it_is_the_divergence_of_what_is_predicted(softmax: bool) -> None:
    measure = Divergence(moved(0, 0, softmax=softmax), feeds([0, 0], [1, 0]))

    assert measure.of(moved(3, 3, softmax=softmax)).any() is np.bool_(not softmax)
    half = np.log(3) / 2
    found = measure.of(moved(half, -half, softmax=softmax))
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
        Divergence(moved(0, 0), feeds([1, 1], [1, np.inf]))


def test_of_other_outputs_it_is_half_of_the_relative_error() -> None:
    shape = (1, 2, 1)
    measure = Divergence(moved(0, shape=shape), [{"x": np.full((*shape, 1), 2, np.float32)}])
    np.testing.assert_allclose(measure.of(moved(1, shape=shape)), [1 / 4 / 2])


def test_what_all_logits_have_in_common_counts_as_a_number() -> None:
    """They may be numbers: then it is an error like any other."""
    measure = Divergence(moved(0, 0), feeds([3, 1], [0, 0]))

    found = measure.of(moved(0.5, 0.5))

    energies = np.array([(9 + 1) / 2, 0.1 * (5 + 0) / 2])  # at least a tenth of the mean
    np.testing.assert_allclose(found, 0.5**2 / energies / 2)


@pytest.mark.parametrize("last", [Sigmoid(), Tanh(), HardSigmoid(), Clip(-9, 9), LpNorm()])
def test_what_is_bounded_is_no_class(last: Op) -> None:
    given = feeds([3, 1], [0.5, 0])
    measure = Divergence(moved(0, 0, last=last), given)

    found = measure.of(moved(0.5, -0.2, last=last))

    wants, gots = (
        [evaluate(moved(*by, last=last), f)["y"].astype(float) for f in given]
        for by in ([0, 0], [0.5, -0.2])
    )
    energies = [float(np.mean(w**2)) for w in wants]
    errors = [float(np.mean((g - w) ** 2)) for g, w in zip(gots, wants, strict=True)]
    least = 0.1 * float(np.mean(energies))
    want = [e / max(n, least) / 2 for e, n in zip(errors, energies, strict=True)]
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_what_has_the_shape_of_an_input_is_no_class() -> None:
    """As of an autoencoder, which yields what it read."""

    def graph(by: float) -> Graph:
        net = Net(x=(1, 2))
        return net.graph(net.add("y", Add(), "x", f32([by, 0])))

    measure = Divergence(graph(0), [{"x": f32([[200, 100]])}])
    np.testing.assert_allclose(measure.of(graph(20)), [20**2 / 2 / 25000 / 2])


def test_several_outputs_add_up_and_none_of_them_has_classes() -> None:
    def graph(*by: float) -> Graph:
        net = Net(x=(1, 2))
        net.add("a", Add(), "x", f32([by]))
        net.add("b", Mul(), "a", f32([10]))
        return net.graph("a", "b")

    measure = Divergence(graph(0, 0), [{"x": f32([[1, 1]])}])
    np.testing.assert_allclose(measure.of(graph(1, 1)), [0.5 + 0.5])


def test_what_is_no_number_costs_everything() -> None:
    measure = Divergence(moved(0, 0), feeds([1, 1]))
    assert measure.of(moved(np.nan, 0)) == np.inf
