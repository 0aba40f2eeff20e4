from __future__ import annotations

import pytest
from hypothesis import given

from edgec.ir import Graph, Op
from edgec.ops import (
    Activation,
    Add,
    BatchNorm,
    Clip,
    Conv,
    Div,
    FullyConnected,
    LeakyRelu,
    MatMul,
    MaxPool,
    Mul,
    Relu,
    Sigmoid,
    Sub,
)
from edgec.passes import FuseActivations
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

fuse = FuseActivations()


def test_the_layer_carries_the_activation() -> None:
    s = Sketch(1, 2, 4, 4)

    after = check_pass(fuse, s.graph(s.add(Relu(), s.conv(s.x, 3, bias=False))))
    assert (
        str(after)
        == """\
graph test(%x: f32[1,2,4,4]) {
  %c0: f32[3,2,3,3] = const
  %v1: f32[1,3,4,4] = Conv(pad=(1, 1, 1, 1), activation=relu)(%x, %c0)
  return %v1
}"""
    )
    assert after.nodes[0].origin == ("n0", "n1")


@pytest.mark.parametrize(
    ("op", "want"),
    [(Clip(0.0, 6.0), "relu6"), (Clip(-1.0, 1.0), "relu_n1_to_1"), (Clip(low=0.0), "relu")],
    ids=str,
)
def test_bounds_that_runtimes_know_are_activations(op: Op, want: str) -> None:
    s = Sketch(1, 3)
    (node,) = check_pass(fuse, s.graph(s.add(op, s.add(Add(), s.x, s.random(3))))).nodes

    assert str(node.op) == f"Add(activation={want})"


@pytest.mark.parametrize("op", [Add(), Sub(), Mul(), Div()], ids=str)
def test_arithmetic_carries_activations(op: Op) -> None:
    s = Sketch(1, 3)

    assert len(check_pass(fuse, s.graph(s.add(Relu(), s.add(op, s.x, s.random(3))))).nodes) == 1


def test_fully_connected_layers_carry_activations() -> None:
    s = Sketch(1, 3)
    y = s.add(FullyConnected(), s.x, s.random(4, 3))

    assert len(check_pass(fuse, s.graph(s.add(Relu(), y))).nodes) == 1


@pytest.mark.parametrize(
    ("first", "second", "want"),
    [
        (Relu(), Clip(0.0, 6.0), "relu6"),
        (Clip(0.0, 6.0), Relu(), "relu6"),
        (Relu(), Relu(), "relu"),
        (Clip(-1.0, 1.0), Clip(-1.0, 1.0), "relu_n1_to_1"),
    ],
    ids=str,
)
def test_one_activation_may_include_the_other(first: Op, second: Op, want: str) -> None:
    s = Sketch(1, 3)
    y = s.add(second, s.add(first, s.add(Add(), s.x, s.random(3))))
    (node,) = check_pass(fuse, s.graph(y)).nodes

    assert str(node.op) == f"Add(activation={want})"


@pytest.mark.parametrize(
    ("first", "second"), [(Relu(), Clip(-1.0, 1.0)), (Clip(-1.0, 1.0), Relu())], ids=str
)
def test_two_activations_that_make_a_third_stay_two(first: Op, second: Op) -> None:
    s = Sketch(1, 3)
    y = s.add(second, s.add(first, s.add(Add(), s.x, s.random(3))))

    assert len(check_pass(fuse, s.graph(y)).nodes) == 2


@pytest.mark.parametrize(
    "op", [Clip(0.0, 5.0), Clip(-1.0, 6.0), Sigmoid(), LeakyRelu()], ids=str
)
def test_keeps_other_functions(op: Op) -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(op, s.conv(s.x, 3)))

    assert fuse.run(graph) is graph


def test_keeps_an_activation_behind_other_operators() -> None:
    s = Sketch(1, 3, 4, 4)
    pooled = s.add(Relu(), s.add(MaxPool((2, 2)), s.x))
    normalised = s.add(Relu(), s.batchnorm(pooled))
    graph = s.graph(s.add(Relu(), s.add(MatMul(), normalised, s.random(3, 3))))

    assert any(isinstance(n.op, BatchNorm) for n in graph.nodes)
    assert fuse.run(graph) is graph


def test_keeps_an_activation_of_an_input() -> None:
    s = Sketch(1, 3)
    graph = s.graph(s.add(Relu(), s.x))

    assert fuse.run(graph) is graph


def test_keeps_a_layer_that_something_else_reads() -> None:
    s = Sketch(1, 2, 4, 4)
    y = s.conv(s.x, 3)
    graph = s.graph(s.add(Relu(), y), s.add(Sigmoid(), y))

    assert fuse.run(graph) is graph


def test_keeps_a_layer_that_is_an_output() -> None:
    s = Sketch(1, 2, 4, 4)
    y = s.conv(s.x, 3)
    graph = s.graph(s.add(Relu(), y), y)

    assert fuse.run(graph) is graph


def test_keeps_what_a_layer_with_another_activation_computes() -> None:
    s = Sketch(1, 2, 4, 4)
    op = Conv(pad=(1, 1, 1, 1), activation=Activation.RELU_N1_TO_1)
    graph = s.graph(s.add(Relu(), s.conv(s.x, 3, op=op)))

    assert fuse.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(fuse, graph)
