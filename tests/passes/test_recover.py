"""Compressed graphs that learn from their originals, without labels."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[recover]'")

from edgec.channels import channels_of, without
from edgec.errors import OptionError, UnsupportedError
from edgec.ir import Array, Constant, DType, Graph, QuantParams, verify
from edgec.ops import (
    Activation,
    Conv,
    Dequantize,
    Dft,
    FullyConnected,
    GlobalAveragePool,
    MatMul,
    Quantize,
    Relu,
    Reshape,
)
from edgec.passes import QuantizeGraph, Recover, Scheme
from edgec.passes.divergence import Divergence
from edgec.passes.judging import judging
from edgec.passes.recover import _features
from edgec.passes.trainable import parameters_of, with_changes
from edgec.targets import OnnxRuntime, Tflite
from tests.models import Sketch
from tests.targets.graphs import calibrated, ran

STEPS = 100
Feeds = dict[str, Array]


def images(count: int = 96, first: int = 0) -> list[Feeds]:
    """Images of a smooth background each, so that neighbours go together."""
    found: list[Feeds] = []
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((1, 3, 8, 8)) / 4 + rng.standard_normal((1, 3, 1, 1))
        found.append({"x": x.astype(np.float32)})
    return found


def net(*, classes: int = 5, seed: int = 0) -> Graph:
    s = Sketch(1, 3, 8, 8, seed=seed)
    op = Conv(pad=(1, 1, 1, 1), activation=Activation.RELU)
    x = s.conv(s.x, 8, op=op)
    x = s.conv(x, 8, op=op)
    flat = s.add(Reshape((1, 8)), s.add(GlobalAveragePool(), x))
    head = s.random(classes, 8), s.const(np.zeros(classes, np.float32))
    return s.graph(s.add(FullyConnected(), flat, *head))


def changed(graph: Graph, **arrays: Array) -> Graph:
    now = {**graph.constants, **{n: Constant(a) for n, a in arrays.items()}}
    return replace(graph, constants=MappingProxyType(now))


def damaged(graph: Graph, share: float = 0.3) -> Graph:
    """The graph with noise on all of its weights."""
    rng, found = np.random.default_rng(5), {}
    for name, constant in graph.constants.items():
        array = constant.array
        noise = rng.standard_normal(array.shape) * share * array.std()
        found[name] = (array + noise).astype(np.float32)
    return changed(graph, **found)


def nats(reference: Graph, graph: Graph, feeds: Sequence[Mapping[str, Array]]) -> float:
    return float(Divergence(reference, feeds).of(graph).mean())


@pytest.mark.parametrize("classes", [5, 1], ids=["classes", "number"])
def test_a_damaged_graph_comes_nearer_on_other_samples(classes: int) -> None:
    graph, feeds, other = net(classes=classes), images(), images(32, first=900)
    before = damaged(graph)

    after, (record,) = Recover(graph, feeds, steps=STEPS).run_recorded(before)
    assert nats(graph, after, other) < 0.5 * nats(graph, before, other)
    assert record.kept == "recovered"
    assert record.nats == pytest.approx(
        [nats(graph, g, judging(feeds)) for g in (before, after)], rel=1e-4
    )
    assert str(after) == str(before)  # but for the numbers of its constants


def test_what_all_logits_have_in_common_is_seen_by_training_too() -> None:
    graph, feeds = net(), images(24)
    (bias,) = (n for n, c in graph.constants.items() if c.array.shape == (5,))
    before = changed(graph, **{bias: np.full(5, 1, np.float32)})
    told: list[float] = []

    after = Recover(
        graph, feeds, steps=STEPS, progress=lambda done, all_, lost: told.append(lost)
    ).run(before)

    assert told[0] == pytest.approx(nats(graph, before, judging(feeds)), 1e-3)
    assert told[0] > 1e-3
    assert nats(graph, after, judging(feeds)) < 0.2 * told[0]


def test_channels_that_are_left_are_compared_with_their_own() -> None:
    graph, feeds = net(), images()
    group = channels_of(graph).groups[0]
    removed = group.removal(np.arange(3))
    (gone,) = [at for (name, axis), at in removed.items() if (name, axis) == ("v0", 1)]
    before = without(graph, removed)
    kept = {"v0": np.setdiff1d(np.arange(8), gone)}

    after = Recover(graph, feeds, kept, steps=3 * STEPS).run(before)
    assert nats(graph, after, images(32, first=900)) < 0.4 * nats(
        graph, before, images(32, first=900)
    )
    for value in after.values():
        assert value.type == next(v for v in before.values() if v.name == value.name).type


def test_a_graph_that_cannot_become_better_is_returned_as_it_was() -> None:
    graph = net()
    after, (record,) = Recover(graph, images(), steps=10).run_recorded(graph)

    assert after is graph
    assert record.kept == "plain"
    assert record.nats is not None
    assert record.nats[0] == record.nats[1]


def test_with_too_few_samples_nothing_changes() -> None:
    graph = damaged(net())

    assert Recover(net(), images(7)).run(graph) is graph


def test_the_same_input_gives_the_same_bytes() -> None:
    graph, feeds = net(), images()
    before = damaged(graph)
    one, two = (Recover(graph, feeds, steps=STEPS).run(before) for _ in range(2))

    assert one is not before
    assert one.digest == two.digest
    assert Recover(graph, feeds, steps=STEPS, seed=1).run(before).digest != one.digest


def test_zeros_of_weights_stay_and_those_of_biases_do_not() -> None:
    graph = net()
    sparse = damaged(graph).constants["c2"].array.copy()
    sparse[np.abs(sparse) < 0.5] = 0
    before = changed(damaged(graph), c2=sparse, c5=np.zeros(5, np.float32))

    after = Recover(graph, images(), steps=STEPS).run(before)
    found = after.constants["c2"].array
    assert np.array_equal(found == 0, sparse == 0)
    assert not np.array_equal(found, sparse)
    assert (after.constants["c5"].array != 0).all()


def test_progress_tells_of_every_look_and_the_last_step() -> None:
    graph = net()
    told: list[tuple[int, int, float]] = []
    step = Recover(graph, images(24), steps=10, progress=lambda *now: told.append(now))
    step.run(damaged(graph))

    assert told[0][:2] == (0, 10)
    assert told[0][2] == pytest.approx(nats(graph, damaged(graph), judging(images(24))), 1e-3)
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})


def test_samples_of_several_lengths_are_taken_one_shape_at_a_time() -> None:
    s = Sketch(1, "T", 4)
    x = s.add(Relu(), s.add(MatMul(), s.x, s.random(4, 6)))
    graph = s.graph(s.add(MatMul(), x, s.random(6, 3)))
    rng = np.random.default_rng(0)
    feeds = [
        {"x": rng.standard_normal((1, 2 + k % 3, 4)).astype(np.float32)} for k in range(48)
    ]
    before = damaged(graph)

    after = Recover(graph, feeds, steps=STEPS).run(before)
    assert nats(graph, after, feeds) < 0.5 * nats(graph, before, feeds)


def test_a_layer_without_a_gradient_is_named() -> None:
    s = Sketch(1, 6, 4)
    x = s.add(MatMul(), s.x, s.random(4, 4))
    graph = s.graph(s.add(Dft(axis=1), s.add(Reshape((1, 24, 1)), x)))

    with pytest.raises(UnsupportedError, match="n2: there is no gradient for Dft"):
        Recover(graph, [{"x": np.zeros((1, 6, 4), np.float32)}] * 9).run(graph)


def test_without_pytorch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(OptionError, match=r"pip install 'edgec\[recover\]'"):
        Recover(net(), images(8)).run(net())


# ---- what is stored as integers

COARSE = Scheme(DType.INT8, 3)
"""Weights of 3 bits, whose rounding costs much."""


def coarse(graph: Graph, feeds: list[Feeds]) -> Graph:
    return QuantizeGraph(calibrated(graph, *feeds), COARSE).run(graph)


@pytest.mark.parametrize("train", ["biases", "scales", "weights"])
def test_a_quantized_graph_comes_nearer_and_stays_one(train: str) -> None:
    graph, feeds, other = net(), images(), images(32, first=900)
    before = coarse(graph, feeds)

    after = Recover(graph, feeds, steps=STEPS, train=train).run(before)  # type: ignore[arg-type]
    verify(after)
    assert nats(graph, after, other) < nats(graph, before, other)
    assert [type(n.op) for n in after.nodes] == [type(n.op) for n in before.nodes]
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if not isinstance(old.op, Dequantize):
            assert old.op == new.op
            continue
        assert isinstance(new.op, Dequantize)
        one, two = (g.constant(n.inputs[0]) for g, n in ((before, old), (after, new)))
        if one is None or two is None:
            assert old.op == new.op
            continue
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        assert new.op.params.zero_point == old.op.params.zero_point
        if one.dtype == np.int8:
            assert np.array_equal(one, two) or train == "weights"
            assert old.op == new.op or train != "biases"
            assert (two[one == 0] == 0).all()


def test_layers_are_compared_in_quantized_graphs_too() -> None:
    graph, feeds = net(), images(16)
    names = [v.name for v in graph.producers if v.name in ("v0", "v1", "v4")]

    assert list(_features(graph, coarse(graph, feeds), {})) == names
    assert list(_features(graph, graph, {"v0": np.arange(3)})) == names[1:]  # it has all eight


def test_every_layer_is_compared() -> None:
    s = Sketch(1, 4)
    x = s.x
    for _ in range(20):
        x = s.add(FullyConnected(), x, s.random(4, 4))
    graph = s.graph(x)

    assert len(_features(graph, graph, {})) == 20


def test_each_rung_of_the_ladder_brings_more() -> None:
    graph, feeds = net(), images()
    before, judges = coarse(graph, feeds), judging(feeds)
    found = [
        nats(graph, Recover(graph, feeds, steps=STEPS, train=t).run(before), judges)
        for t in ("biases", "scales", "weights")
    ]

    assert sorted(found, reverse=True) == found
    assert found[0] < nats(graph, before, judges)


@pytest.mark.parametrize("target", [Tflite(), OnnxRuntime()], ids=lambda t: t.name)
def test_a_recovered_quantized_graph_runs_on_integers_as_written(
    target: Tflite | OnnxRuntime,
) -> None:
    graph, feeds = net(), images()
    before = QuantizeGraph(calibrated(graph, *feeds), target.scheme()).run(damaged(graph))
    after = Recover(graph, feeds, steps=STEPS).run(before)
    (name,) = (v.name for v in graph.outputs)

    assert after is not before
    for feed in feeds[:4]:
        found, *_ = ran(target, after, feed)
        want = Divergence(after, [feed])
        assert float(want.of_results([{name: found[name]}])[0]) < 1e-3


def test_what_is_written_back_is_what_was_trained() -> None:
    """Bit by bit: the trained values are those that the new constants stand for."""
    graph, feeds = net(), images(16)
    before = coarse(graph, feeds)
    parameters = parameters_of(before, "weights")
    for each in parameters:
        for leaf in each.leaves:
            leaf.tensor.data += 0.3 * leaf.unit
    made = with_changes(before, parameters)

    values = {n: t for p in parameters for n, t in p.values().items()}
    assert len(values) == 6
    for node in made.nodes:
        if node.outputs[0].name not in values:
            continue
        assert isinstance(node.op, Dequantize)
        stored = made.constants[node.inputs[0].name].array
        scale = np.array(node.op.params.scale, np.float64)
        real = stored * scale.reshape(-1, *(1,) * (stored.ndim - 1))
        want = values[node.output.name].detach().numpy()
        step = 0 if stored.ndim > 1 else scale.max()  # a bias is rounded to its steps
        np.testing.assert_allclose(real, want, rtol=1e-6, atol=step)


def test_the_steps_of_a_bias_follow_the_scales_of_the_weights() -> None:
    graph, feeds = net(), images()
    before = coarse(graph, feeds)
    after = Recover(graph, feeds, steps=STEPS, train="scales").run(before)

    assert after is not before
    for node in after.nodes:
        if not isinstance(node.op, Conv | FullyConnected):
            continue
        x, w, b = (after.producers[v].op for v in node.inputs)
        assert isinstance(x, Dequantize)
        assert isinstance(w, Dequantize)
        assert isinstance(b, Dequantize)
        products = np.float32(x.params.scale[0]) * np.array(w.params.scale, np.float32)
        np.testing.assert_array_equal(np.array(b.params.scale, np.float32), products)


def test_integers_move_but_zeros_stay() -> None:
    graph, feeds = net(), images()
    before = coarse(damaged(graph), feeds)
    parameters = parameters_of(before, "weights")
    for each in parameters:
        for leaf in each.leaves:
            leaf.tensor.data += 0.7
    made = with_changes(before, parameters)

    for old, new in zip(before.nodes, made.nodes, strict=True):
        one, two = before.constant(old.inputs[0]), made.constant(new.inputs[0])
        if one is None or two is None or one.dtype != np.int8:
            continue
        assert (two[one == 0] == 0).all()
        assert (one == 0).any()
        assert (two[one != 0] == np.minimum(one[one != 0].astype(int) + 1, 127)).all()


def test_integers_that_two_layers_share_stay() -> None:
    s = Sketch(1, 4)
    grid = QuantParams((0.1,), (0,))
    stored = s.const(np.arange(-8, 8).astype(np.int8).reshape(4, 4))
    shared = s.add(Dequantize(grid, DType.INT8), stored)
    x = s.add(FullyConnected(), s.x, shared)
    y = s.add(FullyConnected(), s.add(Relu(), x), shared)
    own = s.add(Dequantize(grid, DType.INT8), s.const(np.ones((3, 4), np.int8)))
    graph = s.graph(s.add(FullyConnected(), y, own))

    found = [set(p.values()) for p in parameters_of(graph, "weights")]
    assert found == [{own.name}]
    assert isinstance(graph.producers[own].op, Dequantize)
    assert Quantize not in {type(n.op) for n in graph.nodes}
