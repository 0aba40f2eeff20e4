"""Activations that ONNX Runtime is slow at."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, Graph, Op
from edgec.ops import Mish, PRelu, Relu, Softplus, Swish
from edgec.targets.onnxruntime.expand_slow import ExpandSlowActivations
from tests.passes.forms import kinds
from tests.passes.properties import check_pass
from tests.targets.graphs import Net, f32

expand = ExpandSlowActivations()
SHAPE = (1, 4, 32, 32)


def graph_of(op: Op, *operands: Array, shape: tuple[int | str, ...] = SHAPE) -> Graph:
    net = Net(x=shape)
    net.add("y", op, "x", *operands)
    return net.graph("y")


SLOPES = f32([0.1, 0.2, 1.0, 0.5]).reshape(4, 1, 1)
STEEP = f32([0.1, -0.2, 1.5, 0.0]).reshape(4, 1, 1)


@pytest.mark.parametrize(
    ("op", "operands", "parts"),
    [
        (PRelu(), [SLOPES], ["Mul()", "Max()"]),
        (PRelu(), [SLOPES + 0.5], ["Relu()", "Min()", "Mul()", "Add()"]),
        (PRelu(), [SLOPES - 0.1], ["Relu()", "Min()", "Mul()", "Add()"]),
        (PRelu(), [STEEP], ["Relu()", "Min()", "Mul()", "Add()"]),
        (Softplus(), [], ["Relu()", "Abs()", "Sigmoid()", "Log()", "Sub()"]),
        (Swish(), [], ["Sigmoid()", "Mul()"]),
        (Swish(1.5), [], ["Mul()", "Sigmoid()", "Mul()"]),
        (
            Mish(),
            [],
            ["Clip(high=20.0)", "Exp()", "Add()", "Mul()", "Add()", "Div()", "Mul()"],
        ),
    ],
    ids=str,
)
def test_a_slow_activation_is_written_by_fast_ones(
    op: Op, operands: list[Array], parts: list[str]
) -> None:
    after = check_pass(expand, graph_of(op, *operands))

    assert kinds(after) == parts
    assert {n.origin for n in after.nodes} == {("y",)}


@pytest.mark.parametrize("op", [PRelu(), Mish(), Softplus(), Swish(2.0)], ids=str)
def test_it_holds_far_from_zero(op: Op) -> None:
    operands = [STEEP] if isinstance(op, PRelu) else []
    graph = graph_of(op, *operands)
    x = np.linspace(-200, 200, 4096, dtype=np.float32).reshape(SHAPE)
    x[0, 0, 0, :2] = -1e30, 1e30
    want, got = (evaluate(g, {"x": x})["y"] for g in (graph, expand.run(graph)))

    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_an_infinite_operand_of_a_prelu_is_no_nan() -> None:
    x = np.full(SHAPE, np.inf, np.float32)
    x[0, :, 1] = -np.inf
    for slopes in (SLOPES, STEEP + 1, SLOPES - 0.1):
        graph = graph_of(PRelu(), slopes)
        want, got = (evaluate(g, {"x": x})["y"] for g in (graph, expand.run(graph)))
        np.testing.assert_array_equal(got, want)


def test_a_slope_may_be_computed() -> None:
    net = Net(x=SHAPE, slope=(4, 1, 1))
    net.add("y", PRelu(), "x", "slope")

    assert kinds(check_pass(expand, net.graph("y")))[-1] == "Add()"


def test_small_values_stay() -> None:
    for op, operands in ((Mish(), []), (PRelu(), [SLOPES])):
        graph = graph_of(op, *operands, shape=(1, 4, 31, 33))
        assert expand.run(graph) is graph


def test_a_batch_that_is_open_counts_as_large() -> None:
    graph = graph_of(Mish(), shape=("N", 4, 2, 2))

    assert len(expand.run(graph).nodes) == 7


def test_fast_activations_stay() -> None:
    graph = graph_of(Relu())

    assert expand.run(graph) is graph
