from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgec.ir import Array, Graph, Op
from edgec.ops import Activation, ConvTranspose, Dequantize, FullyConnected
from edgec.passes import OptimizeRounding, RoundWeights, Scheme
from edgec.passes.compensated_rounding import Moments
from edgec.passes.layer_recovery import Seen
from edgec.passes.optimize_rounding import _Descent, _target, optimizing_seconds
from tests.passes.quantization import INT8, UINT8, dequantized, layer
from tests.passes.test_round_weights import COARSE, LAYERS, PACKED, deep, gained, one, smooth
from tests.targets.graphs import Feeds, Net, f32, quantized, random

STEPS = 400


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU6])
def test_a_coarse_model_comes_nearer_on_other_samples(activation: Activation) -> None:
    graph, feeds = deep(activation), smooth(48, 1, 4, 8, 8)
    other = smooth(16, 1, 4, 8, 8, first=500)
    before = quantized(graph, *feeds, scheme=COARSE)

    after, records = OptimizeRounding(graph, feeds, STEPS).run_recorded(before)

    assert gained(graph, before, after, other) > 1
    assert {r.kept for r in records} == {"optimized"}
    assert all(r.after_db > r.before_db for r in records)


@pytest.mark.parametrize(("op", "weight", "shape"), LAYERS, ids=lambda p: type(p).__name__)
def test_compensated_rounding_is_improved(
    op: Op, weight: Array, shape: tuple[int, ...]
) -> None:
    graph, feeds = one(op, weight, *shape), smooth(160, *shape)
    rounded = RoundWeights(graph, feeds).run(quantized(graph, *feeds, scheme=COARSE))

    after = OptimizeRounding(graph, feeds, STEPS).run(rounded)

    gain = gained(graph, rounded, after, smooth(32, *shape, first=500))
    assert gain > 0.1 if after is not rounded else gain == 0


def best(target: Array, hessian: Array, limits: tuple[int, int]) -> float:
    """Return the least error of all roundings up or down."""
    floors = np.clip(np.floor(target), limits[0], limits[1] - 1)
    errors = []
    for ups in itertools.product((0, 1), repeat=len(target)):
        off = floors + ups - target
        errors.append(float(off @ hessian @ off))
    return min(errors)


def test_roundings_are_nearly_the_best_there_are() -> None:
    rng = np.random.default_rng(0)
    nearest = found = least = 0.0
    for _ in range(20):
        mixed = rng.standard_normal((64, 8)) @ rng.standard_normal((8, 8))
        hessian, target = mixed.T @ mixed / 64, rng.uniform(-5, 5, 8)
        descent = _Descent(
            np.rint(target)[None, None], target[None, None], hessian[None], (-7, 7)
        )
        for k in range(STEPS):
            descent.step(k / STEPS)
        off = descent.integers()[0, 0] - target
        found += float(off @ hessian @ off)
        off = np.rint(target) - target
        nearest += float(off @ hessian @ off)
        least += best(target, hessian, (-7, 7))
    assert found < 1.6 * least
    assert found < nearest / 2


def seen(weight: Array, rows: int, noise: float) -> Seen:
    """Return what a product with other inputs and noise looks like."""
    both = Moments.empty(1, 4, 8), Moments.empty(1, 4, 8)
    for moments, count, seed in zip(both, (rows, 4096), (1, 2), strict=True):
        x, off = random(1, count, 8, seed=seed), random(1, count, 4, seed=10 + seed)
        moments.add(x, x @ weight.transpose(0, 2, 1) + f32(noise) * off)
    return Seen(*both)


def test_weights_are_pulled_as_far_as_held_out_samples_follow() -> None:
    weight, moved = random(1, 4, 8, seed=5), random(1, 4, 8, seed=5) + f32(0.3)

    def error(seen_with: Seen) -> float:
        return float(np.abs(_target(weight, seen_with) - moved).max())

    assert error(seen(moved, 4096, 0.01)) < 0.01
    np.testing.assert_array_equal(_target(weight, seen(weight, 10, 1.0)), weight)


def test_integers_stay_within_their_limits() -> None:
    rng = np.random.default_rng(1)
    old = rng.integers(-7, 8, (1, 4, 6)).astype(float)
    target = old + rng.uniform(-3, 3, old.shape)
    descent = _Descent(old, target, np.eye(6)[None], (-7, 7))
    for k in range(STEPS):
        descent.step(k / STEPS)
    found = descent.integers()
    assert np.abs(found).max() <= 7
    assert np.abs(found - old).max() == 1
    # What costs are of no others, each goes to the nearer of its two integers.
    np.testing.assert_array_equal(
        found, np.clip(old + np.clip(np.rint(target - old), -1, 1), -7, 7)
    )


@pytest.mark.parametrize(
    "scheme", [INT8, UINT8, COARSE, PACKED], ids=["int8", "uint8", "4bit", "int4"]
)
def test_grids_and_bits_stay(scheme: Scheme) -> None:
    graph, feeds = deep(), smooth(16, 1, 4, 8, 8)
    before = quantized(graph, *feeds, scheme=scheme)

    after = OptimizeRounding(graph, feeds, STEPS).run(before)

    for name in "adgy":
        (old, by), *_ = dequantized(before, layer(before, name))
        (new, with_), *_ = dequantized(after, layer(after, name))
        assert (with_, new.dtype) == (by, old.dtype)
        assert np.abs(new.astype(int)).max() <= np.abs(old.astype(int)).max()
    grids = [
        {n.output.name: n.op.params for n in g.nodes if isinstance(n.op, Dequantize)}
        for g in (before, after)
    ]
    assert all(grids[1][v] == p for v, p in grids[0].items() if v in grids[1])


def test_it_is_the_same_every_time() -> None:
    graph, feeds = deep(), smooth(32, 1, 4, 8, 8)
    before = quantized(graph, *feeds, scheme=COARSE)
    one_time, other = (OptimizeRounding(graph, feeds, STEPS).run(before) for _ in range(2))
    assert one_time is not before
    assert one_time.constants == other.constants


def test_held_out_samples_judge() -> None:
    op, weight, shape = LAYERS[0]
    graph, feeds = one(op, weight, *shape), smooth(32, *shape)
    noise: list[Feeds] = [{"x": 8 * random(*shape, seed=k)} for k in range(32)]
    other = [noise[k] if k % 4 == 3 else f for k, f in enumerate(feeds)]
    before = quantized(graph, *feeds, *noise, scheme=COARSE)

    assert OptimizeRounding(graph, feeds, STEPS).run(before) is not before
    (old, _), (new, _) = (
        dequantized(g, layer(g, "y"))[0]
        for g in (before, OptimizeRounding(graph, other, STEPS).run(before))
    )
    assert (old != new).mean() < 0.1


def test_zeros_and_few_samples_change_nothing() -> None:
    graph = one(FullyConnected(), np.zeros((3, 4), np.float32), 1, 4)
    feeds = smooth(16, 1, 4)
    before = quantized(graph, *feeds)
    assert OptimizeRounding(graph, feeds, 5).run(before) is before
    graph = deep()
    before = quantized(graph, *smooth(16, 1, 4, 8, 8), scheme=COARSE)
    assert OptimizeRounding(graph, smooth(7, 1, 4, 8, 8), 5).run(before) is before


def test_the_time_is_that_of_the_layers_whose_weights_are_rounded() -> None:
    def seconds(graph: Graph, iterations: int = 10) -> tuple[float, int]:
        return optimizing_seconds(graph, iterations)

    assert seconds(deep())[1] == 4
    assert seconds(deep())[0] > 0
    assert seconds(deep(), 0) == (0.0, 4)
    transposed = one(ConvTranspose(), random(4, 3, 2, 2, seed=1), 1, 4, 5, 5)
    assert seconds(transposed) == (0.0, 0)
    net = Net(x=(1, 4), w=(3, 4))
    assert seconds(net.graph(net.add("y", FullyConnected(), "x", "w"))) == (0.0, 0)
