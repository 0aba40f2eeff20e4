"""What looks wrong with samples is said, and of right ones nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from edgec.calibration import Calibration, MinMax, Percentile, Warned, calibrate, check_channels
from edgec.calibration.report import CalibrationReport, Tensor
from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, TensorType, Value
from edgec.ops import (
    Activation,
    BatchNorm,
    Conv,
    FullyConnected,
    GlobalAveragePool,
    Relu,
    Reshape,
)
from tests.targets.graphs import Net, f32, random

SIDE = 16


def pictures(count: int, seed: int = 0) -> Array:
    """Return smooth images in colour, [N, 3, H, W], of mean 0 and about unit size."""
    rng = np.random.default_rng(seed)
    waves = rng.standard_normal((count, 3, 4, 4))
    places = np.stack([np.cos(np.pi * k * (np.arange(SIDE) + 0.5) / SIDE) for k in range(4)])
    smooth = np.einsum("ncab,ah,bw->nchw", waves, places, places) / 4
    # The channels of a pixel are much alike, as in photographs.
    return np.asarray(smooth + 2 * smooth.mean(axis=1, keepdims=True), np.float32)


def classifier(*, bias: float = 1.0) -> Graph:
    net = Net(x=(1, 3, SIDE, SIDE))
    w = random(8, 3, 3, 3, seed=1) / 3
    net.add("a", Conv(activation=Activation.RELU), "x", w, random(8, seed=2) * np.float32(bias))
    net.add("mean", GlobalAveragePool(), "a")
    net.add("flat", Reshape((1, 8)), "mean")
    # What samples have in common makes no class.
    typical = [evaluate(net.graph("flat"), {"x": p[None]})["flat"] for p in pictures(20, 9)]
    last = random(10, 8, seed=3)
    net.add("y", FullyConnected(), "flat", last, -last @ np.mean(typical, axis=0)[0])
    return net.graph("y")


def report(samples: Iterable[Array], graph: Graph | None = None) -> CalibrationReport:
    graph = graph or classifier()
    values = [v for v in graph.values() if graph.constant(v) is None]
    found = calibrate(graph, values, ({"x": x[None]} for x in samples), Percentile())
    assert found.report is not None
    return found.report


def kinds(samples: Iterable[Array], graph: Graph | None = None) -> set[str]:
    return {w.kind for w in report(samples, graph).warnings}


@pytest.mark.parametrize("count", [24, 32, 100])
def test_nothing_is_said_of_good_samples(count: int) -> None:
    assert report(pictures(count)).warnings == ()


def test_few_samples() -> None:
    assert [w.message for w in report(pictures(1)).warnings if w.kind == "few"] == [
        "ranges come from 1 sample only, and others may lie outside of them"
    ]
    assert "few" in kinds(pictures(7))
    assert "few" not in kinds(pictures(8))


def test_samples_that_are_all_the_same() -> None:
    (same, *_) = report(np.repeat(pictures(1), 20, axis=0)).warnings

    assert same == Warned(
        "constant",
        "input 'x'",
        "all 20 samples are the same",
        "give samples that differ, of every kind that the model will meet",
    )


def test_samples_of_one_number_each() -> None:
    flat = np.ones_like(pictures(20)) * np.linspace(-1, 1, 20, dtype=np.float32).reshape(
        -1, 1, 1, 1
    )

    (said, *_) = report(flat).warnings

    assert (said.kind, said.message) == (
        "constant",
        "20 of 20 samples hold one number everywhere",
    )
    assert "constant" in kinds(flat[:1])
    few = np.concatenate([pictures(20), flat[:5]])  # a black picture may be among them
    assert "constant" not in kinds(few)


def test_a_number_for_each_sample_is_no_constant() -> None:
    net = Net(x=(1, 1))
    graph = net.graph(net.add("y", Relu(), "x"))

    assert kinds(f32([[1]] * 20), graph) == set()


def test_masks_may_be_the_same_beside_data_that_differ() -> None:
    net = Net(x=(1, 3, SIDE, SIDE))
    mask = Value("mask", TensorType(DType.INT64, (1, 5)))
    graph = replace(net.graph(net.add("y", Relu(), "x")), inputs=(*net.inputs, mask))
    ones = np.ones((1, 5), np.int64)

    def said(samples: Array) -> list[str]:
        feeds = ({"x": x[None], "mask": ones} for x in samples)
        report = calibrate(graph, list(net.inputs), feeds).report
        return [] if report is None else [w.where for w in report.warnings]

    assert said(pictures(20)) == []
    assert said(np.repeat(pictures(1), 20, axis=0)) == ["input 'x'", "input 'mask'"]


@pytest.mark.parametrize(("factor", "size"), [(255, "large"), (1 / 255, "small")])
def test_samples_of_another_scale(factor: float, size: str) -> None:
    said = [w for w in report(pictures(24) * np.float32(factor)).warnings if w.kind == "scale"]

    assert [w.where for w in said] == ["a"]
    assert f"its inputs seem far too {size}" in said[0].message
    assert "input 'x' goes from" in said[0].hint


@pytest.mark.parametrize("factor", [1, 4, 1 / 4])
def test_samples_of_about_the_scale(factor: float) -> None:
    assert "scale" not in kinds(pictures(24) * np.float32(factor))


def test_a_bias_that_was_never_learnt_says_nothing() -> None:
    assert "scale" not in kinds(pictures(24), classifier(bias=1e-6))
    assert "scale" not in kinds(pictures(24), classifier(bias=0))


def normed(size: float) -> Graph:
    net = Net(x=(1, 3, SIDE, SIDE))
    net.add("a", Conv(), "x", random(4, 3, 3, 3, seed=1) / 3, f32([1e-3] * 4))
    ones = np.ones(4, np.float32)
    net.add("b", BatchNorm(), "a", ones, ones, 0 * ones, ones * np.float32(size))
    return net.graph("b")


def test_a_batch_norm_holds_what_its_layer_yields() -> None:
    x = pictures(24)

    assert "scale" not in kinds(x, normed(1.0))
    (said,) = [w for w in report(x * 255, normed(1.0)).warnings if w.kind == "scale"]
    assert said.where == "b"
    assert "batch norm" in said.message


def test_channels_read_as_places() -> None:
    x = pictures(24)
    wrong = x.transpose(0, 2, 3, 1).reshape(x.shape)

    (said,) = [w for w in report(wrong).warnings if w.kind == "layout"]

    assert said.where == "input 'x'"
    assert "read as NCHW, as the model does, than read as NHWC" in said.message
    assert "x.transpose(0, 3, 1, 2) of the NHWC array" in said.hint


def test_places_read_as_channels() -> None:
    net = Net(x=(1, SIDE, SIDE, 3))
    graph = net.graph(net.add("y", Relu(), "x"))
    x = pictures(24)

    assert "layout" not in kinds(x.transpose(0, 2, 3, 1), graph)
    (said,) = report(x.reshape(-1, SIDE, SIDE, 3), graph).warnings
    assert said.kind == "layout"
    assert "x.transpose(0, 2, 3, 1) of the NCHW array" in said.hint


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (SIDE, SIDE, 3), (1, 49, 10), (3, 4, 16)])
def test_noise_has_no_order_to_mistake(shape: tuple[int, ...]) -> None:
    net = Net(x=(1, *shape))
    graph = net.graph(net.add("y", Relu(), "x"))

    assert kinds(random(24, *shape), graph) == set()


def one_hot(numbers: Iterable[int]) -> Array:
    rows = np.eye(4, dtype=np.float32)[list(numbers)]
    return rows + random(len(rows), 4) / 10


def output_of_three() -> Graph:
    net = Net(x=(1, 4))
    return net.graph(net.add("y", FullyConnected(), "x", np.eye(3, 4, dtype=np.float32)))


def test_one_class_everywhere() -> None:
    graph = output_of_three()

    (said,) = report(one_hot([2] * 20), graph).warnings

    assert (said.kind, said.where) == ("collapse", "output 'y'")
    assert said.message == "the model sees class 2 in 20 of 20 samples"
    assert "collapse" in kinds(one_hot([2] * 19 + [1]), graph)
    assert "collapse" not in kinds(one_hot([2] * 17 + [1, 0, 1]), graph)
    assert "collapse" not in kinds(one_hot([2] * 7), graph)


def test_of_two_classes_one_may_be_rare() -> None:
    net = Net(x=(1, 4))
    graph = net.graph(net.add("y", FullyConnected(), "x", np.eye(2, 4, dtype=np.float32)))

    assert "collapse" not in kinds(one_hot([1] * 19 + [0]), graph)
    assert "collapse" in kinds(one_hot([1] * 20), graph)


def test_what_is_given_back_is_no_class() -> None:
    net = Net(x=(1, 4))
    graph = net.graph(net.add("y", FullyConnected(), "x", np.eye(4, dtype=np.float32)))

    assert kinds(one_hot([2] * 20), graph) == set()


def test_halves_that_disagree() -> None:
    x = pictures(24)
    x[::2] *= 8

    said = [w for w in report(x).warnings if w.kind == "halves"]

    assert len(said) == 1
    assert "more samples would change its range" in said[0].message


@pytest.mark.parametrize("sign", [1, -1])
def test_halves_that_disagree_on_one_side(sign: int) -> None:
    x = np.abs(pictures(24))
    x[1::2] *= 8
    net = Net(x=(1, 3, SIDE, SIDE))
    graph = net.graph(net.add("y", Relu(), "x"))

    assert "halves" in kinds(x * np.float32(sign), graph)


# ---- figures


def figures(samples: Iterable[Array]) -> Mapping[str, Tensor]:
    return {t.name: t for t in report(samples).tensors}


def test_every_tensor_has_its_figures() -> None:
    x = pictures(24)

    found = figures(x)

    assert set(found) == {"x", "a", "mean", "flat", "y"}
    t = found["x"]
    assert t.seen == (float(x.min()), float(x.max()))
    assert sum(t.histogram) == x.size == t.elements
    assert t.methods["minmax"] == t.seen
    assert t.range == t.methods["percentile"]
    assert set(t.methods) == {"minmax", "percentile", "entropy", "mse"}
    widths = [b - a for a, b in t.methods.values()]
    assert t.disagreement == pytest.approx(max(widths) / min(widths))
    assert t.halves_outside < 0.01
    assert found["a"].layer == "a"


def test_outliers_show() -> None:
    x = pictures(24)
    x[3, 0, 0, 0] = 1000

    assert figures(pictures(24))["x"].outliers < 3
    assert figures(x)["x"].outliers > 50
    assert figures(x)["x"].halves_steps > 100


def test_a_report_is_plain_json() -> None:
    found = report(pictures(9)).to_dict()

    (layer,) = [t for t in found["tensors"] if t["name"] == "a"]
    assert len(layer["histogram"]) == 32
    assert found["inputs"][0]["name"] == "x"
    assert found["outputs"] == [{"name": "y", "classes": found["outputs"][0]["classes"]}]
    assert found["first_layers"][0]["layer"] == "a"


def test_a_second_round_adds_tensors_and_repeats_nothing() -> None:
    graph = classifier()
    x = np.repeat(pictures(1), 10, axis=0)

    def calibrated(name: str) -> Calibration:
        values = [v for v in graph.values() if v.name == name]
        return calibrate(graph, values, ({"x": s[None]} for s in x), MinMax())

    first, second = calibrated("a").report, calibrated("y").report
    assert first is not None
    joined = first.joined(second)

    assert [t.name for t in joined.tensors] == ["a", "y"]
    assert joined.warnings == first.warnings


# ---- red and blue


def scorer() -> Callable[[Mapping[str, Array]], Array]:
    """Return what tells which of two channels is brighter."""
    return lambda feed: feed["x"].mean(axis=(2, 3))[:, [0, 2]]


def test_labels_tell_that_red_and_blue_are_swapped() -> None:
    x = pictures(60)
    labels = x.mean(axis=(2, 3))[:, [0, 2]].argmax(axis=1).reshape(-1, 1)
    value = Value("x", TensorType(DType.FLOAT32, (1, 3, SIDE, SIDE)))

    def check(samples: Array) -> tuple[Warned, ...]:
        return check_channels(scorer(), [value], [{"x": s[None]} for s in samples], labels)

    assert check(x) == ()
    (said,) = check(x[:, ::-1])
    assert said.kind == "channels"
    assert "100.0 % of 60 samples with red and blue swapped" in said.message
    assert "on 0.0 % as they are given" in said.message


def test_without_colours_there_is_nothing_to_swap() -> None:
    value = Value("x", TensorType(DType.FLOAT32, (1, 1, SIDE, SIDE)))

    assert check_channels(scorer(), [value], iter(()), np.zeros((0, 1))) == ()
