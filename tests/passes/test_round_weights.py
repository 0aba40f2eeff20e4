from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgec.evaluate import Evaluator, evaluate
from edgec.ir import Array, DType, Graph, Op
from edgec.ops import (
    Activation,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    GroupedConv,
)
from edgec.passes import CorrectBiases, RoundWeights, Scheme
from edgec.passes.layer_recovery import MOST_INPUTS
from tests.passes.quantization import INT8, UINT8, dequantized, layer, ratio
from tests.targets.graphs import Feeds, Net, quantized, random

COARSE = Scheme(DType.INT8, 7)
"""Weights of 4 bits, whose rounding costs much."""

PACKED = Scheme(packed=(Conv, GroupedConv))


def smooth(count: int, *shape: int, first: int = 0) -> list[Feeds]:
    """Return samples whose elements go together, as those of images do."""
    found: list[Feeds] = []
    for seed in range(first, first + count):
        x = random(*shape, seed=seed) / 4
        x += random(1, shape[1], *(1,) * (len(shape) - 2), seed=seed + 1000)
        x += random(1, seed=seed + 2000)
        found.append({"x": x})
    return found


def deep(activation: Activation = Activation.RELU) -> Graph:
    net = Net(x=(1, 4, 8, 8))
    net.add(
        "a", Conv(activation=activation), "x", random(8, 4, 3, 3, seed=1), random(8, seed=2)
    )
    net.add("d", DepthwiseConv(activation=activation), "a", random(16, 1, 3, 3, seed=3))
    net.add("g", GroupedConv(groups=2, activation=activation), "d", random(6, 8, 1, 1, seed=4))
    return net.graph(net.add("y", Conv(), "g", random(4, 6, 1, 1, seed=5), random(4, seed=6)))


def gained(graph: Graph, before: Graph, after: Graph, feeds: Sequence[Feeds]) -> float:
    """Return by how many decibels an output comes nearer to the float model's."""
    (name,) = (v.name for v in graph.outputs)
    want, plain, now = (
        np.concatenate([Evaluator(g).run(f)[name] for f in feeds])
        for g in (graph, before, after)
    )
    return ratio(want, now) - ratio(want, plain)


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU, Activation.RELU6])
def test_a_coarse_model_comes_nearer_on_other_samples(activation: Activation) -> None:
    graph, feeds = deep(activation), smooth(48, 1, 4, 8, 8)
    other = smooth(16, 1, 4, 8, 8, first=500)
    before = quantized(graph, *feeds, scheme=COARSE)

    after = RoundWeights(graph, feeds).run(before)

    gain = gained(graph, before, after, other)
    assert gain > 1
    assert gain > gained(graph, before, CorrectBiases(graph, feeds).run(before), other) + 0.3


def one(op: Op, weight: Array, *shape: int) -> Graph:
    net = Net(x=shape)
    return net.graph(net.add("y", op, "x", weight))


LAYERS = [
    (Conv(pad=(1, 1, 1, 1)), random(6, 4, 3, 3, seed=1), (1, 4, 6, 6)),
    (Conv((1,), (0, 0), (1,)), random(6, 4, 3, seed=1), (1, 4, 12)),
    (DepthwiseConv(stride=(2, 2)), random(8, 1, 3, 3, seed=1), (1, 4, 9, 9)),
    (GroupedConv(groups=2), random(6, 2, 3, 3, seed=1), (1, 4, 6, 6)),
    (FullyConnected(), random(6, 24, seed=1), (1, 24)),
]


@pytest.mark.parametrize(("op", "weight", "shape"), LAYERS, ids=lambda p: type(p).__name__)
def test_every_kind_of_layer_is_rounded(op: Op, weight: Array, shape: tuple[int, ...]) -> None:
    graph, feeds = one(op, weight, *shape), smooth(160, *shape)
    before = quantized(graph, *feeds, scheme=COARSE)

    after, (record,) = RoundWeights(graph, feeds).run_recorded(before)

    assert (record.layer, record.kept) == ("y", "rounded")
    assert record.after_db > record.before_db + 0.2
    assert gained(graph, before, after, smooth(32, *shape, first=500)) > 0.2


@pytest.mark.parametrize(
    "scheme", [INT8, UINT8, COARSE, PACKED], ids=["int8", "uint8", "4bit", "int4"]
)
def test_grids_and_bits_stay(scheme: Scheme) -> None:
    graph, feeds = deep(), smooth(16, 1, 4, 8, 8)
    before = quantized(graph, *feeds, scheme=scheme)

    after = RoundWeights(graph, feeds).run(before)

    changed = 0
    for name in "adgy":
        (old, by), *_ = dequantized(before, layer(before, name))
        (new, with_), *biases = dequantized(after, layer(after, name))
        assert (with_, new.dtype) == (by, old.dtype)
        assert all(bias.dtype == np.int32 for bias, _ in biases)
        assert np.abs(new.astype(int)).max() <= scheme.weight_max
        changed += int((old.astype(int) != new.astype(int)).sum())
    assert changed
    grids = [
        {n.output.name: n.op.params for n in g.nodes if isinstance(n.op, Dequantize)}
        for g in (before, after)
    ]
    assert all(grids[1][v] == p for v, p in grids[0].items() if v in grids[1])


def test_weights_that_others_share_stay() -> None:
    net = Net(x=(1, 4, 6, 6))
    net.const("w", random(4, 4, 1, 1, seed=1))
    net.add("a", Conv(), "x", "w")
    graph = net.graph(net.add("y", Conv(), "a", "w"))
    feeds = smooth(32, 1, 4, 6, 6)
    before = quantized(graph, *feeds, scheme=COARSE)

    after, records = RoundWeights(graph, feeds).run_recorded(before)

    for name in "ay":
        (old, _), (new, _) = (dequantized(g, layer(g, name))[0] for g in (before, after))
        np.testing.assert_array_equal(old, new)
    assert {r.kept for r in records} <= {"plain", "corrected"}


def test_other_layers_get_their_bias_only() -> None:
    wide = MOST_INPUTS + 1
    for op, weight, shape in (
        (ConvTranspose(), random(4, 3, 2, 2, seed=1), (1, 4, 5, 5)),
        (FullyConnected(), random(2, wide, seed=1), (1, wide)),
    ):
        graph = one(op, weight, *shape)
        feeds: list[Feeds] = [{"x": f["x"] + 2} for f in smooth(32, *shape)]
        before = quantized(graph, *feeds, scheme=COARSE)

        after, (record,) = RoundWeights(graph, feeds).run_recorded(before)

        assert record.kept == "corrected"
        (old, _), (new, _) = (dequantized(g, layer(g, "y"))[0] for g in (before, after))
        np.testing.assert_array_equal(old, new)
        assert len(dequantized(after, layer(after, "y"))) == 2


def test_held_out_samples_decide() -> None:
    op, weight, shape = LAYERS[0]
    graph = one(op, weight, *shape)
    feeds = smooth(32, *shape)
    noise: list[Feeds] = [{"x": 8 * random(*shape, seed=k)} for k in range(32)]
    other = [noise[k] if k % 4 == 3 else f for k, f in enumerate(feeds)]
    before = quantized(graph, *feeds, *noise, scheme=COARSE)

    assert RoundWeights(graph, feeds).run(before) is not before
    after, (record,) = RoundWeights(graph, other).run_recorded(before)

    assert record.kept != "rounded"
    (old, _), (new, _) = (dequantized(g, layer(g, "y"))[0] for g in (before, after))
    np.testing.assert_array_equal(old, new)


def test_nothing_changes_without_samples_or_a_float_model() -> None:
    graph, feeds = deep(), smooth(16, 1, 4, 8, 8)
    before = quantized(graph, *feeds)

    assert RoundWeights(graph, feeds).run(graph) is graph
    assert RoundWeights(graph, feeds[:7]).run(before) is before


def test_inputs_that_are_always_zero_change_nothing() -> None:
    graph = one(Conv(), random(6, 4, 3, 3, seed=1), 1, 4, 6, 6)
    feeds: list[Feeds] = [{"x": f["x"] * np.float32(0)} for f in smooth(16, 1, 4, 6, 6)]
    before = quantized(graph, *feeds, scheme=COARSE)

    assert RoundWeights(graph, feeds).run(before) is before
    assert np.isfinite(evaluate(before, feeds[0])["y"]).all()
