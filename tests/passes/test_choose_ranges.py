from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.calibration import METHODS, Percentile, RangeMethod, calibrate
from edgec.evaluate import Evaluator
from edgec.ir import Graph
from edgec.ops import Conv
from edgec.passes import ChooseRanges, QuantizeGraph, Scheme
from edgec.passes.quantization_plan import plan
from tests.passes.quantization import INT8, SCHEMES, grids, ratio
from tests.targets.graphs import Feeds, Net, random


def normal(count: int) -> list[Feeds]:
    return [{"x": random(1, 4, 32, 32, seed=seed)} for seed in range(count)]


def net(size: int) -> Graph:
    weight = random(6, 4, 3, 3, seed=1)
    made = Net(x=(1, 4, size, size))
    return made.graph(made.add("y", Conv(), "x", weight))


def step(
    graph: Graph, feeds: Sequence[Feeds], method: RangeMethod, scheme: Scheme = INT8
) -> QuantizeGraph:
    calibration = calibrate(graph, plan(graph).measured, feeds, method)
    return QuantizeGraph(calibration, scheme)


def gained(graph: Graph, before: Graph, after: Graph, feeds: Sequence[Feeds]) -> float:
    want, plain, now = (
        np.concatenate([Evaluator(g).run(f)["y"] for f in feeds])
        for g in (graph, before, after)
    )
    return ratio(want, now) - ratio(want, plain)


@SCHEMES
def test_another_method_is_taken_where_outputs_come_nearer(scheme: Scheme) -> None:
    graph, feeds = net(32), normal(16)
    quantize = step(graph, feeds, Percentile(97.0), scheme)
    before = quantize.run(graph)

    after, (record,) = ChooseRanges(quantize, graph, feeds).run_recorded(before)

    assert (record.layer, record.kept) == ("ranges: mse", "chosen")
    assert record.after_db > record.before_db + 1
    assert gained(graph, before, after, normal(20)[16:]) > 1
    assert grids(after)["x"].scale[0] > grids(before)["x"].scale[0]


def test_the_graph_stays_where_nothing_is_better() -> None:
    graph = net(32)
    feeds = [{"x": random(1, 4, 32, 32, seed=seed)} for seed in range(16)]
    for feed in feeds:
        feed["x"][0, 0, 0, 0] = 40
    quantize = step(graph, feeds, METHODS["mse"]())
    before = quantize.run(graph)

    after, (record,) = ChooseRanges(quantize, graph, feeds, ("minmax",)).run_recorded(before)

    assert after is before
    assert record.kept == "plain"
    assert record.after_db < record.before_db
    assert ChooseRanges(quantize, graph, feeds).run_recorded(before) == (before, ())


def test_the_best_of_several_is_taken() -> None:
    graph, feeds = net(32), normal(16)
    quantize = step(graph, feeds, Percentile(97.0))
    before = quantize.run(graph)
    choose = ChooseRanges(quantize, graph, feeds, ("entropy", "mse", "percentile"))

    after, records = choose.run_recorded(before)

    assert [r.layer for r in records] == ["ranges: entropy", "ranges: mse"]
    (kept,) = (r for r in records if r.kept == "chosen")
    assert kept.after_db == max(r.after_db for r in records) > kept.before_db
    name = kept.layer.removeprefix("ranges: ")
    want = step(graph, feeds, METHODS[name]()).run(graph)
    assert grids(after) == grids(want)


def test_nothing_changes_with_few_samples_or_without_figures() -> None:
    graph, feeds = net(32), normal(16)
    quantize = step(graph, feeds, Percentile(97.0))
    before = quantize.run(graph)

    assert ChooseRanges(quantize, graph, feeds[:7]).run(before) is before
    assert ChooseRanges(QuantizeGraph(), graph, feeds).run(before) is before
