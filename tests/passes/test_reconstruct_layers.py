"""Layers are fitted to what comes out in the end: behind activations and beside branches."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from edgec.ir import Array, Constant, DType, Graph, verify
from edgec.ops import Activation, Add, Conv
from edgec.passes import ReconstructLayers
from edgec.passes.activated_fit import Fit, Rows
from edgec.passes.channel_cuts import ChannelCuts
from edgec.passes.divergence import Divergence
from edgec.passes.patches import results_at
from tests.passes.test_prune_channels import SHAPE, samples
from tests.targets.graphs import Net, random


def branches(activation: Activation = Activation.NONE, *, other: Activation) -> Graph:
    """Two layers with the same weights, which therefore stay, and one beside the second."""
    net = Net(x=SHAPE)
    net.add("a", Conv(), "x", random(3, 3, 1, 1, seed=1))
    net.add("b", Conv(), "a", "a.1")
    net.add("c", Conv(activation=other), "x", random(3, 3, 1, 1, seed=2), random(3))
    return net.graph(net.add("y", Add(activation=activation), "b", "c"))


def spoilt(graph: Graph, name: str) -> Graph:
    constants = dict(graph.constants)
    array = constants[name].array
    constants[name] = Constant(array + 0.2 * random(*array.shape, seed=9))
    return replace(graph, constants=MappingProxyType(constants))


def nats(graph: Graph, made: Graph) -> float:
    return float(Divergence(graph, samples(32, seed=9)).of(made).mean())


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU])
def test_a_branch_makes_up_for_what_it_is_added_to(activation: Activation) -> None:
    graph = branches(activation, other=Activation.NONE)
    worse = spoilt(graph, "a.1")
    made, records = ReconstructLayers(graph, {}, samples()).run_recorded(worse)
    assert [(r.layer, r.kept) for r in records] == [("c", "fitted")]
    assert records[0].after_db > records[0].before_db + 40
    assert nats(graph, worse) > 1e-3
    assert nats(graph, made) < 1e-8


def test_layers_of_float16_are_fitted_in_their_own_type() -> None:
    net = Net(DType.FLOAT16, x=SHAPE)
    one, two, bias = (random(*s, seed=k).astype(np.float16) for k, s in enumerate(HALVES))
    net.add("a", Conv(activation=Activation.RELU), "x", one, bias)
    graph = net.graph(net.add("y", Conv(), "a", two, bias))
    feeds = [{"x": f["x"].astype(np.float16)} for f in samples()]
    constants = dict(graph.constants)
    constants["y.1"] = Constant((two + np.float16(0.2)).astype(np.float16))
    worse = replace(graph, constants=MappingProxyType(constants))

    made, records = ReconstructLayers(graph, {}, feeds).run_recorded(worse)

    verify(made)
    assert [(r.layer, r.kept) for r in records] == [("y", "fitted")]
    assert {c.array.dtype for c in made.constants.values()} == {np.dtype(np.float16)}
    assert records[0].after_db > records[0].before_db + 30


HALVES = ((3, 3, 1, 1), (3, 3, 1, 1), (3,))


def test_a_branch_behind_an_activation_is_fitted_to_itself() -> None:
    graph = branches(other=Activation.RELU)
    worse = spoilt(graph, "a.1")
    assert ReconstructLayers(graph, {}, samples()).run(worse) is worse
    worse = spoilt(graph, "c.1")
    assert nats(graph, worse) > 1e-3
    assert nats(graph, ReconstructLayers(graph, {}, samples()).run(worse)) < 1e-8


def test_only_the_channels_that_are_left_are_compared() -> None:
    net = Net(x=SHAPE)
    net.add("b", Conv(), "x", random(3, 3, 1, 1, seed=1))
    net.add("c", Conv(), "x", random(3, 3, 1, 1, seed=2), random(3))
    net.add("d", Add(), "b", "c")
    graph = net.graph(net.add("y", Conv(), "d", random(5, 3, 1, 1, seed=3)))
    cuts = ChannelCuts(graph, samples(), compensate=False)
    (name,) = cuts.groups
    pruned = cuts.cut({name: 2}, "l1")
    made, records = ReconstructLayers(
        graph, cuts.kept({name: 2}, "l1"), samples()
    ).run_recorded(pruned)
    assert [r.layer for r in records] == ["b", "c", "y"]
    assert nats(graph, made) < 0.5 * nats(graph, pruned)
    assert min(r.after_db for r in records[:2]) > 60  # what is left of the sum is right


def activated(turns: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the error before and after the fit, of what is a line between the bounds only."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((1, 6, 4))
    both = Rows(bounds), Rows(bounds)
    for rows in both:
        x = rng.standard_normal((1, 4000, 4)).astype(np.float32)
        line = (x @ weight.transpose(0, 2, 1)).astype(np.float32)
        added = rng.standard_normal((1, 4000, 6)).astype(np.float32)
        line += added
        want = np.where((line > -0.1) & (line < 1.1), line, 3 * line)
        rows.add(x, want, added)
    fit = Fit(*both, weight / 2, np.zeros((1, 6)), free=True)
    return fit.plain.error, fit.best((1e-4,), turns).error


def test_what_an_activation_cuts_off_need_not_be_right() -> None:
    for bounds in ((0.0, 1.0), (-0.1, 1.1)):
        _, linear = activated(0, bounds)
        _, aimed = activated(8, bounds)
        assert aimed < 0.3 * linear


def test_without_an_activation_the_first_fit_stands() -> None:
    bounds = (-np.inf, np.inf)
    assert activated(8, bounds) == activated(0, bounds)


def test_results_at_places() -> None:
    y = np.arange(2 * 4 * 3 * 3, dtype=np.float32).reshape(2, 4, 3, 3)
    found: Array = results_at(y, 2, np.array([0, 10]))
    assert found.shape == (2, 2, 2)
    np.testing.assert_array_equal(found[0], [y[0, :2, 0, 0], y[1, :2, 0, 1]])
    np.testing.assert_array_equal(found[1], [y[0, 2:, 0, 0], y[1, 2:, 0, 1]])
