from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.evaluate import Evaluator, evaluate
from edgec.ir import Array, Graph, Value, verify
from edgec.numerics import relative_error
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    Conv,
    DepthwiseConv,
    FullyConnected,
    GlobalAveragePool,
    GroupedConv,
    Identity,
    MaxPool,
    Relu,
    Reshape,
    Sub,
    Transpose,
)
from edgec.passes import AbsorbBiases
from tests.models import Sketch, feeds

OFF = np.array([-9, -3, 4, 12], np.float32)
"""Biases of channels whose results are about one in size."""


def conv(
    s: Sketch, x: Value, activation: Activation = Activation.NONE, size: float = 0.2
) -> Value:
    """A convolution whose channels lie beside each other."""
    w = s.const(
        size * s.rng.standard_normal((4, int(x.type.shape[1]), 1, 1)).astype(np.float32)
    )
    return s.add(Conv(activation=activation), x, w, s.const(OFF))


def samples(graph: Graph, count: int = 4) -> list[dict[str, Array]]:
    return [feeds(graph, seed) for seed in range(count)]


Middle = Callable[[Sketch, Value], Value]


def depthwise(s: Sketch, x: Value) -> Value:
    return s.add(DepthwiseConv(stride=(2, 2)), x, s.random(8, 1, 3, 3), s.random(8))


def grouped(s: Sketch, x: Value) -> Value:
    return s.add(GroupedConv(groups=2), x, s.random(6, 2, 3, 3))


def pooled(s: Sketch, x: Value) -> Value:
    x = s.add(MaxPool((2, 2), pad=(1, 0, 0, 1)), x)
    x = s.add(AveragePool((2, 2), pad=(0, 0, 1, 1)), s.add(Identity(), x))
    return s.conv(x, 3, op=Conv())


def head(s: Sketch, x: Value) -> Value:
    flat = s.add(Reshape((1, 4)), s.add(GlobalAveragePool(), x))
    return s.add(FullyConnected(), flat, s.random(5, 4))


def residual(s: Sketch, x: Value) -> Value:
    y = s.add(Add(), x, conv(s, x))
    z = s.add(Sub(), y, conv(s, y))
    return s.conv(z, 3, op=Conv())


def built(middle: Middle, activation: Activation = Activation.NONE) -> Graph:
    s = Sketch(1, 3, 6, 6)
    return s.graph(middle(s, conv(s, s.x, activation)))


@pytest.mark.parametrize(
    "middle", [lambda s, x: s.conv(x, 3, op=Conv()), depthwise, grouped, pooled, head, residual]
)
def test_channels_move_to_the_middle_and_outputs_stay(middle: Middle) -> None:
    graph = built(middle)

    after, records = AbsorbBiases(samples(graph)).run_recorded(graph)

    verify(after)
    assert after.outputs == graph.outputs
    assert records[0].layer == "n0"
    assert (records[0].before_db, records[0].kept) == (0, "absorbed")
    ranges = [span(g) for g in (graph, after)]
    assert records[0].after_db == pytest.approx(20 * np.log10(ranges[0] / ranges[1]), abs=0.1)
    assert ranges[0] > 3 * ranges[1]
    for seed in (8, 9):  # others than the samples
        x = feeds(graph, seed)
        assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def span(graph: Graph) -> float:
    evaluator = Evaluator(graph, graph.nodes[0].outputs)
    made = np.stack([next(iter(evaluator.run(x).values())) for x in samples(graph)])
    return float(max(made.max(), 0) - min(made.min(), 0))


def test_both_operands_of_a_sum_may_move() -> None:
    graph = built(residual)
    after, records = AbsorbBiases(samples(graph)).run_recorded(graph)

    assert [r.layer for r in records] == ["n0", "n1", "n3"]
    assert all(v.name.endswith(".shifted") for n in after.nodes[:-1] for v in n.outputs)


def test_behind_a_relu_as_much_as_no_result_is_less_than() -> None:
    graph = built(lambda s, x: s.conv(x, 3, op=Conv()), Activation.RELU)
    given = samples(graph)

    after, (record,) = AbsorbBiases(given).run_recorded(graph)

    taken = bias(graph) - bias(after)
    assert (taken[:2] == 0).all()  # these are zero now and then
    assert (taken[2:] > 2).all()
    assert record.after_db > 3
    for x in given:
        assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5
    x = {"x": 20 * feeds(graph, 9)["x"]}
    assert relative_error(evaluate(graph, x), evaluate(after, x)) > 1e-3  # hence lossy


def bias(graph: Graph) -> Array:
    array = graph.constant(graph.nodes[0].inputs[2])
    assert array is not None
    return array


def relu(s: Sketch, x: Value) -> Value:
    return s.conv(s.add(Relu(), x), 3, op=Conv())


def turned(s: Sketch, x: Value) -> Value:
    return s.conv(s.add(Transpose((0, 1, 3, 2)), x), 3, op=Conv())


def counted(s: Sketch, x: Value) -> Value:
    y = s.add(AveragePool((3, 3), pad=(1, 1, 1, 1), count_include_pad=True), x)
    return s.conv(y, 3, op=Conv())


def computed(s: Sketch, x: Value) -> Value:
    w = s.add(Reshape((4, 4, 3, 3)), s.add(Reshape((1, 144)), x))
    return s.add(Conv(), s.conv(s.x, 4), w)


@pytest.mark.parametrize(
    ("middle", "activation", "reason"),
    [
        (lambda s, x: s.conv(x, 3), Activation.NONE, "n1 pads it with zeros"),
        (relu, Activation.NONE, "n1 does not pass a constant on"),
        (turned, Activation.NONE, "n1 does not pass a constant on"),
        (counted, Activation.NONE, "n1 does not pass a constant on"),
        (computed, Activation.NONE, "n1 does not pass a constant on"),
        (lambda s, x: x, Activation.NONE, "makes an output of the model"),
        (lambda s, x: s.conv(s.add(Add(), x, s.random(4, 1, 1)), 3, op=Conv()),
         Activation.NONE, "n1 broadcasts it"),
        (lambda s, x: s.conv(s.add(Add(Activation.RELU), x, x), 3, op=Conv()),
         Activation.NONE, "n1 does not pass a constant on"),
        (lambda s, x: s.conv(x, 3, op=Conv()), Activation.RELU6, "clips every channel"),
    ],
)  # fmt: skip
def test_says_why_nothing_can_be_taken_off(
    middle: Middle, activation: Activation, reason: str
) -> None:
    graph = built(middle, activation)
    step = AbsorbBiases(samples(graph))

    found = {d.where: d.message for d in step.diagnostics(graph)}
    assert found["n0"] == f"nothing can be taken off its bias: {reason}"
    assert step.run(graph).nodes[0] == graph.nodes[0]


def test_what_gains_nothing_stays() -> None:
    s = Sketch(1, 3, 6, 6)
    y = s.conv(s.x, 4, bias=False, op=Conv())
    graph = s.graph(s.conv(y, 3, op=Conv()))
    assert AbsorbBiases(samples(graph)).run_recorded(graph) == (graph, ())
    assert AbsorbBiases(()).run(built(head)) == built(head)


def test_text() -> None:
    s = Sketch(1, 1, 1, 1)
    w = s.const(np.array([[[[1.0]]], [[[1.0]]]], np.float32))
    y = s.add(Conv(), s.x, w, s.const(np.array([9, -9], np.float32)))
    last = s.const(np.array([[[[2.0]], [[3.0]]]], np.float32))
    graph = s.graph(s.add(Conv(), y, last))
    given = [{"x": np.full((1, 1, 1, 1), x, np.float32)} for x in (-1, 2)]

    after = AbsorbBiases(given).run(graph)

    assert str(after).splitlines()[-4:] == [
        "  %v0.shifted: f32[1,2,1,1] = Conv()(%x, %c0, %c1.shifted)",
        "  %v1: f32[1,1,1,1] = Conv()(%v0.shifted, %c2, %v1/bias.shifted)",
        "  return %v1",
        "}",
    ]
    made = {k: c.array.ravel().tolist() for k, c in after.constants.items()}
    assert made["c1.shifted"] == [-0.5, -0.5]  # 9.5 and -8.5 are taken off
    assert [a for k, a in made.items() if k.endswith("bias.shifted")] == [[2 * 9.5 - 3 * 8.5]]
