from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgec.evaluate import Evaluator, evaluate
from edgec.ir import Array, DType, Graph, Node
from edgec.ops import (
    Activation,
    Add,
    Conv,
    ConvTranspose,
    Dequantize,
    FullyConnected,
    Relu,
    Softmax,
)
from edgec.passes import CorrectBiases, Scheme
from edgec.passes.walk import Walk, output_error
from tests.passes.quantization import INT8, UINT8, dequantized, layer, ratio
from tests.targets.graphs import Feeds, Net, quantized, random, tiny_cnn

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


class TestWalk:
    def walked(self, graph: Graph, feeds: Sequence[Feeds]) -> dict[str, list[Array]]:
        walk = Walk(graph, feeds)
        found: dict[str, list[Array]] = {}
        for node in walk.nodes:
            results = walk.run(node)
            for name in results[0]:
                found[name] = [r[name] for r in results]
            walk.hold(node, results)
        assert walk.held == ()
        return found

    def test_computes_what_the_graph_computes(self) -> None:
        graph, feed = tiny_cnn()
        made = quantized(graph, feed)
        nodes = [n for n in made.nodes if not isinstance(n.op, Dequantize)]
        feeds = [feed, {"image": feed["image"] * 2}]

        found = self.walked(made, feeds)

        assert found.keys() == {n.output.name for n in nodes}
        last = nodes[-1].output
        for want, got in zip(feeds, found[last.name], strict=True):
            np.testing.assert_array_equal(Evaluator(made, (last,)).run(want)[last.name], got)

    def test_takes_what_is_held_for_what_it_is(self) -> None:
        net = Net(x=(1, 4))
        net.add("a", Relu(), "x")
        graph = net.graph(net.add("y", Add(), "a", "a"))
        walk = Walk(graph, [{"x": random(1, 4)}])
        first, second = walk.nodes

        walk.hold(first, [{"a": np.ones((1, 4), np.float32)}])

        np.testing.assert_array_equal(walk.inputs(second, 0)[0], 1)
        np.testing.assert_array_equal(walk.run(second)[0]["y"], 2)

    def test_operands_come_as_real_numbers(self) -> None:
        graph, feed = tiny_cnn()
        made = quantized(graph, feed)
        walk = Walk(made, [feed])
        nodes: list[Node] = []
        for node in walk.nodes:
            if isinstance(node.op, Conv):
                nodes.append(node)
                value = node.inputs[0]
                want = Evaluator(made, (value,)).run(feed)[value.name]
                np.testing.assert_array_equal(walk.inputs(node, 0)[0], want)
            walk.hold(node, walk.run(node))
        assert len(nodes) == 2


def real(*numbers: float) -> Array:
    return np.array([numbers], np.float32)


class TestOutputError:
    def test_is_relative_to_each_output_and_sample(self) -> None:
        net = Net(x=(1, 4))
        net.add("a", Add(), "x", real(1, 1, 1, 1))
        graph = net.graph("a")
        other = Net(x=(1, 4))
        other.add("a", Add(), "x", real(1, 1, 1, 3))
        feeds: list[Feeds] = [{"x": np.full((1, 4), n, np.float32)} for n in (0, 1)]

        assert output_error(graph, graph, feeds) == 0
        assert output_error(graph, other.graph("a"), feeds) == pytest.approx(4 / 4 + 4 / 16)

    def test_a_softmax_is_judged_by_what_it_tells_apart(self) -> None:
        def made(*moved: float) -> Graph:
            net = Net(x=(1, 4))
            net.add("a", Add(), "x", real(*moved))
            return net.graph(net.add("y", Softmax(-1), "a"))

        feeds: list[Feeds] = [{"x": real(-1, 1, 1, -1)}]
        assert output_error(made(0, 0, 0, 0), made(2, 2, 2, 2), feeds) == 0
        error = output_error(made(0, 0, 0, 0), made(2, -2, 0, 0), feeds)
        assert error == pytest.approx(8 / 4)
