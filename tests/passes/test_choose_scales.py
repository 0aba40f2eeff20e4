from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph
from edgec.ops import Activation, Conv
from edgec.passes import (
    ChooseScales,
    EqualizeClippedLayers,
    EqualizeLayers,
    Judge,
    Pass,
    QuantizeGraph,
    Scheme,
)
from tests.passes.quantization import ratio
from tests.targets.graphs import Net, quantized, random

TENSOR = Scheme(per_channel=False)


def uneven(activation: Activation = Activation.RELU) -> Graph:
    """Two layers, the first with weights of very different size by channel."""
    net = Net(x=(1, 3, 8, 8))
    size = np.exp2(np.linspace(-9, 0, 8)).astype(np.float32).reshape(8, 1, 1, 1)
    net.add("a", Conv(activation=activation), "x", size * random(8, 3, 3, 3, seed=1))
    last = random(4, 8, 3, 3, seed=3) / size.reshape(1, 8, 1, 1)
    return net.graph(net.add("y", Conv(), "a", last))


def samples(count: int = 16, start: int = 0) -> list[dict[str, Array]]:
    return [{"x": random(1, 3, 8, 8, seed=start + seed)} for seed in range(count)]


def step(
    given: Sequence[Mapping[str, Array]], *ways: Pass, scheme: Scheme = TENSOR
) -> ChooseScales:
    return ChooseScales(
        {way.name: (way,) for way in ways or (EqualizeLayers(),)},
        QuantizeGraph(scheme=scheme),
        given,
    )


def test_takes_what_helps() -> None:
    graph, feeds = uneven(), samples()

    after, records = step(feeds).run_recorded(graph)

    assert after.nodes == EqualizeLayers().run(graph).nodes
    first, *layers = records
    assert (first.layer, first.kept) == ("scales: equalize-layers", "chosen")
    assert first.after_db > first.before_db + 6
    assert [r.layer for r in layers] == ["a", "y"]
    (other,) = samples(1, 99)
    want = Evaluator(graph).run(other)["y"]
    plain, now = (
        ratio(want, Evaluator(quantized(g, *feeds, scheme=TENSOR)).run(other)["y"])
        for g in (graph, after)
    )
    assert now > plain + 6


def test_leaves_what_does_not_help() -> None:
    net = Net(x=(1, 3, 8, 8))
    net.add("a", Conv(activation=Activation.RELU), "x", random(8, 3, 3, 3, seed=1))
    graph = net.graph(net.add("y", Conv(), "a", random(4, 8, 3, 3, seed=3)))

    after, records = step(samples(), scheme=Scheme()).run_recorded(graph)

    assert after is graph
    assert [r.kept for r in records] == ["plain"]


@pytest.mark.parametrize("count", [0, 7])
def test_needs_samples_to_be_sure(count: int) -> None:
    graph = uneven()
    assert step(samples(count)).run_recorded(graph) == (graph, ())


def test_the_best_of_several_ways_is_chosen() -> None:
    graph, feeds = uneven(Activation.RELU6), samples()

    after, records = step(feeds, EqualizeLayers(), EqualizeClippedLayers(feeds)).run_recorded(
        graph
    )

    # The first way ends at the clip, and so there is nothing that it could do.
    tried = [r for r in records if r.layer.startswith("scales: ")]
    assert [(r.layer, r.kept) for r in tried] == [("scales: equalize-clipped-layers", "chosen")]
    assert after is not graph


def test_nothing_to_quantize_is_nothing_to_choose() -> None:
    graph, feeds = uneven(), samples()
    kept = QuantizeGraph(scheme=TENSOR, keep_float=("a", "y"))
    assert ChooseScales({"": (EqualizeLayers(),)}, kept, feeds).run(graph) is graph


def test_weights_are_rounded_before_outputs_are_compared_if_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, feeds = uneven(), samples(32)
    ways = {"equalized": (EqualizeLayers(),)}
    quick = ChooseScales(ways, QuantizeGraph(scheme=TENSOR), feeds)
    long = replace(quick, rounds=True)
    judged: list[int] = []

    def judge(reference: Graph, given: Sequence[Mapping[str, Array]]) -> Judge:
        judged.append(len(given))
        return Judge(reference, given)

    monkeypatch.setattr("edgec.passes.choose_scales.Judge", judge)

    (first, *_), (second, *_) = (step.run_recorded(graph)[1] for step in (quick, long))

    assert judged == [8, 8]  # those that anything is fitted to do not judge
    assert second.before_db > first.before_db + 1
