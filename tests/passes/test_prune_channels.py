"""Channels are taken out where that costs least, and what is left makes up for them."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.channels.importance import Criterion
from edgec.cost import cost
from edgec.errors import InternalError
from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, verify
from edgec.ops import Activation, Conv, FullyConnected, GlobalAveragePool, Reshape, Softmax
from edgec.passes import Judge, PruneChannels, ReconstructLayers, channel_cuts
from edgec.passes.channel_cuts import ChannelCuts
from tests.targets.graphs import Net, random

SHAPE = (1, 3, 8, 8)
CRITERIA: tuple[Criterion, ...] = ("l1", "l2", "energy", "obs")
Samples = list[dict[str, Array]]


def samples(count: int = 48, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(SHAPE).astype(np.float32)} for _ in range(count)]


def redundant() -> Graph:
    """A network with twice as many channels as it needs: half are mixtures of the others."""
    rng = np.random.default_rng(1)
    first = random(8, 3, 3, 3, seed=2)
    mixed = np.einsum("oi,ickl->ockl", rng.standard_normal((8, 8)) / 8, first)
    net = Net(x=SHAPE)
    wide = np.concatenate([first, mixed])[rng.permutation(16)].astype(np.float32)
    net.add("a", Conv(pad=(1, 1, 1, 1)), "x", wide, random(16, seed=3))
    net.add("b", Conv(pad=(1, 1, 1, 1), activation=Activation.RELU), "a",
            random(16, 16, 3, 3, seed=4) / 10, random(16, seed=5))  # fmt: skip
    net.add("mean", GlobalAveragePool(), "b")
    net.add("flat", Reshape((1, 16)), "mean")
    return net.graph(net.add("y", FullyConnected(), "flat", random(5, 16, seed=6), random(5)))


def decibels(graph: Graph, pruned: Graph) -> float:
    judge = Judge(graph, samples(32, seed=9))
    return judge.ratio(judge.errors(pruned))


def test_layers_of_float16_make_up_for_channels_in_their_own_type() -> None:
    net = Net(DType.FLOAT16, x=SHAPE)
    arrays = [
        random(*shape, seed=k).astype(np.float16)
        for k, shape in enumerate([(8, 3, 3, 3), (8,), (5, 8, 1, 1), (5,)])
    ]
    net.add("a", Conv(), "x", *arrays[:2])
    graph = net.graph(net.add("y", Conv(), "a", *arrays[2:]))
    feeds = [{"x": f["x"].astype(np.float16)} for f in samples()]

    made, plain = (
        PruneChannels({"a": 4}, feeds, compensate=c).run(graph) for c in (True, False)
    )

    verify(made)
    assert {c.array.dtype for c in made.constants.values()} == {np.dtype(np.float16)}
    judge = Judge(graph, feeds[:16])
    assert judge.ratio(judge.errors(made)) > judge.ratio(judge.errors(plain)) + 0.3


def test_groups_are_cut_to_the_widths_that_are_given() -> None:
    graph = redundant()
    pruned, records = PruneChannels({"a": 12, "b": 16}, samples()).run_recorded(graph)

    verify(pruned)
    assert [v.type.shape[1] for n in pruned.nodes[:2] for v in n.outputs] == [12, 16]
    assert [v.type for v in pruned.outputs] == [v.type for v in graph.outputs]
    (record,) = records
    assert (record.layer, record.kept) == ("a", "12 of 16 channels")
    assert record.macs == (cost(graph).macs, cost(pruned).macs)
    assert record.weight_bytes == (cost(graph).weight_bytes, cost(pruned).weight_bytes)
    assert record.nats is not None
    assert 0 <= record.nats[1] < record.nats[0] / 4
    (got,) = evaluate(pruned, samples(1)[0]).values()
    assert np.isfinite(got).all()


def test_channels_that_are_mixtures_of_others_go_for_nothing() -> None:
    graph = redundant()
    assert decibels(graph, PruneChannels({"a": 8}, samples()).run(graph)) > 40


def test_what_is_left_makes_up_for_what_goes() -> None:
    graph, given = redundant(), samples()
    found = {
        (criterion, compensate): decibels(
            graph, PruneChannels({"a": 8}, given, criterion, compensate=compensate).run(graph)
        )
        for criterion in CRITERIA
        for compensate in (False, True)
    }
    for criterion in CRITERIA:
        assert found[criterion, True] > found[criterion, False] + 6


def test_without_compensation_what_is_left_stays_as_it_was() -> None:
    graph = redundant()
    pruned, (record,) = PruneChannels({"a": 8}, samples(), compensate=False).run_recorded(graph)
    assert record.nats is not None
    assert record.nats[0] == record.nats[1]
    kept = {row.tobytes() for row in graph.constants["a.1"].array}
    first = pruned.constant(pruned.nodes[0].inputs[1])
    assert first is not None
    assert {row.tobytes() for row in first} < kept


def test_what_is_read_says_more_than_how_large_weights_are() -> None:
    # Half the channels have large weights, and what reads them hardly looks at them.
    first, second = random(16, 3, 3, 3, seed=2), random(16, 16, 1, 1, seed=4)
    first[::2] *= 5
    second[:, ::2] *= 0.01
    net = Net(x=SHAPE)
    net.add("a", Conv(pad=(1, 1, 1, 1)), "x", first, random(16, seed=3))
    net.add("b", Conv(), "a", second, random(16, seed=5))
    graph = net.graph(net.add("y", Conv(), "b", random(16, 16, 1, 1, seed=6)))
    by = {
        criterion: decibels(graph, PruneChannels({"a": 8}, samples(), criterion).run(graph))
        for criterion in CRITERIA
    }
    assert by["obs"] > by["l1"] + 6
    assert by["energy"] > by["l2"] + 6


def test_the_same_samples_give_the_same_weights() -> None:
    one, two = (PruneChannels({"a": 8}, samples()).run(redundant()) for _ in range(2))
    assert str(one) == str(two)
    for name, constant in one.constants.items():
        np.testing.assert_array_equal(constant.array, two.constants[name].array)


def test_nothing_goes_where_all_may_stay() -> None:
    graph = redundant()
    assert PruneChannels({"a": 16}, samples()).run_recorded(graph) == (graph, ())


def test_a_group_that_is_not_there_is_a_mistake() -> None:
    for widths in ({"c": 4}, {"a": 0}, {"a": 17}):
        with pytest.raises(InternalError, match="no group"):
            PruneChannels(widths, samples()).run(redundant())


def test_what_cannot_go_is_said_with_the_reason() -> None:
    (found,) = PruneChannels({}, samples()).diagnostics(redundant())
    assert found.where == "y"
    assert found.message == "its channels all stay: they are an output of the model"
    assert found.hint == ""  # the interface stays

    net = Net(x=SHAPE)
    net.add("a", Conv(), "x", random(8, 3, 1, 1))
    net.add("b", Softmax(-3), "a")
    graph = net.graph(net.add("y", Conv(), "b", random(4, 8, 1, 1)))
    first, second = PruneChannels({}, samples()).diagnostics(graph)
    assert (first.where, second.where) == ("a", "y")
    assert "b: Softmax" in first.message
    assert "without that node" in first.hint


def test_weights_that_two_layers_have_are_not_fitted_to_one_of_them() -> None:
    net = Net(x=SHAPE)
    net.add("a", Conv(), "x", random(8, 3, 1, 1), random(8))
    net.add("b", Conv(), "a", random(5, 8, 1, 1))
    net.add("c", Conv(stride=(2, 2)), "a", "b.1")
    graph = net.graph("b", net.add("d", Conv(stride=(2, 2)), "c", random(5, 5, 1, 1)))
    pruned = PruneChannels({"a": 4}, samples()).run(graph)
    shared = pruned.constant(pruned.nodes[1].inputs[1])
    assert shared is not None
    columns = {c.tobytes() for c in graph.constants["b.1"].array.transpose(1, 0, 2, 3)}
    assert {c.tobytes() for c in shared.transpose(1, 0, 2, 3)} < columns


def test_weights_that_were_spoilt_are_fitted_again() -> None:
    graph, given = redundant(), samples()
    cuts = ChannelCuts(graph, given, compensate=False)
    pruned, kept = cuts.cut({"a": 8}, "l1"), cuts.kept({"a": 8}, "l1")
    fitted, records = ReconstructLayers(graph, kept, given).run_recorded(pruned)
    assert decibels(graph, fitted) > 40
    assert decibels(graph, pruned) < 20
    assert {r.kept for r in records} >= {"fitted"}
    assert all(r.after_db >= r.before_db for r in records)


def test_what_is_as_it_was_is_not_fitted() -> None:
    graph = redundant()
    assert ReconstructLayers(graph, {}, samples(4)).run(graph) is graph
    assert decibels(graph, ReconstructLayers(graph, {}, samples()).run(graph)) > 80


def test_what_was_held_out_is_not_fitted_to() -> None:
    given = samples()
    others = [x if k % 4 != 3 else {"x": 100 * x["x"]} for k, x in enumerate(given)]
    one, two = (PruneChannels({"a": 8}, s).run(redundant()) for s in (given, others))
    for name, constant in one.constants.items():
        np.testing.assert_array_equal(constant.array, two.constants[name].array)


def test_the_order_of_a_group_does_not_depend_on_what_else_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_cuts, "_ROWS_PER_INPUT", 1)
    monkeypatch.setattr(channel_cuts, "_LEAST_ROWS", 1)  # some places are drawn
    net, given = Net(x=SHAPE), samples()
    relu = Conv(activation=Activation.RELU)
    net.add("a", relu, "x", random(8, 3, 1, 1, seed=2))
    net.add("b", relu, "a", random(8, 8, 1, 1, seed=3))
    graph = net.graph(net.add("y", Conv(), "b", random(4, 8, 1, 1, seed=4)))
    every = ChannelCuts(graph, given, compensate=True)
    alone = ChannelCuts(graph, given, compensate=True, names=["b"])
    assert list(alone.groups) == ["b"]
    np.testing.assert_array_equal(every.trace("b", "obs").order, alone.trace("b", "obs").order)
    for name, constant in every.cut({"b": 4}, "obs").constants.items():
        np.testing.assert_array_equal(
            constant.array, alone.cut({"b": 4}, "obs").constants[name].array
        )


def test_each_group_may_go_by_a_criterion_of_its_own() -> None:
    graph, widths = redundant(), {"a": 4, "b": 6}
    cuts = ChannelCuts(graph, samples(), compensate=True)
    mixed = PruneChannels(widths, samples(), {"a": "l1", "b": "obs"}).run(graph)
    first = graph.constants["a.1"].array[cuts.kept(widths, "l1")["a"]]
    np.testing.assert_array_equal(mixed.constants[mixed.nodes[0].inputs[1].name].array, first)
    kept = cuts.kept(widths, {"a": "l1", "b": "obs"})
    np.testing.assert_array_equal(kept["b"], cuts.kept(widths, "obs")["b"])
    assert list(kept["a"]) != list(cuts.kept(widths, "obs")["a"])
    assert list(kept["b"]) != list(cuts.kept(widths, "l1")["b"])
