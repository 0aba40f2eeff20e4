"""Of several ways to a goal the one that loses least is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest

from edgec.compression import Compressor, Option, Picks, Site, Technique
from edgec.compression.sites import NOTHING_GONE, Kept
from edgec.cost import cost
from edgec.ir import Array, Graph
from edgec.ops import FullyConnected
from edgec.passes import Lossy, Pass, Promise
from tests.targets.graphs import Net, random

SAMPLES: list[Mapping[str, Array]] = [
    {"x": np.random.default_rng(k).standard_normal((1, 8)).astype(np.float32)}
    for k in range(16)
]


class Narrow(Pass):
    """Leave out the last `count` of the eight sums between two layers."""

    name: ClassVar[str] = "narrow"
    promise: ClassVar[Promise] = Lossy()

    def __init__(self, count: int) -> None:
        self.count = count

    def run(self, graph: Graph) -> Graph:
        return narrow(graph, self.count)


def narrow(graph: Graph, count: int) -> Graph:
    net = Net(x=(1, 8))
    first, second = (graph.constants[v].array for v in sorted(graph.constants))
    kept = len(first) - count
    net.add("h", FullyConnected(), "x", first[:kept])
    net.add("y", FullyConnected(), "h", second[:, :kept])
    return net.graph("y")


class Narrowing(Technique):
    """Says what its options lose: rightly or not."""

    name = "narrowing"

    def __init__(self, name: str, losses: tuple[float, ...]) -> None:
        self.name = name
        options = tuple(Option(f"{8 - k} left", n) for k, n in enumerate(losses))
        self._sites: tuple[Site, ...] = (Site("h", "hidden", options),)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._sites

    def skeleton(self, picks: Picks, graph: Graph) -> Graph:
        return narrow(graph, picks.get("h", 0))

    def passes(self, picks: Picks, kept: Kept = NOTHING_GONE) -> tuple[Pass, ...]:
        return (Narrow(picks["h"]),) if picks else ()


def graph() -> Graph:
    """Sums of which the later ones count for less."""
    net = Net(x=(1, 8))
    net.add("h", FullyConnected(), "x", random(8, 8, seed=1))
    second = random(4, 8, seed=2) * np.float32(0.5) ** np.arange(8, dtype=np.float32)
    net.add("y", FullyConnected(), "h", second.astype(np.float32))
    return net.graph("y")


def macs(made: Graph) -> float:
    return cost(made).macs


def test_the_smaller_graph_meets_the_goal_and_its_loss_is_measured() -> None:
    whole = graph()
    made = Compressor(whole, SAMPLES, [Narrowing("a", (0, 1, 2, 3))]).within(macs, 72)

    assert made is not None
    assert made.price == macs(made.graph) == 72
    assert [(c.technique, c.layer, c.label) for c in made.chosen] == [("a", "hidden", "6 left")]
    assert made.nats > 0
    assert made.tried == {"a": made.nats}
    assert [r.name for r in made.records] == ["narrow"]


def test_what_was_measured_counts_and_not_what_was_said() -> None:
    modest, rash = Narrowing("modest", (0, 5)), Narrowing("rash", (0, 9, 8, 0.1))
    made = Compressor(graph(), SAMPLES, [modest, rash]).within(macs, 84)

    assert made is not None
    assert {c.technique for c in made.chosen} == {"modest"}
    assert set(made.tried) == {"modest", "rash"}
    assert made.tried["modest"] < made.tried["rash"]


def test_together_they_reach_what_none_reaches_alone() -> None:
    few, more = Narrowing("few", (0, 1)), Narrowing("more", (0, 1, 2))
    made = Compressor(graph(), SAMPLES, [few, more]).within(macs, 60)
    assert made is not None
    assert set(made.tried) == {"few + more"}
    assert made.price == 60


def test_out_of_reach_there_is_the_least() -> None:
    compressor = Compressor(graph(), SAMPLES, [Narrowing("a", (0, 1, 2, 3))])
    assert compressor.within(macs, 50) is None
    assert compressor.least(macs).price == 60


def test_prices_are_taken_once() -> None:
    asked: list[Graph] = []

    def counted(made: Graph) -> float:
        asked.append(made)
        return macs(made)

    few, more = Narrowing("few", (0, 1)), Narrowing("more", (0, 1, 2))
    compressor = Compressor(graph(), SAMPLES, [few, more])
    first = compressor.within(counted, 60)
    count = len(asked)

    assert first is not None
    assert compressor.within(counted, 60) == first
    assert len(asked) == count
    assert compressor.least(counted).price == 60
    assert len(asked) <= count + 1  # of the whole graph
    assert compressor.within(cheap, 0.5) is not None  # another price has its own


def cheap(made: Graph) -> float:
    return macs(made) / 120


def test_a_goal_that_holds_by_itself_changes_nothing() -> None:
    whole = graph()
    made = Compressor(whole, SAMPLES, [Narrowing("a", (0, 1))]).within(macs, 96)
    assert made is not None
    assert made.graph is whole
    assert (made.nats, made.chosen) == (0.0, ())


def test_what_was_chosen_is_trained_once_and_costs_the_same() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[recover]'")
    whole, told = graph(), []
    samples = [{"x": random(1, 8, seed=k)} for k in range(64)]
    step = [Narrowing("a", (0, 1, 2, 3))]
    plain = Compressor(whole, samples, step).within(macs, 72)
    compressor = Compressor(
        whole, samples, step, lambda stage, done, total: told.append((stage, done)), recover=60
    )
    made = compressor.within(macs, 72)
    count = sum("recover" in stage for stage, _ in told)
    again = compressor.within(macs, 72)

    assert plain is not None
    assert made is not None
    assert made.nats < 0.9 * plain.nats
    assert (made.price, made.chosen, made.tried) == (plain.price, plain.chosen, plain.tried)
    assert [r.name for r in made.records] == ["narrow", "recover"]
    assert ("a: narrow", 0) in told
    trained = [(stage, done) for stage, done in told if "recover" in stage]
    assert trained[-1][1] == 60
    assert "nats lost" in trained[-1][0]
    assert again == made
    assert len(trained) == count


def test_options_of_one_technique_are_tried_together_if_it_knows_what_they_lose() -> None:
    class Knowing(Narrowing):
        """Rates its options by what it says, and all of them by what is true."""

        trials = 8

        def __init__(self) -> None:
            super().__init__("knowing", (0, 1))
            self._sites = tuple(
                Site(name, name, (Option("whole", 0.0), Option("cut", said)))
                for name, said in (("a", 1.0), ("b", 1.5), ("c", 2.0))
            )
            self.asked: list[Picks] = []

        def skeleton(self, picks: Picks, graph: Graph) -> Graph:
            return narrow(graph, len(picks))

        def passes(self, picks: Picks, kept: Kept = NOTHING_GONE) -> tuple[Pass, ...]:
            return (Narrow(len(picks)),)

        def loss(self, picks: Picks) -> Array:
            self.asked.append(picks)
            return np.array([sum({"a": 5.0, "b": 1.0, "c": 1.0}[name] for name in picks)])

    technique = Knowing()
    made = Compressor(graph(), SAMPLES, [technique]).within(macs, 72)
    assert made is not None
    assert {c.layer for c in made.chosen} == {"b", "c"}
    assert set(technique.asked[0]) == {"a", "b"}
    assert len(technique.asked) <= 8
