from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import Evaluator, evaluate
from edgec.ir import Array, DType, Graph
from edgec.ops import (
    Activation,
    Conv,
    ConvTranspose,
    Dequantize,
    FullyConnected,
)
from edgec.passes import CorrectBiases, Scheme
from tests.passes.quantization import INT8, UINT8, dequantized, layer, ratio
from tests.targets.graphs import Net, quantized, random

COARSE = Scheme(DType.INT8, 7)
"""Weights of 4 bits, whose rounding moves means a lot."""


def samples(count: int, *shape: int) -> list[dict[str, Array]]:
    return [{"x": random(*shape, seed=seed) + 2} for seed in range(count)]


def deep(activation: Activation) -> Graph:
    net = Net(x=(1, 3, 8, 8))
    net.add(
        "a", Conv(activation=activation), "x", random(8, 3, 3, 3, seed=1), random(8, seed=2)
    )
    net.add("b", Conv(activation=activation), "a", random(8, 8, 3, 3, seed=3) / 4)
    return net.graph(net.add("y", Conv(), "b", random(4, 8, 1, 1, seed=5), random(4, seed=6)))


def means(graph: Graph, feeds: list[dict[str, Array]], name: str = "y") -> Array:
    evaluator = Evaluator(graph)
    found: Array = np.mean([evaluator.run(f)[name].mean((0, 2, 3)) for f in feeds], axis=0)
    return found


@pytest.mark.parametrize("scheme", [INT8, UINT8, COARSE], ids=["int8", "uint8", "4bit"])
@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU, Activation.RELU6])
def test_channels_have_the_means_of_the_float_model(
    activation: Activation, scheme: Scheme
) -> None:
    graph, feeds = deep(activation), samples(64, 1, 3, 8, 8)
    before = quantized(graph, *feeds, scheme=scheme)

    after = CorrectBiases(graph, feeds).run(before)

    want = means(graph, feeds)
    step = before.producers[before.outputs[0]].op.params.scale[0]  # type: ignore[attr-defined]
    assert np.abs(means(after, feeds) - want).max() < step / 2
    assert np.abs(means(after, feeds) - want).max() < np.abs(means(before, feeds) - want).max()


def test_a_coarse_model_comes_closer_on_other_samples() -> None:
    graph, feeds = deep(Activation.RELU), samples(16, 1, 3, 8, 8)
    before = quantized(graph, *feeds, scheme=COARSE)
    after = CorrectBiases(graph, feeds).run(before)
    (other,) = samples(17, 1, 3, 8, 8)[16:]

    want = evaluate(graph, other)["y"]
    plain, corrected = (ratio(want, evaluate(g, other)["y"]) for g in (before, after))
    assert corrected > plain + 0.5


def stored(graph: Graph, name: str) -> list[tuple[Array, Dequantize]]:
    return dequantized(graph, layer(graph, name))


def test_only_biases_change_and_stay_on_their_grid() -> None:
    graph, feeds = deep(Activation.RELU), samples(16, 1, 3, 8, 8)
    before = quantized(graph, *feeds)

    after = CorrectBiases(graph, feeds).run(before)

    for name in "aby":
        (weight, by), *old = stored(before, name)
        (same, with_), (bias, grid) = stored(after, name)
        np.testing.assert_array_equal(same, weight)
        assert with_ == by
        assert bias.dtype == np.int32
        if old:
            assert grid == old[0][1]
            assert (bias != old[0][0]).any()


def test_transposed_convolutions_and_fully_connected_layers_are_corrected() -> None:
    net = Net(x=(1, 4, 5, 5))
    net.add("up", ConvTranspose(stride=(2, 2)), "x", random(4, 3, 2, 2, seed=1))
    up = net.graph("up")
    flat = Net(x=(1, 6))
    flat.add(
        "fc", FullyConnected(Activation.RELU), "x", random(5, 6, seed=2), random(5, seed=3)
    )
    for graph, shape in ((up, (1, 4, 5, 5)), (flat.graph("fc"), (1, 6))):
        feeds = samples(32, *shape)
        before = quantized(graph, *feeds, scheme=COARSE)
        after = CorrectBiases(graph, feeds).run(before)

        (name,) = (v.name for v in graph.outputs)
        mean = [
            np.mean([evaluate(g, f)[name].mean((0, 2, 3)[: f["x"].ndim - 1]) for f in feeds], 0)
            for g in (graph, before, after)
        ]
        assert np.abs(mean[2] - mean[0]).max() < np.abs(mean[1] - mean[0]).max() / 2


def test_layers_that_share_a_bias_are_corrected_each() -> None:
    net = Net(x=(1, 3, 8, 8))
    net.const("bias", random(4, seed=7))
    net.add("a", Conv(), "x", random(4, 3, 3, 3, seed=1), "bias")
    net.add("b", Conv(), "x", random(4, 3, 3, 3, seed=2), "bias")
    graph, feeds = net.graph("a", "b"), samples(16, 1, 3, 8, 8)
    before = quantized(graph, *feeds, scheme=COARSE)

    after = CorrectBiases(graph, feeds).run(before)

    for name in "ab":
        want = means(graph, feeds, name)
        now, then = (np.abs(means(g, feeds, name) - want).max() for g in (after, before))
        assert now < then / 2


def test_what_is_not_quantized_is_left_alone() -> None:
    graph, feeds = deep(Activation.RELU), samples(16, 1, 3, 8, 8)
    correct = CorrectBiases(graph, feeds)
    assert correct.run(graph) is graph
    assert CorrectBiases(graph, ()).run(quantized(graph, *feeds)).constants

    part = quantized(graph, *feeds, keep_float=("b",))
    after = correct.run(part)
    assert layer(after, "b").inputs[1].name == layer(part, "b").inputs[1].name
    assert len(layer(after, "b").inputs) == 2
    assert len(layer(after, "a").inputs) == 3


def test_what_is_chance_is_not_corrected() -> None:
    graph = deep(Activation.RELU)
    feeds = [{"x": random(1, 3, 8, 8, seed=seed)} for seed in range(16)]
    before = quantized(graph, *feeds, scheme=COARSE)
    # A float model that the quantized one differs from by noise of mean zero alone.
    assert CorrectBiases(before, feeds).run(before) is before

    assert CorrectBiases(graph, feeds[:7]).run(before) is before


def test_held_out_samples_decide() -> None:
    net = Net(x=(1, 3, 8, 8))
    graph = net.graph(net.add("a", Conv(), "x", random(8, 3, 3, 3, seed=1)))
    feeds = samples(32, 1, 3, 8, 8)
    other = [{"x": -f["x"]} if i % 4 == 3 else f for i, f in enumerate(feeds)]
    before = quantized(graph, *feeds, *other, scheme=COARSE)

    assert CorrectBiases(graph, feeds).run(before) is not before
    assert CorrectBiases(graph, other).run(before) is before
