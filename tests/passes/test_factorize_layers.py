"""Graphs with factorised layers: exact where nothing is cut, and near where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.cost import cost
from edgec.evaluate import Evaluator, evaluate
from edgec.ir import Array, Graph, verify
from edgec.ops import (
    Activation,
    Add,
    Conv,
    DepthwiseConv,
    FullyConnected,
    GlobalAveragePool,
    MaxPool,
    Relu,
    Reshape,
)
from edgec.passes import FactorizeLowRank, FactorizeSeparable, Judge, Pass, Rank
from edgec.passes.factorized_layers import _eager, skeleton
from edgec.passes.linear_layers import linear_layers, with_weights
from tests.targets.graphs import Net, random

SHAPE = (1, 6, 9, 9)
Samples = list[dict[str, Array]]


def samples(count: int = 48, seed: int = 0) -> Samples:
    """Smooth images, of which a few directions of each patch are most."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = rng.standard_normal((1, 3, 3, 3)).repeat(3, axis=2).repeat(3, axis=3)
        mixed = np.einsum("oi,nihw->nohw", random(6, 3, seed=8), coarse)
        found.append({"x": (mixed + 0.2 * rng.standard_normal(SHAPE)).astype(np.float32)})
    return found


def residual() -> Graph:
    """Two blocks, each added to what it reads, whose shortcut is computed last."""
    net = Net(x=SHAPE)
    relu, pad = Activation.RELU, (1, 1, 1, 1)
    net.add("a", Conv(pad=pad, activation=relu), "x", random(16, 6, 3, 3) / 8, random(16))
    net.add("b", Conv(pad=pad, activation=relu), "a", random(16, 16, 3, 3, seed=1) / 10)
    net.add("c", Conv(pad=pad), "b", random(16, 16, 3, 3, seed=2) / 10, random(16, seed=3))
    net.add("sum", Add(activation=relu), "c", "a")
    net.add("d", Conv(pad=pad, activation=relu), "sum", random(16, 16, 3, 3, seed=4) / 10)
    net.add("e", Conv(pad=pad), "d", random(16, 16, 3, 3, seed=5) / 10, random(16, seed=6))
    net.add("short", MaxPool((1, 1)), "sum")
    net.add("total", Add(activation=relu), "short", "e")
    net.add("mean", GlobalAveragePool(), "total")
    net.add("flat", Reshape((1, 16)), "mean")
    return net.graph(net.add("y", FullyConnected(), "flat", random(12, 16, seed=7), random(12)))


LAYERS = ("b", "c", "d", "e")


def off(original: Graph, graph: Graph) -> float:
    """Return the squared error of a graph relative to what is right, on other samples."""
    return float(Judge(original, samples(32, seed=9)).errors(graph).mean())


def pass_of(kind: str, given: Samples | None, rank: int = 6) -> Pass:
    if kind == "separable":
        return FactorizeSeparable(dict.fromkeys(LAYERS, 3), given)
    form = {
        "channel": Rank("channel", rank),
        "spatial": Rank("spatial", rank),
        "tucker": Rank("tucker", rank + 2, rank + 2),
    }[kind]
    return FactorizeLowRank(dict.fromkeys(LAYERS, form), given)


KINDS = ("separable", "channel", "spatial", "tucker")


@pytest.mark.parametrize("kind", KINDS)
def test_what_samples_tell_makes_up_for_much_of_what_is_lost(kind: str) -> None:
    graph = residual()
    plain, aware = (pass_of(kind, given).run(graph) for given in (None, samples()))

    verify(aware)
    assert cost(aware).macs == cost(plain).macs < cost(graph).macs
    assert off(graph, aware) < 0.25 * off(graph, plain)
    assert [v.type for v in aware.outputs] == [v.type for v in graph.outputs]
    assert {v.name for v in graph.values() if v.name in LAYERS} == set(LAYERS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_samples_give_the_same_bytes(kind: str) -> None:
    one, two = (pass_of(kind, samples()).run(residual()) for _ in range(2))
    assert one.digest == two.digest


def test_each_layer_is_on_record_with_the_error_by_weights_alone_and_as_fitted() -> None:
    graph = residual()
    made, every = pass_of("separable", samples()).run_recorded(graph)

    records = [r for r in every if r.kept != "fitted"]
    assert [r.layer for r in records] == list(LAYERS)
    for record in records:
        assert record.kept == "separable, 3 to a channel"
        assert record.after_db > record.before_db + 1
    for what, before, after in (
        ("macs", cost(graph).macs, cost(made).macs),
        ("weight_bytes", cost(graph).weight_bytes, cost(made).weight_bytes),
    ):
        steps = [getattr(r, what) for r in records]
        assert steps[0][0] == before
        assert [s[1] for s in steps] == [*(s[0] for s in steps[1:]), after]


def test_a_layer_before_a_sum_makes_up_for_what_the_other_operand_lost() -> None:
    # The other operand comes later, through a node that does nothing, and is off by half.
    net = Net(x=SHAPE)
    net.add("a", Conv(), "x", random(12, 6, 1, 1))
    net.add("c", Conv(), "x", random(12, 6, 1, 1, seed=1), random(12))
    net.add("late", MaxPool((1, 1)), "a")
    graph = net.graph(net.add("y", Add(), "late", "c"))
    layer = linear_layers(graph)["a"]
    broken = with_weights(graph, {"a": (0.5 * layer.weight, None)})

    mended = FactorizeLowRank({"c": Rank("channel", 6)}, samples(), graph).run(broken)

    assert off(graph, broken) > 0.05
    assert off(graph, mended) < 1e-4


def test_what_no_reader_looks_at_may_be_lost() -> None:
    net = Net(x=SHAPE)
    weight = random(12, 12, 3, 3, seed=1)
    weight[:, ::2] *= 0.01
    net.add("a", Conv(activation=Activation.RELU), "x", random(12, 6, 3, 3), random(12))
    graph = net.graph(net.add("y", Conv(), "a", weight))
    hidden = Net(x=SHAPE)
    hidden.add("a", Conv(activation=Activation.RELU), "x", random(12, 6, 3, 3), random(12))
    hidden.add("same", MaxPool((1, 1)), "a")
    blind = hidden.graph(hidden.add("y", Conv(), "same", weight))

    lost = [
        off(each, FactorizeLowRank({"a": Rank("channel", 6)}, samples()).run(each))
        for each in (graph, blind)
    ]
    assert lost[0] < 0.6 * lost[1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_passes_between_factors_is_of_one_size(kind: str) -> None:
    made = pass_of(kind, samples()).run(residual())
    between = [n.output for n in made.nodes if n.output.name.startswith("c.")][:1]
    evaluator = Evaluator(made, between)
    arrays = [evaluator.run(f)[between[0].name].astype(float) for f in samples()]
    sizes = np.sqrt(np.mean([(a**2).mean(axis=(0, 2, 3)) for a in arrays], axis=0))

    assert sizes.max() < 1.5 * sizes.min()


def test_layers_that_stay_as_they_are_follow_those_that_do_not() -> None:
    graph, given = residual(), samples()
    ranks = {"b": Rank("channel", 3), "d": Rank("channel", 3)}
    made, records = FactorizeLowRank(ranks, given).run_recorded(graph)

    assert [(r.layer, r.kept) for r in records] == [
        ("b", "rank 3"),
        ("d", "rank 3"),
        ("c", "fitted"),
        ("e", "fitted"),
        ("y", "fitted"),
    ]
    assert all(r.after_db > r.before_db for r in records)
    now, before = linear_layers(made), linear_layers(graph)
    same = [k for k in "acey" if np.array_equal(now[k].weight, before[k].weight)]
    assert same == ["a"]


def test_layers_come_late_so_that_what_they_are_added_to_is_known() -> None:
    ordered = [n.outputs[0].name for n in _eager(residual()).nodes]
    assert ordered.index("short") < ordered.index("d")
    assert sorted(ordered) == sorted(n.outputs[0].name for n in residual().nodes)


def test_channels_that_the_original_has_more_of_are_left_out() -> None:
    net = Net(x=SHAPE)
    weight, bias = random(16, 6, 3, 3) / 8, random(16)
    second = random(8, 16, 3, 3, seed=1) / 10
    net.add("a", Conv(activation=Activation.RELU), "x", weight, bias)
    graph = net.graph(net.add("y", Conv(), "a", second))
    kept = np.array([0, 2, 3, 5, 7, 8, 11, 13])
    small = Net(x=SHAPE)
    small.add("a", Conv(activation=Activation.RELU), "x", weight[kept], bias[kept])
    pruned = small.graph(small.add("y", Conv(), "a", second[:, kept]))

    made = FactorizeLowRank(
        {"a": Rank("channel", 7), "y": Rank("channel", 7)}, samples(), graph, {"a": kept}
    ).run(pruned)
    assert off(graph, made) < 0.7 * off(graph, pruned)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv, tuple[int, ...]]:
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (3, 2), (1, 3), (2, 1)]))
    pairs = st.tuples(st.integers(1, 2), st.integers(1, 2))
    pads = st.tuples(*[st.integers(0, 2)] * 4)
    op = Conv(
        draw(pairs), draw(pads), draw(pairs), draw(st.sampled_from([*Activation])),
    )  # fmt: skip
    return op, (draw(st.integers(9, 12)), 6, *kernel)


@settings(max_examples=25, deadline=None)
@given(made=convolutions(), with_bias=st.booleans(), aware=st.booleans())
def test_nothing_changes_where_nothing_is_cut(
    made: tuple[Conv, tuple[int, ...]], with_bias: bool, aware: bool
) -> None:
    op, shape = made
    outputs, channels, kh, kw = shape
    net = Net(x=SHAPE)
    operands = [random(*shape), *([random(outputs)] if with_bias else [])]
    graph = net.graph(net.add("y", op, "x", *operands))
    full = min(outputs, channels * kh * kw)
    given = samples(8) if aware else None
    passes: list[Pass] = [
        FactorizeSeparable({"y": kh * kw}, given),
        FactorizeLowRank({"y": Rank("channel", full)}, given),
        FactorizeLowRank({"y": Rank("spatial", min(outputs * kw, channels * kh))}, given),
        FactorizeLowRank({"y": Rank("tucker", full, channels)}, given),
    ]
    feed = samples(1, seed=5)[0]
    want = evaluate(graph, feed)["y"]
    for step in passes:
        assert not step.diagnostics(graph)
        got = step.run(graph)
        assert len(got.nodes) > 1
        scale = max(float(np.abs(want).max()), 1e-3)
        np.testing.assert_allclose(evaluate(got, feed)["y"], want, atol=5e-3 * scale)


def test_products_become_two_products() -> None:
    net = Net(x=(1, 20))
    relu = Activation.RELU
    net.add("a", FullyConnected(activation=relu), "x", random(15, 20), random(15))
    graph = net.graph(net.add("y", FullyConnected(), "a", random(10, 15), random(10)))
    given = [{"x": random(1, 20, seed=k)} for k in range(64)]

    made = FactorizeLowRank({"a": Rank("channel", 14), "y": Rank("channel", 3)}, given).run(
        graph
    )

    assert [n.output.name for n in made.nodes] == ["a.first", "a", "y.first", "y"]
    assert [n.op for n in made.nodes[:2]] == [FullyConnected(), FullyConnected(relu)]
    assert [n.layer for n in made.nodes] == ["a", "a", "y", "y"]


def test_lines_and_volumes_can_be_separable_and_of_low_rank() -> None:
    for size in ((9,), (5, 4, 6)):
        net = Net(x=(1, 3, *size))
        axes, kernel = len(size), (2,) * len(size)
        op = Conv((1,) * axes, (1,) * 2 * axes, (1,) * axes)
        graph = net.graph(net.add("y", op, "x", random(9, 3, *kernel), random(9)))
        feed = {"x": random(1, 3, *size)}
        want = evaluate(graph, feed)["y"]
        for step in (
            FactorizeSeparable({"y": 2**axes}),
            FactorizeLowRank({"y": Rank("tucker", 9 if axes > 1 else 6, 3)}),
        ):
            got = evaluate(step.run(graph), feed)["y"]
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)


def test_the_skeleton_has_the_shapes_of_what_is_made() -> None:
    graph = residual()
    for kind in KINDS:
        step = pass_of(kind, None)
        assert isinstance(step, FactorizeSeparable | FactorizeLowRank)
        bare, made = skeleton(graph, step.forms(graph)), step.run(graph)
        assert cost(bare) == cost(made)
        assert str(bare) == str(made)


def test_layers_that_cannot_be_factorised_are_left_and_named() -> None:
    net = Net(x=SHAPE)
    shared = net.const("shared", random(6, 6, 3, 3))
    pad = (1, 1, 1, 1)
    net.add("a", Conv(pad=pad), "x", "shared")
    net.add("b", Conv(pad=pad), "a", "shared")
    net.add("c", DepthwiseConv(pad=pad), "b", random(6, 1, 3, 3))
    net.add("d", Relu(), "c")
    graph = net.graph(net.add("y", Conv(pad=pad), "d", random(4, 6, 3, 3)))
    del shared
    step = FactorizeSeparable(dict.fromkeys(("a", "c", "d", "none"), 2) | {"y": 7}, samples())

    assert step.run(graph) is graph
    found = [(d.where, d.message) for d in step.diagnostics(graph)]
    kind = "is of the kind {}, not a plain convolution or product"
    assert found == [
        (where, f"stays as it is: it {what}")
        for where, what in (
            ("a", "shares its weights with another layer"),
            ("c", kind.format("DepthwiseConv")),
            ("d", kind.format("Relu")),
            ("none", "is not a layer of the graph"),
            ("y", "can have a multiplier of 4 at most, not 7"),
        )
    ]


def test_weights_that_are_computed_are_left() -> None:
    net = Net(x=SHAPE, w=(4, 6, 3, 3))
    graph = net.graph(net.add("y", Conv(), "x", "w"))
    (problem,) = FactorizeSeparable({"y": 2}).diagnostics(graph)
    assert problem.message.endswith("it has weights that are not constant, or not in float32")


def test_too_few_samples_change_nothing() -> None:
    graph = residual()
    step = FactorizeSeparable({"b": 2}, samples(7))
    assert step.run(graph) is graph
    (note,) = step.diagnostics(graph)
    assert "7 samples are too few to fit to: nothing changes" in note.message


def test_factors_read_by_nothing_else_keep_the_values_that_others_read() -> None:
    # A convolution whose result is an output and is read, too.
    net = Net(x=SHAPE)
    net.add("a", Conv(pad=(1, 1, 1, 1)), "x", random(12, 6, 3, 3), random(12))
    net.add("y", Relu(), "a")
    graph = net.graph("a", "y")
    made = FactorizeSeparable({"a": 9}, samples(8)).run(graph)

    feed = samples(1)[0]
    want, got = evaluate(graph, feed), evaluate(made, feed)
    assert list(got) == ["a", "y"]
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, atol=5e-3 * float(np.abs(array).max()))
    assert replace(made, nodes=()).inputs == graph.inputs
