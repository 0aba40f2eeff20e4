"""Statistics of layers are those of what they read, and nats follow from errors."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph
from edgec.ops import (
    Activation,
    Conv,
    DepthwiseConv,
    FullyConnected,
    GroupedConv,
    MatMul,
    Reshape,
)
from edgec.passes.divergence import Divergence
from edgec.passes.judging import held_out
from edgec.passes.layer_statistics import ExchangeRates, statistics
from edgec.passes.linear_layers import linear_layers, with_weights
from tests.targets.graphs import Net, random

SHAPE = (1, 4, 6, 6)


def samples(count: int = 16, seed: int = 0) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(SHAPE).astype(np.float32)} for _ in range(count)]


def network() -> Graph:
    net = Net(x=SHAPE)
    relu = Activation.RELU
    net.add(
        "a", Conv(pad=(1, 1, 1, 1), activation=relu), "x", random(6, 4, 3, 3) / 6, random(6)
    )
    net.add("b", DepthwiseConv(stride=(2, 2)), "a", random(12, 1, 3, 3, seed=2) / 3)
    net.add("c", GroupedConv(groups=3, activation=relu), "b", random(6, 4, 1, 1), random(6))
    net.add("flat", Reshape((1, 24)), "c")
    net.add("d", FullyConnected(activation=relu), "flat", random(5, 24) / 5, random(5))
    return net.graph(net.add("y", MatMul(), "d", random(5, 7) / 3))


def test_sums_are_those_of_what_each_layer_reads_and_yields() -> None:
    graph, given = network(), samples()
    found = statistics(graph, given)

    assert list(found.layers) == ["a", "b", "c", "d", "y"]
    held = held_out(len(given))
    for name, layer in linear_layers(graph).items():
        read = layer.node.inputs[0]
        whole = [*graph.outputs, *(v for v in [read] if v.name != "x")]
        evaluator = Evaluator(graph, whole)
        stats = found.layers[name]
        assert stats.fit.count == 3 * stats.judge.count
        for part, chosen in ((stats.fit, ~held), (stats.judge, held)):
            feeds = [f for f, c in zip(given, chosen, strict=True) if c]
            inputs = [{**f, **evaluator.run(f)}[read.name] for f in feeds]
            total = sum(a.astype(float).sum() for a in inputs)
            if name in ("c", "d", "y"):  # each number is read once
                np.testing.assert_allclose(part.x.sum(), total, rtol=1e-4, atol=1e-3)
                square = sum((a.astype(float) ** 2).sum() for a in inputs)
                np.testing.assert_allclose(np.einsum("gnn->", part.xx), square, rtol=1e-4)


@pytest.mark.parametrize("name", ["b", "y"])
def test_results_follow_from_what_is_read(name: str) -> None:
    graph, given = network(), samples()
    part = statistics(graph, given, names=[name]).layers[name].fit
    value = next(v for v in graph.values() if v.name == name)
    evaluator = Evaluator(graph, [value])
    chosen = [f for f, h in zip(given, held_out(len(given)), strict=True) if not h]
    results = [evaluator.run(f)[name] for f in chosen]

    channels = [np.moveaxis(r, 1, 0).reshape(r.shape[1], -1).astype(float) for r in results]
    want = np.concatenate(channels, axis=1)
    np.testing.assert_allclose(part.y.ravel(), want.sum(axis=1), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(part.yy.ravel(), (want**2).sum(axis=1), rtol=1e-4)
    layer = linear_layers(graph)[name]
    np.testing.assert_allclose(part.error(layer.weight, layer.bias), 0, atol=1e-6)


def test_the_error_of_other_weights_is_that_of_the_results() -> None:
    graph, given = network(), samples(32)
    found = statistics(graph, given, names=["d"]).layers["d"]
    weight = found.layer.weight.copy()
    weight[0, :, ::3] = 0
    bias = found.fit.bias(weight)

    value = next(v for v in graph.values() if v.name == "flat")
    x = np.concatenate([r["flat"] for r in map(Evaluator(graph, [value]).run, given)])
    right = x @ found.layer.weight[0].T + found.layer.bias
    off = (x @ weight[0].T + bias - right)[held_out(len(given))]
    np.testing.assert_allclose(found.error(weight), (off**2).mean(axis=0).sum(), rtol=1e-4)
    spread = right[held_out(len(given))].var(axis=0).sum()
    np.testing.assert_allclose(found.power, spread, rtol=1e-4)


def test_layers_without_room_are_left_out_with_a_reason_and_memory_is_stated() -> None:
    graph, given = network(), samples(4)
    whole = statistics(graph, given)
    sizes = {n: s.bytes for n, s in whole.layers.items()}
    assert whole.bytes == sum(sizes.values()) > 2 * 8 * 36 * 36

    least = statistics(graph, given, most_bytes=sizes["a"] // 2)
    assert "a" in least.left_out
    assert "MiB" in least.left_out["a"]
    assert least.bytes <= sizes["a"] // 2
    assert set(least.layers) | set(least.left_out) == set(sizes)


def test_a_layer_with_very_many_inputs_is_left_out() -> None:
    net = Net(x=(1, 2400))
    graph = net.graph(net.add("y", FullyConnected(), "x", random(2, 2400)))
    found = statistics(graph, [{"x": random(1, 2400)}])

    assert not found.layers
    assert found.left_out == {"y": "2400 inputs to a sum are more than 2304"}


def test_what_an_error_costs_is_known_before_it_is_made() -> None:
    graph, given = network(), samples(64)
    stats = statistics(graph, given)
    judging = [f for f, h in zip(given, held_out(len(given)), strict=True) if h]
    rates = ExchangeRates(graph, stats, Divergence(graph, judging))
    for name in ("a", "d"):
        layer = stats.layers[name]
        rate = rates.of(name)
        assert rate > 0
        noise = random(*layer.layer.weight.shape, seed=5) * 0.02
        moved = layer.layer.weight + noise
        nats = rates.nats(name, moved)
        assert nats / 3 < rate * layer.error(moved) < nats * 3
        assert rates.of(name) == rate


def test_weights_are_put_back_as_the_operators_store_them() -> None:
    graph = network()
    layers = linear_layers(graph)
    same = with_weights(graph, {n: (x.weight, x.bias) for n, x in layers.items()})
    feed = samples(1)[0]

    np.testing.assert_allclose(
        Evaluator(same).run(feed)["y"], Evaluator(graph).run(feed)["y"], rtol=1e-5, atol=1e-5
    )
    moved = with_weights(graph, {"y": (2 * layers["y"].weight, None)})
    np.testing.assert_allclose(
        Evaluator(moved).run(feed)["y"], 2 * Evaluator(graph).run(feed)["y"], rtol=1e-5
    )
