"""Channels are taken out where that costs least, and what is left makes up for them."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.cost import cost
from edgec.evaluate import evaluate
from edgec.ir import Array, Graph, verify
from edgec.ops import Activation, Conv, FullyConnected, GlobalAveragePool, Reshape
from edgec.passes import Judge, PruneChannels, ReconstructLayers
from edgec.passes.prune_channels import _Pruning
from tests.targets.graphs import Net, random

SHAPE = (1, 3, 8, 8)
Samples = list[dict[str, Array]]


def samples(count: int = 48, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(SHAPE).astype(np.float32)} for _ in range(count)]


def redundant() -> Graph:
    """A network with twice as many channels as it needs: half are mixtures of the others."""
    rng = np.random.default_rng(1)
    first = random(8, 3, 3, 3, seed=2)
    mixed = np.einsum("oi,ickl->ockl", rng.standard_normal((8, 8)) / 8, first)
    net = Net(x=SHAPE)
    wide = np.concatenate([first, mixed])[rng.permutation(16)].astype(np.float32)
    net.add("a", Conv(pad=(1, 1, 1, 1)), "x", wide, random(16, seed=3))
    net.add("b", Conv(pad=(1, 1, 1, 1), activation=Activation.RELU), "a",
            random(16, 16, 3, 3, seed=4) / 10, random(16, seed=5))  # fmt: skip
    net.add("mean", GlobalAveragePool(), "b")
    net.add("flat", Reshape((1, 16)), "mean")
    return net.graph(net.add("y", FullyConnected(), "flat", random(5, 16, seed=6), random(5)))


def decibels(graph: Graph, pruned: Graph) -> float:
    judge = Judge(graph, samples(32, seed=9))
    return judge.ratio(judge.errors(pruned))


def test_no_more_work_is_left_than_asked_for_and_the_interface_stays() -> None:
    graph = redundant()
    pruned, records = PruneChannels(0.7, samples()).run_recorded(graph)

    verify(pruned)
    assert cost(pruned).macs <= 0.7 * cost(graph).macs
    assert cost(pruned).macs > 0.4 * cost(graph).macs
    assert [v.type for v in pruned.outputs] == [v.type for v in graph.outputs]
    widths = [r.kept for r in records if " of 16" in r.kept]
    assert widths
    assert all(int(w.split()[0]) % 4 == 0 for w in widths)
    (got,) = evaluate(pruned, samples(1)[0]).values()
    assert np.isfinite(got).all()


def test_channels_that_are_mixtures_of_others_go_for_nothing() -> None:
    graph = redundant()
    pruned = PruneChannels(0.56, samples()).run(graph)
    assert decibels(graph, pruned) > 40


def test_what_is_left_makes_up_for_what_goes() -> None:
    graph, given = redundant(), samples()
    found = {
        (criterion, compensate): decibels(
            graph, PruneChannels(0.56, given, criterion, compensate=compensate).run(graph)
        )
        for criterion in ("l1", "obs")
        for compensate in (False, True)
    }
    assert found["l1", True] > found["l1", False] + 6
    assert found["obs", True] > found["obs", False] + 6


def test_what_is_read_says_more_than_how_large_weights_are() -> None:
    # Half the channels have large weights, and what reads them hardly looks at them.
    first, second = random(16, 3, 3, 3, seed=2), random(16, 16, 1, 1, seed=4)
    first[::2] *= 5
    second[:, ::2] *= 0.01
    net = Net(x=SHAPE)
    net.add("a", Conv(pad=(1, 1, 1, 1)), "x", first, random(16, seed=3))
    net.add("b", Conv(), "a", second, random(16, seed=5))
    graph = net.graph(net.add("y", Conv(), "b", random(16, 16, 1, 1, seed=6)))
    by = {
        criterion: decibels(graph, PruneChannels(0.7, samples(), criterion).run(graph))
        for criterion in ("l1", "energy", "obs")
    }
    assert by["obs"] > by["l1"] + 6
    assert by["energy"] > by["l1"] + 6


@pytest.mark.parametrize("criterion", ["l1", "l2", "energy", "obs"])
def test_every_criterion_reaches_the_target(criterion: str) -> None:
    graph = redundant()
    step = PruneChannels(0.6, samples(), criterion)  # type: ignore[arg-type]
    assert cost(step.run(graph)).macs <= 0.6 * cost(graph).macs


def test_the_same_samples_give_the_same_weights() -> None:
    one, two = (PruneChannels(0.7, samples()).run(redundant()) for _ in range(2))
    assert str(one) == str(two)
    for name, constant in one.constants.items():
        np.testing.assert_array_equal(constant.array, two.constants[name].array)


def test_nothing_goes_where_all_may_stay_or_nothing_can_go() -> None:
    net = Net(x=SHAPE)
    lone = net.graph(net.add("y", Conv(), "x", random(4, 3, 3, 3)))
    assert PruneChannels(0.5, samples()).run(lone) is lone


def test_weights_that_were_spoilt_are_fitted_again() -> None:
    graph, given = redundant(), samples()
    spoilt = PruneChannels(0.56, given, "l1", compensate=False)

    pruning = _Pruning(graph, spoilt)
    pruned, _ = pruning.result()
    fitted, records = ReconstructLayers(graph, pruning.kept, given).run_recorded(pruned)
    assert decibels(graph, fitted) > 40
    assert decibels(graph, pruned) < 20
    assert {r.kept for r in records} >= {"fitted"}
    assert all(r.after_db >= r.before_db for r in records)


def test_what_is_as_it_was_is_not_fitted() -> None:
    graph = redundant()
    assert ReconstructLayers(graph, {}, samples(4)).run(graph) is graph
    assert decibels(graph, ReconstructLayers(graph, {}, samples()).run(graph)) > 80


def test_layers_that_read_a_group_make_up_for_its_mean_too() -> None:
    # What is left are the fits of single layers: nothing is fitted behind them.
    pruning = _Pruning(redundant(), PruneChannels(0.56, samples(), "obs"))
    pruned, _ = pruning.result()
    assert decibels(redundant(), pruned) > 30
