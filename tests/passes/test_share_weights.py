from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph
from edgec.ops import Activation, Conv, DepthwiseConv, FullyConnected, Reshape
from edgec.passes import Pipeline, Scheme, ShareWeights
from edgec.passes.divergence import Divergence
from edgec.passes.share_weights import packed_bytes
from edgec.targets import OnnxRuntime, Target, Tflite
from tests.passes.quantization import INT8, dequantized, layer
from tests.passes.test_round_weights import smooth
from tests.targets.graphs import Feeds, Net, quantized, ran, random

POWERS = Scheme(power_of_two=True)


def small() -> Graph:
    net = Net(x=(1, 4, 8, 8))
    net.add("a", Conv(activation=Activation.RELU), "x", random(8, 4, 3, 3, seed=1), random(8))
    net.add("d", DepthwiseConv(), "a", random(8, 1, 3, 3, seed=3), random(8, seed=2))
    net.add("b", Conv(activation=Activation.RELU), "d", random(12, 8, 3, 3, seed=4))
    net.add("r", Reshape((1, 48)), "b")
    return net.graph(net.add("y", FullyConnected(), "r", random(10, 48, seed=5)))


def stored(graph: Graph, name: str) -> Array:
    return dequantized(graph, layer(graph, name))[0][0].astype(int)


@pytest.fixture(scope="module")
def feeds() -> list[Feeds]:
    return smooth(48, 1, 4, 8, 8)


@pytest.fixture(scope="module")
def before(feeds: list[Feeds]) -> Graph:
    return quantized(small(), *feeds)


def letters(weight: Array, *, per_channel: bool) -> int:
    rows = weight.reshape(len(weight) if per_channel else 1, -1)
    return max(len(np.unique(row)) for row in rows)


@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
def test_each_weight_is_one_of_few(
    before: Graph, feeds: list[Feeds], per_channel: bool
) -> None:
    made, records = ShareWeights(small(), feeds, 8, per_channel).run_recorded(before)

    told = {r.layer: r.kept for r in records}
    for name in "aby":
        weight = stored(made, name)
        assert letters(stored(before, name), per_channel=per_channel) > 8
        assert letters(weight, per_channel=per_channel) <= 8
        assert per_channel is (letters(weight, per_channel=False) > 8)
        assert np.abs(weight).max() <= 127
        assert told[name] == ("8 values to a channel" if per_channel else "8 values")


def test_a_table_that_takes_what_it_saves_is_not_made(
    before: Graph, feeds: list[Feeds]
) -> None:
    made, records = ShareWeights(small(), feeds, 8, per_channel=True).run_recorded(before)

    np.testing.assert_array_equal(stored(made, "d"), stored(before, "d"))
    assert {r.layer: r.kept for r in records}["d"] in ("plain", "corrected")
    shared = ShareWeights(small(), feeds, 8).run(before)
    assert letters(stored(shared, "d"), per_channel=False) <= 8


def test_packages_count_indices_and_letters() -> None:
    assert packed_bytes(1000, 16, 1) == 500 + 16
    assert packed_bytes(1000, 16, 10) == 500 + 160
    assert packed_bytes(1001, 5, 1) == 376 + 5
    assert packed_bytes(10, 1, 1) == 2 + 1
    assert packed_bytes(8, 2, 1) == 1 + 2


def test_outputs_stay_nearer_than_with_each_weight_for_itself(
    before: Graph, feeds: list[Feeds], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Divergence(small(), smooth(32, 1, 4, 8, 8, first=500))

    made = ShareWeights(small(), feeds, 4).run(before)
    monkeypatch.setattr(
        "edgec.passes.clustering.compensated",
        lambda weight, factor, scale, rounded, zeros: rounded(weight / scale[:, :, None]),
    )
    monkeypatch.setattr("edgec.passes.clustering._SWEEPS", 0)
    monkeypatch.setattr("edgec.passes.clustering._TURNS", 0)
    plain = ShareWeights(small(), feeds, 4).run(before)

    assert held.of(before).mean() < held.of(made).mean() < 0.8 * held.of(plain).mean()


def test_more_letters_lose_less(before: Graph, feeds: list[Feeds]) -> None:
    held = Divergence(small(), smooth(32, 1, 4, 8, 8, first=500))

    lost = [
        float(held.of(ShareWeights(small(), feeds, k).run(before)).mean()) for k in (2, 4, 16)
    ]

    assert lost[0] > lost[1] > lost[2]


def test_layers_have_the_counts_they_are_given(before: Graph, feeds: list[Feeds]) -> None:
    counts = {"a": 0, "b": 5, "y": 300}

    made, records = ShareWeights(small(), feeds, 8, counts=counts).run_recorded(before)

    np.testing.assert_array_equal(stored(made, "a"), stored(before, "a"))
    assert letters(stored(made, "b"), per_channel=False) <= 5
    np.testing.assert_array_equal(stored(made, "y"), stored(before, "y"))
    assert {r.layer: r.kept for r in records}["b"] == "5 values"


def test_scales_that_are_powers_of_two_stay(feeds: list[Feeds]) -> None:
    for scheme, moves in ((INT8, True), (POWERS, False), (Scheme(per_channel=False), False)):
        before = quantized(small(), *feeds, scheme=scheme)
        made = ShareWeights(small(), feeds, 8).run(before)

        grids = [dequantized(g, layer(g, "b"))[0][1].params for g in (before, made)]
        assert (grids[0] != grids[1]) is moves
        assert letters(stored(made, "b"), per_channel=False) <= 8


def test_weights_that_others_share_stay(feeds: list[Feeds]) -> None:
    net = Net(x=(1, 4, 8, 8))
    net.const("w", random(4, 4, 3, 3, seed=1))
    net.add("a", Conv(), "x", "w")
    graph = net.graph(net.add("y", Conv(), "a", "w"))
    before = quantized(graph, *feeds)

    made = ShareWeights(graph, feeds, 4).run(before)

    np.testing.assert_array_equal(stored(made, "a"), stored(before, "a"))


def test_nothing_changes_without_samples_or_integers(before: Graph, feeds: list[Feeds]) -> None:
    assert ShareWeights(small(), feeds[:7], 8).run(before) is before
    floats = small()
    assert ShareWeights(floats, feeds, 8).run(floats) is floats


def test_the_same_comes_out_each_time(before: Graph, feeds: list[Feeds]) -> None:
    first, second = (ShareWeights(small(), feeds, 8).run(before) for _ in range(2))

    for name in "adby":
        np.testing.assert_array_equal(stored(first, name), stored(second, name))


@pytest.mark.parametrize("target", [Tflite(), OnnxRuntime()], ids=lambda t: t.name)
def test_runtimes_compute_what_the_graph_says(target: Target, feeds: list[Feeds]) -> None:
    before = quantized(small(), *feeds, scheme=target.scheme())
    made = ShareWeights(small(), feeds, 8).run(before)
    finished = Pipeline(target.finish()).run(made)[0]

    for sample in feeds[:4]:
        want, got = evaluate(made, sample)["y"], ran(target, finished, sample)[0]["y"]
        assert np.abs(want - got).max() <= 0.02 * np.abs(want).max()


def test_int4_weights_have_no_more_than_their_integers(feeds: list[Feeds]) -> None:
    scheme = Scheme(packed=(Conv,))
    before = quantized(small(), *feeds, scheme=scheme)

    made = ShareWeights(small(), feeds, 6).run(before)

    (array, by) = dequantized(made, layer(made, "b"))[0]
    assert by.dtype is DType.INT4
    assert letters(array.astype(int), per_channel=False) <= 6
    assert np.abs(array.astype(int)).max() <= 7
