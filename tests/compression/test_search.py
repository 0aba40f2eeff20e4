"""The least loss with which a graph meets a goal, whatever its price is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from edgec.compression import Option, Picks, Price, Site, Technique, search
from edgec.compression.sites import NOTHING_GONE, Kept
from edgec.ir import Array, Graph
from edgec.ops import Relu
from edgec.passes import Pass
from tests.targets.graphs import Net


class Tables(Technique):
    """Sites with made-up losses; the graph's name keeps what was picked."""

    def __init__(self, name: str, losses: Sequence[Sequence[float]]) -> None:
        self._name = name
        self._sites = tuple(
            Site(f"{name}{i}", "", tuple(Option(str(k), n) for k, n in enumerate(each)))
            for i, each in enumerate(losses)
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._sites

    def skeleton(self, picks: Picks, graph: Graph) -> Graph:
        name = graph.name + "".join(f" {site}={k}" for site, k in sorted(picks.items()))
        return Graph(name, graph.inputs, graph.outputs, graph.nodes, graph.constants)

    def passes(self, picks: Picks, kept: Kept = NOTHING_GONE) -> tuple[Pass, ...]:
        return ()


def graph() -> Graph:
    net = Net(x=(1, 3))
    return net.graph(net.add("y", Relu(), "x"))


def picked(made: Graph) -> dict[str, int]:
    parts = [part.split("=") for part in made.name.split() if "=" in part]
    return {site: int(k) for site, k in parts}


def additive(made: Graph) -> float:
    return 100.0 - sum(7.0 * k for k in picked(made).values())


def multiplied(made: Graph) -> float:
    return 100.0 * float(np.prod([1 - 0.2 * k for k in picked(made).values()]))


LOSSES: list[list[float]] = [[0, 1, 5], [0, 0.4, 0.6, 9], [0, 3, 3.1], [0, 0.01, 8]]


@pytest.mark.parametrize("price", [additive, multiplied])
@pytest.mark.parametrize("goal", [90, 72, 51, 45])
def test_the_least_loss_that_meets_the_goal(price: Price, goal: float) -> None:
    one = Tables("a", LOSSES)
    found = search(graph(), [one], price, goal)

    assert found is not None
    assert found.price == price(one.skeleton(found.picks[0], graph())) <= goal
    best = min(
        sum(each[k] for each, k in zip(LOSSES, picks, strict=True))
        for picks in product(*(range(len(each)) for each in LOSSES))
        if price(one.skeleton({f"a{i}": k for i, k in enumerate(picks)}, graph())) <= goal
    )
    assert found.nats == pytest.approx(best)


def test_several_techniques_follow_one_another() -> None:
    first, second = Tables("a", LOSSES[:2]), Tables("b", LOSSES[2:])
    found, alone = (
        search(graph(), [first, second], additive, 72),
        search(graph(), [Tables("a", LOSSES)], additive, 72),
    )
    assert found is not None
    assert alone is not None
    assert (found.price, found.nats) == (alone.price, alone.nats)
    assert {site[0] for site in found.picks[0]} == {"a"}
    assert {site[0] for site in found.picks[1]} == {"b"}


def test_nothing_is_picked_where_the_goal_is_met() -> None:
    found = search(graph(), [Tables("a", LOSSES)], additive, 100)
    assert found is not None
    assert (found.picks, found.nats) == (({},), 0)


def test_a_goal_that_is_out_of_reach() -> None:
    assert search(graph(), [Tables("a", LOSSES)], additive, 100 - 7 * 9 - 1) is None
    assert search(graph(), [], additive, 99) is None
    found = search(graph(), [Tables("a", LOSSES)], additive, 100 - 7 * 9)
    assert found is not None
    assert found.nats == sum(map(max, LOSSES))


def test_options_that_cost_more_are_not_taken() -> None:
    def dearer(made: Graph) -> float:
        picks = picked(made)
        return 100 + 50 * (picks.get("a0") == 1) - 10 * picks.get("a1", 0)

    found = search(graph(), [Tables("a", LOSSES)], dearer, 80)
    assert found is not None
    assert found.picks == ({"a1": 2},)


def test_a_price_that_is_a_maximum() -> None:
    def peak(made: Graph) -> float:
        picks = picked(made)
        return max(90 - 20 * picks.get("a0", 0), 80 - 20 * picks.get("a1", 0))

    found = search(graph(), [Tables("a", LOSSES)], peak, 70)
    assert found is not None
    assert found.picks == ({"a0": 1, "a1": 1},)


def together(made: dict[str, int]) -> float:
    """Two sites lose twice what they do alone, and one loses nothing at all."""
    alone = {f"a{i}": each for i, each in enumerate(LOSSES)}
    lost = {site: alone[site][k] for site, k in made.items()}
    return 2 * (lost.get("a0", 0) + lost.get("a3", 0)) + lost.get("a1", 0)


def test_what_is_measured_to_lose_less_is_exchanged() -> None:
    tried: list[dict[str, int]] = []

    def loss(picks: tuple[Picks, ...]) -> Array:
        tried.append(dict(picks[0]))
        return np.array([together(tried[-1])])

    one = Tables("a", LOSSES)
    sums = search(graph(), [one], additive, 72)
    found = search(graph(), [one], additive, 72, loss=loss)
    assert sums is not None
    assert found is not None
    assert found.picks != sums.picks
    assert found.price <= 72
    assert found.measured == together(dict(found.picks[0])) < together(dict(sums.picks[0]))
    best = min(
        together({f"a{i}": k for i, k in enumerate(picks)})
        for picks in product(*(range(len(each)) for each in LOSSES))
        if 7 * sum(picks) >= 28
    )
    assert found.measured == best
    assert len(tried) == len({tuple(sorted(t.items())) for t in tried}) <= 24


@pytest.mark.parametrize("spread", [0.0, 30.0])
def test_what_may_be_chance_is_not_exchanged(spread: float) -> None:
    rng = np.random.default_rng(0)

    def loss(picks: tuple[Picks, ...]) -> Array:
        noise = rng.standard_normal(64)
        return together(dict(picks[0])) + np.asarray(spread * (noise - noise.mean()))

    one = Tables("a", LOSSES)
    sums = search(graph(), [one], additive, 72)
    found = search(graph(), [one], additive, 72, loss=loss)
    assert sums is not None
    assert found is not None
    assert (found.picks == sums.picks) == (spread > 0)


def test_losses_are_measured_no_more_often_than_allowed() -> None:
    tried: list[tuple[Picks, ...]] = []

    def loss(picks: tuple[Picks, ...]) -> Array:
        tried.append(picks)
        return np.array([100.0 - 2 * len(tried)])  # always better

    found = search(graph(), [Tables("a", LOSSES)], additive, 72, loss=loss, trials=3)
    assert found is not None
    assert (len(tried), found.measured, found.picks) == (3, 94.0, tried[-1])
    assert search(graph(), [Tables("a", LOSSES)], additive, 72, loss=loss, trials=0) == search(
        graph(), [Tables("a", LOSSES)], additive, 72
    )
