from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.ir import DType, Graph, QuantParams
from edgec.ops import Activation, Conv, ConvTranspose, FullyConnected
from edgec.passes import CorrectScales, Scheme
from edgec.passes.quantized_layers import quantized_layers, with_parameters
from tests.passes.quantization import dequantized, layer
from tests.passes.test_round_weights import LAYERS, deep, gained, one, smooth
from tests.targets.graphs import Feeds, f32, quantized, random

COARSE = Scheme(DType.INT8, 7)


def stretched(graph: Graph, factors: float | list[float]) -> Graph:
    """Return a graph whose weights are all too large by some factors."""
    changes = {}
    for found in quantized_layers(graph):
        old = found.stored.grid
        scale = np.array(old.scale) * np.broadcast_to(factors, len(old.scale))
        grid = QuantParams(tuple(map(float, scale)), old.zero_point, old.axis)
        changes[found.node.output.name] = found, replace(found.stored, grid=grid)
    return with_parameters(graph, changes)


def scales(graph: Graph, name: str) -> np.ndarray:
    return np.array(dequantized(graph, layer(graph, name))[0][1].params.scale)


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU6])
def test_a_coarse_model_comes_nearer_on_other_samples(activation: Activation) -> None:
    graph, feeds = deep(activation), smooth(48, 1, 4, 8, 8)
    before = quantized(graph, *feeds, scheme=COARSE)

    after = CorrectScales(graph, feeds).run(before)

    assert gained(graph, before, after, smooth(16, 1, 4, 8, 8, first=500)) > 1


@pytest.mark.parametrize("factors", [1.2, [1.25, 0.8, 1.0, 1.1, 0.9, 1.4]])
def test_a_scale_that_is_wrong_is_found_again(factors: float | list[float]) -> None:
    op, weight, shape = LAYERS[0]
    graph, feeds = one(op, weight, *shape), smooth(64, *shape)
    right = quantized(graph, *feeds)

    after, (record,) = CorrectScales(graph, feeds).run_recorded(stretched(right, factors))

    assert record.kept == "stretched"
    assert record.after_db > record.before_db + 10
    np.testing.assert_allclose(scales(after, "y"), scales(right, "y"), rtol=0.01)
    # Integers stay, and the bias is there on the grid that follows.
    (old, _), (new, _) = (dequantized(g, layer(g, "y"))[0] for g in (right, after))
    np.testing.assert_array_equal(old, new)
    biases = dequantized(after, layer(after, "y"))[1:]
    x = dequantized_input_scale(after)
    assert [list(b.params.scale) for _, b in biases] == [
        [float(np.float32(x) * np.float32(s)) for s in scales(after, "y")]
    ]


def dequantized_input_scale(graph: Graph) -> float:
    return next(quantized_layers(graph)).input_scale


def test_one_scale_for_all_gets_one_factor() -> None:
    op, weight, shape = LAYERS[0]
    weight = weight.copy()
    weight[0] = 0  # what is to be for all does not follow from the first
    graph, feeds = one(op, weight, *shape), smooth(64, *shape)
    right = quantized(graph, *feeds, scheme=Scheme(per_channel=False))

    after = CorrectScales(graph, feeds).run(stretched(right, 1.2))

    np.testing.assert_allclose(scales(after, "y"), scales(right, "y"), rtol=0.01)
    assert scales(after, "y").size == 1


def test_no_scale_goes_further_than_kernels_bear() -> None:
    op, weight, shape = LAYERS[0]
    graph, feeds = one(op, weight, *shape), smooth(64, *shape)
    right = quantized(graph, *feeds)

    after = CorrectScales(graph, feeds).run(stretched(right, 4.0))

    np.testing.assert_allclose(scales(after, "y"), scales(right, "y") * 4 / 1.5, rtol=1e-6)


@pytest.mark.parametrize("left", [0.0, 1e-9])
def test_a_channel_of_nothing_keeps_its_scale(left: float) -> None:
    op, weight, shape = LAYERS[0]
    weight = weight.copy()
    weight[2] *= left
    graph, feeds = one(op, weight, *shape), smooth(64, *shape)
    wrong = stretched(quantized(graph, *feeds), 1.2)

    after = CorrectScales(graph, feeds).run(wrong)

    changed = scales(after, "y") != scales(wrong, "y")
    assert changed.tolist() == [True, True, False, True, True, True]


def test_a_channel_that_is_worse_keeps_its_scale() -> None:
    """Held-out samples are nothing where the first channel looks: any bias is wrong."""
    op, weight, shape = LAYERS[0]
    weight = weight.copy()
    weight[0, 1:] = 0
    graph, feeds = one(op, weight, *shape), smooth(64, *shape)
    for feed in feeds[3::4]:
        feed["x"][:, 0] = 0
    wrong = stretched(quantized(graph, *feeds), 1.2)

    after = CorrectScales(graph, feeds).run(wrong)

    changed = scales(after, "y") != scales(wrong, "y")
    assert changed.tolist() == [False, True, True, True, True, True]


def test_held_out_samples_judge() -> None:
    op, weight, shape = LAYERS[0]
    graph, feeds = one(op, weight, *shape), smooth(32, *shape)
    none: list[Feeds] = [{"x": f["x"] * f32(k % 4 != 3)} for k, f in enumerate(feeds)]
    wrong = stretched(quantized(graph, *feeds), 1.2)

    assert CorrectScales(graph, feeds).run(wrong) is not wrong
    after, (record,) = CorrectScales(graph, none).run_recorded(wrong)
    assert after is wrong
    assert record.kept == "plain"


def test_transposed_convolutions_keep_their_scales() -> None:
    graph = one(ConvTranspose(), random(4, 3, 2, 2, seed=1), 1, 4, 5, 5)
    feeds = smooth(32, 1, 4, 5, 5)
    wrong = stretched(quantized(graph, *feeds), 1.2)
    after = CorrectScales(graph, feeds).run(wrong)
    np.testing.assert_array_equal(scales(after, "y"), scales(wrong, "y"))


def test_few_samples_change_nothing() -> None:
    for op in (Conv(), FullyConnected()):
        shape = (1, 4) if isinstance(op, FullyConnected) else (1, 4, 3, 3)
        graph = one(op, random(6, *shape[1:2], *(1,) * (len(shape) - 2), seed=1), *shape)
        feeds = smooth(16, *shape)
        wrong = stretched(quantized(graph, *feeds), 1.2)
        assert CorrectScales(graph, feeds[:7]).run(wrong) is wrong
        assert CorrectScales(graph, feeds).run(wrong) is not wrong
