from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgec.calibration import MinMax, Percentile, RangeMethod, calibrate
from edgec.evaluate import Evaluator
from edgec.ir import Array, DType, Graph, QuantParams, Value
from edgec.ops import Add, Concat, Conv, FullyConnected, Relu
from edgec.passes import Judge, QuantizeGraph, RefineRanges, Scheme, refine_ranges
from edgec.passes.quantization_plan import plan
from edgec.passes.quantize import activation_params
from edgec.passes.refine_ranges import _errors, _finer, _offers
from tests.passes.quantization import INT8, SCHEMES, grids, ratio
from tests.targets.graphs import Feeds, Net, f32, random

CUT = Percentile(97.0)


def step(
    graph: Graph,
    feeds: Sequence[Feeds],
    method: RangeMethod = CUT,
    scheme: Scheme = INT8,
) -> QuantizeGraph:
    measured = plan(graph, scheme=scheme).measured
    return QuantizeGraph(calibrate(graph, measured, feeds, method), scheme)


def gained(graph: Graph, before: Graph, after: Graph, feeds: Sequence[Feeds]) -> float:
    want, plain, now = (
        np.concatenate([Evaluator(g).run(f)["y"] for f in feeds])
        for g in (graph, before, after)
    )
    return ratio(want, now) - ratio(want, plain)


def normal(count: int, first: int = 0) -> list[Feeds]:
    return [{"x": random(1, 4, 16, 16, seed=seed)} for seed in range(first, first + count)]


def convolution() -> Graph:
    net = Net(x=(1, 4, 16, 16))
    net.add("a", Conv(), "x", random(6, 4, 3, 3, seed=1))
    return net.graph(net.add("y", Conv(), "a", random(6, 6, 3, 3, seed=2)))


@SCHEMES
def test_outputs_come_nearer_on_other_samples(scheme: Scheme) -> None:
    graph, feeds = convolution(), normal(16)
    quantize = step(graph, feeds, scheme=scheme)
    before = quantize.run(graph)

    after, records = RefineRanges(quantize, graph, feeds).run_recorded(before)

    assert [r.layer for r in records] == ["x", "a", "y"]
    assert all(r.after_db > r.before_db + 3 and r.kept != "plain" for r in records)
    assert gained(graph, before, after, normal(8, 50)) > 5


def test_each_value_has_the_range_that_is_best_for_it() -> None:
    """Outliers of `x` are read, those of `z` are not: only one is worth its steps."""
    net = Net(x=(1, 8), z=(1, 8))
    one, other = random(4, 8, seed=1), random(4, 8, seed=2) / 8
    one[:, 0], other[:, 0] = 1, 0
    net.add("a", FullyConnected(), "x", one)
    net.add("b", FullyConnected(), "z", other)
    graph = net.graph(net.add("y", Add(), "a", "b"))
    feeds = [{n: random(1, 8, seed=2 * k + i) for i, n in enumerate("xz")} for k in range(32)]
    for feed in feeds:
        feed["x"][:, 0] *= 30
        feed["z"][:, 0] *= 30
    quantize = step(graph, feeds, Percentile(90.0))
    before = quantize.run(graph)

    after, records = RefineRanges(quantize, graph, feeds).run_recorded(before)

    kept = {r.layer: r.kept for r in records}
    assert kept["x"] == "minmax"
    assert kept["z"] != "minmax"
    assert grids(after)["x"].scale[0] > grids(before)["x"].scale[0]


def joined() -> tuple[RefineRanges, Graph, list[Feeds]]:
    net = Net(x=(1, 4, 8, 8), z=(1, 4, 8, 8))
    net.add("j", Concat(1), "x", "z")
    graph = net.graph(net.add("y", Conv(), "j", random(4, 8, 1, 1, seed=1)))
    feeds: list[Feeds] = [
        {"x": random(1, 4, 8, 8, seed=k), "z": 3 * random(1, 4, 8, 8, seed=50 + k)}
        for k in range(16)
    ]
    quantize = step(graph, feeds)
    return RefineRanges(quantize, graph, feeds), quantize.run(graph), feeds


def test_values_that_share_a_grid_are_taken_together() -> None:
    refine, before, _ = joined()

    after, records = refine.run_recorded(before)

    offer, other = _offers(refine)
    assert [[v.name for v in o.values] for o in (offer, other)] == [["x", "z"], ["y"]]
    assert [r.layer for r in records] == ["x", "y"]
    found = grids(after)
    assert found["x"] == found["z"] == found["j"] == offer.grids[records[0].kept]
    assert found["x"].scale[0] > grids(before)["x"].scale[0]


def test_what_values_of_one_grid_cost_adds_up() -> None:
    refine, _, feeds = joined()
    (offer, _), judge = _offers(refine), Judge(refine.reference, feeds)

    def errors(*values: Value) -> Array:
        (found,) = _errors(refine.reference, judge, [replace(offer, values=values)], DType.INT8)
        return found["minmax"]

    x, z = offer.values
    assert (errors(x) > 0).all()
    np.testing.assert_allclose(errors(x, z), errors(x) + errors(z))


def test_what_is_hardly_better_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    refine, before, _ = joined()
    monkeypatch.setattr(refine_ranges, "_LEAST_DB", 90.0)

    after, records = refine.run_recorded(before)

    assert after is before
    assert {r.kept for r in records} == {"plain"}
    assert records[0].after_db > records[0].before_db


def branches(first: Array) -> tuple[Graph, list[Feeds]]:
    """Return a graph with two outputs, one of which is read by the other's branch."""
    net = Net(x=(1, 4, 8, 8))
    net.add("u", Relu(), net.add("a", Conv(), "x", first))
    net.add("y", Conv(), "u", random(4, 4, 1, 1, seed=2))
    graph = net.graph("u", "y")
    return graph, [{"x": random(1, 4, 8, 8, seed=seed)} for seed in range(16)]


def test_a_value_that_is_an_output_and_is_read_counts_as_both() -> None:
    graph, feeds = branches(random(4, 4, 1, 1, seed=1))
    quantize = step(graph, feeds)

    after, records = RefineRanges(quantize, graph, feeds).run_recorded(quantize.run(graph))

    by_layer = {r.layer: r for r in records}
    assert by_layer["x"].kept != "plain"
    # An output that is computed already has no error, which counts as 200 decibels of two.
    assert 90 < by_layer["y"].before_db < 130
    assert by_layer["x"].before_db < 40
    assert after is not None


def test_held_out_samples_judge() -> None:
    """Narrow ranges are better for all samples but those held out, which are large."""
    graph, feeds = convolution(), normal(32)
    feeds[0]["x"][0, 0, 0, 0] = 40
    quantize = step(graph, feeds, MinMax())
    before = quantize.run(graph)
    large: list[Feeds] = [
        {"x": f["x"] * f32(8 if k % 4 == 3 else 1)} for k, f in enumerate(feeds)
    ]
    assert RefineRanges(quantize, graph, feeds).run(before) is not before

    after, records = RefineRanges(quantize, graph, large).run_recorded(before)

    assert after is before
    assert records
    assert {r.kept for r in records} == {"plain"}
    assert all(r.after_db == r.before_db for r in records)


def test_few_values_are_those_whose_methods_differ_most() -> None:
    graph, feeds = convolution(), normal(16)
    for feed in feeds:
        feed["x"][0, 0, 0, 0] = 50
    quantize = step(graph, feeds)
    before = quantize.run(graph)

    _, records = RefineRanges(quantize, graph, feeds, most_values=1).run_recorded(before)

    assert [r.layer for r in records] == ["x"]


def test_methods_that_agree_are_not_tried() -> None:
    graph = convolution()
    feeds = [{"x": np.ones((1, 4, 16, 16), np.float32)} for _ in range(16)]
    quantize = step(graph, feeds, Percentile(99.9))
    assert not _offers(RefineRanges(quantize, graph, feeds, ("minmax",)))
    before = quantize.run(graph)
    assert RefineRanges(quantize, graph, feeds, ("minmax",)).run_recorded(before) == (
        before,
        (),
    )


def test_nothing_changes_with_few_samples_or_without_figures() -> None:
    graph, feeds = convolution(), normal(16)
    quantize = step(graph, feeds)
    before = quantize.run(graph)

    assert RefineRanges(quantize, graph, feeds[:7]).run(before) is before
    assert RefineRanges(QuantizeGraph(), graph, feeds).run(before) is before
    assert isinstance(next(iter(quantize.grids(graph).values())), QuantParams)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.02), (0.0, 6.0), (-3.0, 0.5), (0.0, 0.996)])
def test_the_next_lower_power_of_two_covers_what_it_can(
    symmetric: bool, low: float, high: float
) -> None:
    scheme = Scheme(symmetric=symmetric, power_of_two=True)

    def scale(ends: tuple[float, float]) -> float:
        found = activation_params(
            ends[0], ends[1], DType.INT8, symmetric=symmetric, power_of_two=True
        )
        return found.scale[0]

    finer = _finer(low, high, scheme)
    assert scale(finer) == scale((low, high)) / 2
    assert 0.49 < (finer[1] - finer[0]) / (high - low) < 1.001
    assert finer[0] <= 0 <= finer[1]


def test_powers_of_two_may_be_finer_than_what_covers_all() -> None:
    graph, feeds = convolution(), normal(16)
    for feed in feeds:
        feed["x"][:] = np.clip(feed["x"], -1, 1)
        feed["x"][0, 0, 0, 0] = 1.02  # beyond 127 steps of 2^-7, and alone there
    quantize = step(graph, feeds, MinMax(), Scheme(power_of_two=True, symmetric=True))
    before = quantize.run(graph)

    after, records = RefineRanges(quantize, graph, feeds).run_recorded(before)

    assert grids(before)["x"].scale == (2.0**-6,)
    assert grids(after)["x"].scale == (2.0**-7,)
    assert any(r.kept == "half the scale" for r in records)
    plainly = RefineRanges(replace(quantize, scheme=INT8), graph, feeds)
    assert "half the scale" not in {name for o in _offers(plainly) for name in o.grids}
