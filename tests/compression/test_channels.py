"""Channels as sites: what each width loses, measured once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.cache import Cache
from edgec.compression import ChannelPruning, channels, search
from edgec.cost import cost
from edgec.ir import Graph
from edgec.passes import Pipeline, PruneChannels, ReconstructLayers
from edgec.passes.divergence import Divergence
from edgec.passes.moved_samples import moved
from tests.passes.test_prune_channels import redundant, samples


def macs(graph: Graph) -> float:
    return float(cost(graph).macs)


def compressed(technique: ChannelPruning, graph: Graph, share: float) -> Graph:
    found = search(graph, [technique], macs, share * macs(graph))
    assert found is not None
    made, _ = Pipeline(technique.passes(found.picks[0])).run(graph)
    assert macs(made) == found.price <= share * macs(graph)
    return made


def test_a_group_is_a_site_and_its_widths_are_options() -> None:
    graph = redundant()
    first, second = ChannelPruning(graph, samples(), multiple=4).sites
    assert (first.name, second.name) == ("a", "b")
    labels = [f"{n} of 16 channels" for n in (16, 12, 8, 4)]
    assert [o.label for o in first.options] == labels
    nats = [o.nats for o in first.options]
    assert nats[0] == 0
    assert nats[1:3] == pytest.approx([0, 0], abs=2e-4)  # half of them are mixtures
    assert nats[3] > 20 * nats[2]


def test_the_target_is_reached_with_what_loses_least() -> None:
    graph = redundant()
    made = compressed(ChannelPruning(graph, samples(), multiple=4), graph, 0.56)
    assert [n.output.type.shape[1] for n in made.nodes[:2]] == [8, 16]
    assert Divergence(graph, samples(16, seed=9)).of(made).mean() < 1e-4


def test_the_skeleton_has_the_shapes_of_what_is_made() -> None:
    graph = redundant()
    technique = ChannelPruning(graph, samples(), multiple=4)
    picks = {"a": 1, "b": 2}
    made, _ = Pipeline(technique.passes(picks)).run(graph)
    rough = technique.skeleton(picks, graph)
    assert [n.output.type for n in rough.nodes] == [n.output.type for n in made.nodes]
    assert technique.passes({}) == technique.passes({"a": 0}) == ()


def test_without_compensation_nothing_is_fitted() -> None:
    graph = redundant()
    plain = ChannelPruning(graph, samples(), multiple=8, compensate=False)
    fitted = ChannelPruning(graph, samples(), multiple=8)
    assert [p.name for p in plain.passes({"a": 1})] == ["prune-channels"]
    assert len(fitted.passes({"a": 1})) == 2
    assert plain.sites[0].options[1].nats > 10 * fitted.sites[0].options[1].nats


def test_of_many_widths_some_are_measured_and_others_lie_between() -> None:
    told: list[tuple[int, int]] = []
    (first, _) = ChannelPruning(
        redundant(), samples(16), multiple=1, progress=lambda *at: told.append(at)
    ).sites
    assert [int(o.label.split()[0]) for o in first.options] == list(range(16, 3, -1))
    assert told[-1] == (20, 20)  # ten of twelve of each group
    nats = [o.nats for o in first.options]
    between = [
        k for k in range(1, 12) if nats[k] == pytest.approx(sum(nats[k - 1 : k + 2]) / 3)
    ]
    assert len(between) == 2
    assert len(set(nats)) == 13


def test_widths_of_small_models_are_tried_with_all_that_makes_up_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, given = redundant(), samples(96)
    judges = Divergence(graph, moved(given[36:], 6))
    cut = PruneChannels({"a": 4}, given, "obs").run(graph)
    technique = ChannelPruning(graph, given, multiple=4, criterion="obs")
    fitted = ReconstructLayers(graph, technique.kept({"a": 3}), given[:36], 100).run(cut)

    small = technique.sites[0]
    assert small.options[3].nats == pytest.approx(judges.of(fitted).mean())
    monkeypatch.setattr(channels, "_ALONE_MACS", 31 * cost(graph).macs)
    (large, _) = ChannelPruning(graph, given, multiple=4, criterion="obs").sites
    assert large.options[3].nats == pytest.approx(judges.of(cut).mean())
    assert large.options[3].nats > 1.05 * small.options[3].nats


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, cache = redundant(), Cache(tmp_path)
    whole = ChannelPruning(graph, samples(), multiple=4).sites

    done = 0
    of = Divergence.of

    def stopping(self: Divergence, made: Graph) -> object:
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt
        return of(self, made)

    monkeypatch.setattr(Divergence, "of", stopping)
    with pytest.raises(KeyboardInterrupt):
        ChannelPruning(graph, samples(), multiple=4, cache=cache)
    assert ChannelPruning(graph, samples(), multiple=4, cache=cache).sites == whole
    assert done == 3 + 9  # two were known, and for one width both criteria are of one mind

    assert ChannelPruning(graph, samples(), multiple=4, cache=cache).sites == whole
    assert done == 3 + 9
    others = samples(seed=1)
    assert ChannelPruning(graph, others, multiple=4, cache=cache).sites != whole
    spoilt = next(tmp_path.iterdir())
    spoilt.write_text("{]")
    assert ChannelPruning(graph, samples(), multiple=4, cache=cache).sites == whole


def test_a_run_that_was_cut_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = redundant()
    made = [
        compressed(ChannelPruning(graph, samples(), multiple=4, cache=c), graph, 0.6)
        for c in (Cache(tmp_path), Cache(tmp_path), Cache(None))
    ]
    for other in made[1:]:
        assert str(other) == str(made[0])
        for name, constant in made[0].constants.items():
            np.testing.assert_array_equal(constant.array, other.constants[name].array)


def test_a_group_that_is_no_wider_than_the_multiple_is_no_site() -> None:
    assert ChannelPruning(redundant(), samples(8), multiple=16).sites == ()


def test_losses_together_are_measured_with_all_that_makes_up_for_them(tmp_path: Path) -> None:
    graph, cache = redundant(), Cache(tmp_path)
    technique = ChannelPruning(graph, samples(), multiple=4, cache=cache)
    picks = {"a": 2, "b": 1}
    again = ReconstructLayers(graph, technique.kept(picks), samples()[:18], 0)
    made = again.run(next(iter(technique.passes(picks))).run(graph))
    judges = moved(samples()[18:], 12)
    assert technique.loss(picks) == pytest.approx(Divergence(graph, judges).of(made))
    kept = next(tmp_path.iterdir()).read_text()
    assert "together: 8 of a by " in kept
    anew = ChannelPruning(graph, samples(), multiple=4, cache=cache)
    assert (anew.loss({"b": 1, "a": 2}) == technique.loss(picks)).all()
    assert next(tmp_path.iterdir()).read_text() == kept


def test_each_width_goes_by_the_criterion_that_loses_less() -> None:
    graph, given = redundant(), samples()
    both = ChannelPruning(graph, given, multiple=4)
    alone = [
        ChannelPruning(graph, given, multiple=4, criterion=c).sites for c in ("obs", "energy")
    ]
    for site, *others in zip(both.sites, *alone, strict=True):
        for option, *each in zip(site.options, *(o.options for o in others), strict=True):
            assert option.nats == min(o.nats for o in each)
    (first, _) = both.passes({"a": 2, "b": 1})
    assert set(first.criterion) == {"a", "b"}  # type: ignore[attr-defined]
