"""Operators that TFLite has no builtin for, as formulas of builtins."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Graph, Op
from edgec.ops import (
    LRN,
    BatchNorm,
    Celu,
    Conv,
    Elu,
    Gelu,
    GroupNorm,
    Hardmax,
    HardSigmoid,
    InstanceNorm,
    LayerNorm,
    LogSoftmax,
    LpNorm,
    MeanVarianceNorm,
    Mish,
    PRelu,
    RMSNorm,
    Selu,
    Shrink,
    Softmax,
    Softplus,
    Softsign,
    Swish,
    ThresholdedRelu,
    Transpose,
)
from edgec.targets import Tflite
from tests.targets.graphs import Feeds, Net, f32, one_op, ran, random


def operators(graph: Graph, feeds: Feeds) -> dict[str, int]:
    """Check the numbers, and return how many of each builtin there are."""
    got, artifact, _ = ran(Tflite(), graph, feeds)
    for name, want in evaluate(graph, feeds).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-5)
    return dict(artifact.operators)


CURVES = [
    Celu(),
    Celu(0.1),
    Elu(0.0),
    Elu(2.0),
    Elu(-1.5),
    Gelu(),
    Gelu("tanh"),
    HardSigmoid(),
    HardSigmoid(-0.3, 0.9),
    HardSigmoid(1 / 6, 0.5),
    Mish(),
    Selu(),
    Selu(0.5, 2.0),
    Shrink(),
    Shrink(0.5, 0.5),
    Shrink(0.2, -1.0),
    Softplus(),
    Softsign(),
    Swish(),
    Swish(-2.5),
    ThresholdedRelu(),
    ThresholdedRelu(-1.0),
]


@pytest.mark.parametrize("op", CURVES, ids=str)
def test_a_curve_holds_far_from_zero_and_at_its_corners(op: Op) -> None:
    x = np.r_[np.linspace(-9, 9, 73), -1000, -100, -50, -21, 21, 50, 100, 1000, -0.0]

    operators(*one_op(op, f32(x).reshape(1, -1)))


@pytest.mark.parametrize("op", [Elu(2.0), Selu(), ThresholdedRelu(), Softsign()], ids=str)
def test_a_curve_takes_infinity(op: Op) -> None:
    graph, feeds = one_op(op, f32([[np.inf]]))
    got, _, _ = ran(Tflite(), graph, feeds)

    np.testing.assert_equal(got, evaluate(graph, feeds))


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (HardSigmoid(1 / 6, 0.5), {"ADD": 1, "MUL": 1}),
        (Swish(), {"LOGISTIC": 1, "MUL": 1}),
        (Elu(), {"ELU": 1}),
        (Elu(2.0), {"ELU": 1, "LEAKY_RELU": 1}),
        (Gelu("tanh"), {"GELU": 1}),
    ],
    ids=str,
)
def test_a_curve_takes_few_builtins(op: Op, expected: dict[str, int]) -> None:
    assert operators(*one_op(op, random(1, 4))) == expected


@pytest.mark.parametrize("axis", [-1, -2, -3, -4])
@pytest.mark.parametrize("kind", [Softmax, LogSoftmax, Hardmax, LpNorm])
def test_any_axis_is_normalised_where_images_are_stored(kind: type[Op], axis: int) -> None:
    net = Net(x=(1, 2, 4, 5))
    net.add("layer", Conv(), "x", random(3, 2, 1, 1, seed=1))
    net.add("y", kind(axis), "layer")  # type: ignore[call-arg]

    found = operators(net.graph("y"), {"x": random(1, 2, 4, 5)})
    assert found.get("TRANSPOSE", 0) <= (3 if axis != -3 and kind is not LpNorm else 2)


def test_the_first_of_equal_values_is_the_largest() -> None:
    operators(*one_op(Hardmax(), f32([[1, 3, 3, 3], [2, 2, 2, 2], [-1, -1, -2, -1]])))


@pytest.mark.parametrize("p", [1, 2])
def test_the_norm_of_zeros_divides_nothing(p: int) -> None:
    operators(*one_op(LpNorm(-1, p), f32([[3, -4], [0, 0], [1e-12, 0]])))


def norms(channels: int) -> list[tuple[Op, int]]:
    """Normalisations of an image, and how many parameters each has."""
    return [
        (InstanceNorm(), 2),
        (GroupNorm(1), 2),
        (GroupNorm(3), 2),
        (GroupNorm(channels), 2),
        (MeanVarianceNorm((1,)), 0),
        (MeanVarianceNorm((0, 2, 3)), 0),
        (LRN(3), 0),
    ]


@pytest.mark.parametrize(("op", "parameters"), norms(6), ids=str)
def test_an_image_is_normalised_without_being_moved(op: Op, parameters: int) -> None:
    net = Net(x=(2, 4, 5, 6))
    net.add("in", Transpose((0, 3, 1, 2)), "x")
    net.add("front", Conv(), "in", random(6, 6, 1, 1, seed=1))
    net.add("norm", op, "front", *(random(6, seed=2 + i) for i in range(parameters)))
    net.add("back", Conv(), "norm", random(6, 6, 1, 1, seed=5))
    net.add("y", Transpose((0, 2, 3, 1)), "back")

    assert "TRANSPOSE" not in operators(net.graph("y"), {"x": random(2, 4, 5, 6)})


def test_parameters_may_be_computed() -> None:
    net = Net(x=(1, 6, 4, 5), gamma=(6,), beta=(6,), var=(6,), rows=(5,))
    net.add("front", Conv(), "x", random(6, 6, 1, 1, seed=1))
    net.add("batch", BatchNorm(0.1), "front", "gamma", "beta", "beta", "var")
    net.add("instance", InstanceNorm(), "front", "gamma", "beta")
    net.add("group", GroupNorm(2), "front", "gamma", "beta")
    net.add("layer", LayerNorm(), "front", "rows", "rows")
    net.add("rms", RMSNorm(), "front", "rows")
    feeds = {"x": random(1, 6, 4, 5), "rows": random(5, seed=4)}
    feeds |= {"gamma": random(6, seed=2), "beta": random(6, seed=3)}

    feeds["var"] = np.abs(random(6, seed=5))

    operators(net.graph("batch", "instance", "group", "layer", "rms"), feeds)


@pytest.mark.parametrize("rank", [3, 5])
def test_groups_are_normalised_at_any_rank(rank: int) -> None:
    x = random(*(2, 6, 3, 4, 2)[:rank])

    found = operators(*one_op(GroupNorm(3), x, random(6), random(6, seed=1)))
    assert "TRANSPOSE" not in found


def test_statistics_are_taken_about_the_mean() -> None:
    """Far from zero the mean of squares less the square of the mean would be noise."""
    x = 1000 + random(1, 4, 64)
    ones, zeros = np.ones(64, np.float32), np.zeros(64, np.float32)
    graph, feeds = one_op(LayerNorm(), x, ones, zeros)
    got, artifact, _ = ran(Tflite(), graph, feeds)

    np.testing.assert_allclose(got["y"], evaluate(graph, feeds)["y"], atol=1e-3)
    assert artifact.operators == {"ADD": 1, "MEAN": 2, "MUL": 2, "RSQRT": 1, "SUB": 1}


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 3, 2, 4, 2)], ids=str)
def test_a_batch_norm_has_any_rank(shape: tuple[int, ...]) -> None:
    parameters = [np.abs(random(3, seed=seed)) for seed in range(4)]

    assert operators(*one_op(BatchNorm(), random(*shape), *parameters)) == {"ADD": 1, "MUL": 1}


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize(
    ("shape", "slope"),
    [
        ((4,), (4,)),
        ((3, 4), (4,)),
        ((3, 4), (3, 1)),
        ((2, 3, 4), (3, 1)),
        ((2, 3, 4), (2, 1, 1)),
        ((2, 3, 4, 5), (3, 1, 1)),
        ((2, 3, 4, 5), (1,)),
        ((2, 3, 4, 5), (5,)),
        ((2, 3, 4, 5), (2, 3, 4, 5)),
        ((2, 3, 4, 5), (2, 1, 1, 1)),
        ((2, 3, 4, 2, 2), (3, 1, 1, 1)),
        ((2, 3, 4, 2, 2), (2, 1, 4, 1, 2)),
    ],
    ids=str,
)
def test_a_prelu_has_any_slopes(
    shape: tuple[int, ...], slope: tuple[int, ...], computed: bool
) -> None:
    net = Net(x=shape, slope=slope)
    slopes = random(*slope, seed=1)
    net.add("y", PRelu(), "x", "slope" if computed else slopes)

    operators(net.graph("y"), {"x": random(*shape), "slope": slopes})
