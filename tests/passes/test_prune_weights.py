from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array, Graph, verify
from edgec.ops import (
    Activation,
    Conv,
    DepthwiseConv,
    FullyConnected,
    GroupedConv,
    MatMul,
    Reshape,
)
from edgec.passes import OptimizeRounding, PruneWeights, Scheme, ShareWeights, round_weights
from edgec.passes.divergence import Divergence
from edgec.passes.layer_recovery import walked
from edgec.passes.sparse_weights import Sparsity
from tests.passes.quantization import dequantized, layer
from tests.passes.test_round_weights import COARSE, smooth
from tests.targets.graphs import Feeds, Net, quantized, random

HALF = Sparsity(0.5)


def small() -> Graph:
    net = Net(x=(1, 4, 8, 8))
    net.add("a", Conv(activation=Activation.RELU), "x", random(8, 4, 3, 3, seed=1), random(8))
    net.add("d", DepthwiseConv(), "a", random(8, 1, 3, 3, seed=3), random(8, seed=2))
    net.add("g", GroupedConv(groups=2), "d", random(12, 4, 3, 3, seed=4), random(12, seed=6))
    net.add("r", Reshape((1, 48)), "g")
    net.add("f", FullyConnected(), "r", random(24, 48, seed=5), random(24, seed=7))
    return net.graph(net.add("y", MatMul(), "f", random(24, 10, seed=8)))


def weight(graph: Graph, name: str) -> Array:
    node = next(n for n in graph.nodes if name in n.origin)
    found = graph.constant(node.inputs[1])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def feeds() -> list[Feeds]:
    return smooth(48, 1, 4, 8, 8)


def test_half_of_each_layers_weights_become_zero(feeds: list[Feeds]) -> None:
    made, records = PruneWeights(feeds, HALF).run_recorded(small())

    verify(made)
    for name in "agfy":
        assert (weight(made, name) == 0).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(weight(made, "d"), weight(small(), "d"))
    assert [r.layer for r in records] == list("agfy")
    assert all(r.kept == "50.0 % zeros" for r in records)
    assert all(r.after_db > r.before_db + 1 for r in records)


def test_patterns_go_along_the_input_channels(feeds: list[Feeds]) -> None:
    made = PruneWeights(feeds, Sparsity(pattern=(2, 4))).run(small())

    assert ((weight(made, "a") != 0).sum(axis=1) == 2).all()
    assert ((weight(made, "g") != 0).sum(axis=1) == 2).all()
    products = weight(made, "y").reshape(6, 4, 10)
    assert ((products != 0).sum(axis=1) == 2).all()


def test_outputs_stay_nearer_than_with_the_smallest_weights_gone(feeds: list[Feeds]) -> None:
    graph = small()
    held = Divergence(graph, smooth(32, 1, 4, 8, 8, first=500))
    made = PruneWeights(feeds, HALF).run(graph)

    plain = Net(x=(1, 4, 8, 8))
    arrays = {name: weight(graph, name).copy() for name in "adgfy"}
    for name in "agfy":
        small_ = np.abs(arrays[name]) < np.median(np.abs(arrays[name]))
        arrays[name][small_] = 0
    plain.add("a", Conv(activation=Activation.RELU), "x", arrays["a"], random(8))
    plain.add("d", DepthwiseConv(), "a", arrays["d"], random(8, seed=2))
    plain.add("g", GroupedConv(groups=2), "d", arrays["g"], random(12, seed=6))
    plain.add("r", Reshape((1, 48)), "g")
    plain.add("f", FullyConnected(), "r", arrays["f"], random(24, seed=7))
    smallest = plain.graph(plain.add("y", MatMul(), "f", arrays["y"]))

    assert held.of(made).mean() < 0.5 * held.of(smallest).mean()


def test_layers_have_the_share_they_are_given(feeds: list[Feeds]) -> None:
    shares = {"a": Sparsity(0), "f": Sparsity(0.75)}

    step = PruneWeights(feeds, HALF, shares)
    made, records = step.run_recorded(small())

    np.testing.assert_array_equal(weight(made, "a"), weight(small(), "a"))
    assert (weight(made, "f") == 0).mean() == pytest.approx(0.75, abs=0.01)
    assert [r.layer for r in records] == list("gfy")
    told = {d.where: d.message for d in step.diagnostics(small())}
    assert "asked to stay" in told["a"]
    assert "depthwise" in told["d"]


def test_weights_that_others_share_stay(feeds: list[Feeds]) -> None:
    net = Net(x=(1, 4, 8, 8))
    net.const("w", random(4, 4, 3, 3, seed=1))
    net.add("a", Conv(), "x", "w")
    graph = net.graph(net.add("y", Conv(), "a", "w"))

    step = PruneWeights(feeds, HALF)

    assert step.run(graph) is graph
    assert {d.where for d in step.diagnostics(graph)} == {"a", "y"}
    assert all("the same weights" in d.message for d in step.diagnostics(graph))


def test_layers_that_are_too_large_are_named_with_a_way_out() -> None:
    net = Net(x=(1, 2400))
    net.add("f", FullyConnected(), "x", random(8, 2400), random(8))
    graph = net.graph(net.add("y", FullyConnected(), "f", random(4, 8), random(4)))
    feeds = [{"x": random(1, 2400, seed=k)} for k in range(16)]

    step = PruneWeights(feeds, HALF)
    made, records = step.run_recorded(graph)

    np.testing.assert_array_equal(weight(made, "f"), weight(graph, "f"))
    assert [r.layer for r in records] == ["y"]
    (note,) = step.diagnostics(graph)
    assert note.where == "f"
    assert "2400 inputs to a sum are more than 2304" in note.message
    assert "a recipe that stores weights in 8 or 4 bits" in note.hint


def test_few_samples_change_nothing_and_it_is_said(feeds: list[Feeds]) -> None:
    graph = small()
    step = PruneWeights(feeds[:7], HALF)

    assert step.run(graph) is graph
    (note,) = step.diagnostics(graph)
    assert "7 samples are too few" in note.message


def test_the_same_comes_out_each_time(feeds: list[Feeds]) -> None:
    first, second = (PruneWeights(feeds, HALF).run(small()) for _ in range(2))

    for name in "agfy":
        np.testing.assert_array_equal(weight(first, name), weight(second, name))


@pytest.mark.parametrize("scheme", [COARSE, Scheme(packed=(Conv, FullyConnected))])
@pytest.mark.parametrize("step", ["round", "optimize", "share"])
def test_zeros_stay_zeros_in_integers(step: str, scheme: Scheme, feeds: list[Feeds]) -> None:
    graph = PruneWeights(feeds, HALF).run(small())
    before = quantized(graph, *feeds, scheme=scheme)

    choose = {
        "round": round_weights._best,
        "optimize": OptimizeRounding(graph, feeds, iterations=40)._optimized,
        "share": ShareWeights(graph, feeds, 6)._shared,
    }
    made, _ = walked(before, graph, feeds, choose[step])

    changed = 0
    for name in "af":
        (old, _), (new, _) = (dequantized(g, layer(g, name))[0] for g in (before, made))
        zeros = weight(graph, name) == 0
        assert (new.astype(int)[zeros] == 0).all()
        changed += int((new.astype(int) != old.astype(int)).sum())
    assert changed
