"""Layers as sites, products that can stand for them as options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.cache import Cache
from edgec.compression import Factorization, search
from edgec.compression.factors import _Measured
from edgec.cost import cost
from edgec.ir import Builder, Graph
from edgec.latency import Kernels
from edgec.ops import Conv, DepthwiseConv
from edgec.passes import FactorizeLowRank, FactorizeSeparable, Pipeline, PruneChannels, Rank
from edgec.passes.divergence import Divergence
from edgec.passes.linear_layers import linear_layers
from tests.passes.test_factorize_layers import residual, samples
from tests.targets.graphs import Net, random


def macs(graph: Graph) -> float:
    return float(cost(graph).macs)


def lost(graph: Graph, made: Graph) -> float:
    return float(Divergence(graph, samples(32, seed=9)).of(made).mean())


@pytest.fixture(scope="module")
def technique() -> Factorization:
    return Factorization(residual(), samples())


def test_options_compute_less_and_lose_more_one_after_the_other(
    technique: Factorization,
) -> None:
    graph = residual()
    assert technique.name == "factorize"
    assert [s.name for s in technique.sites] == ["a", "b", "c", "d", "e", "y"]
    for site in technique.sites:
        assert site.options[0].label == "as it is"
        assert site.options[0].nats == 0
        nats = [o.nats for o in site.options]
        assert nats == sorted(nats)
        costs = [macs(technique.skeleton({site.name: k}, graph)) for k in range(len(nats))]
        assert costs == sorted(costs, reverse=True)
        assert len(set(costs)) == len(costs)


def test_what_is_predicted_is_near_to_what_is_lost(technique: Factorization) -> None:
    graph = residual()
    for site in technique.sites:
        for k in (1, len(site.options) - 1):
            made, _ = Pipeline(technique.passes({site.name: k})).run(graph)
            # Layers behind it make up for much of it, and the first samples are others.
            assert lost(graph, made) < 3 * site.options[k].nats + 1e-4


def test_a_goal_is_reached_with_more_than_one_kind(technique: Factorization) -> None:
    graph = residual()
    found = search(graph, [technique], macs, 0.4 * macs(graph))
    assert found is not None
    made, records = Pipeline(technique.passes(found.picks[0])).run(graph)

    assert macs(made) == found.price <= 0.4 * macs(graph)
    names = {r.name for r in records}
    assert names == {"factorize-separable", "factorize-low-rank"}
    for kind in ("separable", "channel", "spatial"):
        alone = Factorization(graph, samples(), kinds=[kind])
        single = search(graph, [alone], macs, 0.4 * macs(graph))
        assert single is None or single.nats > 0.8 * found.nats


def test_kinds_that_are_not_wanted_are_not_offered() -> None:
    separable = Factorization(residual(), samples(), kinds=["separable"])
    assert separable.name == "factorize-separable"
    assert "y" not in [s.name for s in separable.sites]
    passes = separable.passes({"b": 1, "c": 2})
    assert [type(p) for p in passes] == [FactorizeSeparable]

    ranks = Factorization(residual(), samples(), kinds=["channel"])
    assert ranks.name == "factorize-low-rank"
    (step,) = ranks.passes({"b": 1})
    assert isinstance(step, FactorizeLowRank)
    assert all(isinstance(r, Rank) and r.form == "channel" for r in step.ranks.values())
    assert ranks.passes({}) == ranks.passes({"b": 0}) == ()


def test_layers_where_nothing_is_gained_are_named_with_the_reason() -> None:
    net = Net(x=(1, 6, 9, 9))
    net.const("shared", random(6, 6, 3, 3))
    net.add("a", Conv(pad=(1, 1, 1, 1)), "x", "shared")
    net.add("b", Conv(pad=(1, 1, 1, 1)), "a", "shared")
    net.add("c", DepthwiseConv(pad=(1, 1, 1, 1)), "b", random(6, 1, 3, 3))
    graph = net.graph(net.add("y", Conv(), "c", random(4, 6, 1, 1)))
    found = Factorization(graph, samples())

    assert not found.sites
    assert found.left_out == {
        "a": "shares its weights with another layer",
        "b": "shares its weights with another layer",
        "y": "computes no less in any form",
    }


def kernels(call: float) -> Kernels:
    """Kernels whose time is that of calls, and of multiply-accumulates."""
    return Kernels(1, (call, 1, 0, 0, 0, 0), (call, 1, 0, 0), (call, 1), (0, 0), 1)


def test_only_what_is_faster_is_offered(technique: Factorization) -> None:
    """Each call costs as much as some of the multiply-accumulates, so only low ranks pay."""
    graph = residual()
    (rows,) = (n.output.type.ints[2] for n in graph.nodes if n.output.name == "b")
    layer = 16 * 16 * 9 * rows**2
    some = Factorization(graph, samples(), kernels=kernels(0.5 * layer))

    assert [s.name for s in some.sites] == ["b", "c", "d", "e"]
    for site in some.sites:
        for k in range(1, len(site.options)):
            left = macs(graph) - macs(some.skeleton({site.name: k}, graph))
            assert left >= 0.5 * layer + 0.05 * 1.5 * layer
        (every,) = (s for s in technique.sites if s.name == site.name)
        assert 1 < len(site.options) < len(every.options)
    told = {d.where: d for d in some.notes()}
    slow = "it is predicted to be no faster on the target in any form, as are 1 more"
    assert told["a"].message == f"is not factorised: {slow}"
    assert "--technique" in told["a"].hint


def test_nothing_is_measured_where_nothing_is_faster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("edgec.compression.factors.statistics", refuse)
    found = Factorization(
        residual(), samples(), kernels=kernels(1e9), cache=Cache(tmp_path / "none")
    )

    assert not found.sites
    assert set(found.left_out) == {"a", "b", "c", "d", "e", "y"}
    assert not (tmp_path / "none").exists()


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("separable", "channel")
    whole = Factorization(residual(), samples(), kinds=kinds, cache=Cache(tmp_path / "whole"))
    count = 0
    keep = _Measured._keep

    def interrupted(self: _Measured, label: str, value: float) -> None:
        nonlocal count
        count += 1
        if count > 30:
            raise KeyboardInterrupt
        keep(self, label, value)

    monkeypatch.setattr(_Measured, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Factorization(residual(), samples(), kinds=kinds, cache=Cache(tmp_path / "cut"))
    monkeypatch.setattr(_Measured, "_keep", keep)
    resumed = Factorization(residual(), samples(), kinds=kinds, cache=Cache(tmp_path / "cut"))

    assert resumed.sites == whole.sites
    (one,), (two,) = ([*(tmp_path / f).iterdir()] for f in ("whole", "cut"))
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_what_was_measured_once_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("separable", "channel")
    first = Factorization(residual(), samples(), kinds=kinds, cache=Cache(tmp_path))

    def refuse(self: _Measured, label: str, value: float) -> None:
        raise AssertionError(label)

    monkeypatch.setattr(_Measured, "_keep", refuse)
    again = Factorization(residual(), samples(), kinds=kinds, cache=Cache(tmp_path))
    assert again.sites == first.sites


def test_the_error_curve_of_a_layer_tells_every_way() -> None:
    technique = Factorization(residual(), samples(), kinds=["channel"])
    curve = technique.curve("c")

    assert list(curve) == ["rank 4", "rank 8", "rank 12"]
    shares, errors = zip(*curve.values(), strict=True)
    assert list(shares) == sorted(shares)
    assert list(errors) == sorted(errors, reverse=True)
    assert shares[0] == pytest.approx(4 * (16 * 9 + 16) / (16 * 16 * 9))


def test_a_graph_that_lost_channels_is_factorised_like_the_whole(
    technique: Factorization,
) -> None:
    graph, given = residual(), samples()
    pruned = PruneChannels({"b": 8}, given).run(graph)
    assert pruned is not graph
    picks = {"b": 5, "c": 5}
    rough = technique.skeleton(picks, pruned)
    made, _ = Pipeline(technique.passes(picks)).run(pruned)

    assert macs(rough) == macs(made) < macs(pruned)
    assert cost(rough) == cost(made)
    assert np.isfinite(lost(graph, made))


def test_a_pruned_graph_comes_nearer_to_the_original_where_its_channels_are_known() -> None:
    graph, given = residual(), samples()
    kept = {"b": np.arange(0, 16, 2)}
    layers = linear_layers(graph)
    b = Builder(graph)
    for node in graph.nodes:
        name = node.output.name
        if name not in "bc":
            b.copy(node)
            continue
        weight = graph.constants[node.inputs[1].name].array
        cut = weight[kept["b"]] if name == "b" else weight[:, kept["b"]]
        rest = [b.now(v) for v in node.inputs[2:]]
        b.add(node.op, b.now(node.inputs[0]), b.constant(cut, "cut"), *rest, like=node)
    pruned = b.finish()
    assert layers["c"].inputs == 2 * linear_layers(pruned)["c"].inputs

    picks = {"c": 1}
    whole = Factorization(pruned, given, kinds=["channel"])
    beside = Factorization(pruned, given, kinds=["channel"], original=graph, kept=kept)
    assert whole.sites == beside.sites
    made = [Pipeline(t.passes(picks)).run(pruned)[0] for t in (whole, beside)]
    assert lost(graph, made[1]) < 0.5 * lost(graph, made[0])
    later = Factorization(graph, given, kinds=["channel"]).passes(picks, kept)
    again, _ = Pipeline(later).run(pruned)
    assert lost(graph, again) < 0.5 * lost(graph, made[0])
