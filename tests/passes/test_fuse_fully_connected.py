from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from edgec.ir import DType, Graph, Op
from edgec.ops import Activation, Add, FullyConnected, Gemm, MatMul, Relu
from edgec.passes import FuseFullyConnected
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

fuse = FuseFullyConnected()


def kinds(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in check_pass(fuse, graph).nodes]


def test_a_product_and_a_sum_are_one_layer() -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Add(), s.add(MatMul(), s.x, s.random(4, 3)), s.random(3)))

    after = check_pass(fuse, graph)
    assert (
        str(after)
        == """\
graph test(%x: f32[1,4]) {
  %c1: f32[3] = const
  %c0.1: f32[3,4] = const
  %v1: f32[1,3] = FullyConnected()(%x, %c0.1, %c1)
  return %v1
}"""
    )
    assert after.nodes[0].origin == ("n0", "n1")
    np.testing.assert_array_equal(after.constants["c0.1"].array, graph.constants["c0"].array.T)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_takes_up_a_bias_of_any_form(shape: tuple[int, ...], first: bool) -> None:
    s = Sketch(2, 4)
    pair = s.add(MatMul(), s.x, s.random(4, 3)), s.random(*shape)

    assert kinds(s.graph(s.add(Add(), *(pair[::-1] if first else pair)))) == ["FullyConnected"]


@pytest.mark.parametrize("shape", [None, (), (1,), (3,), (1, 3)], ids=str)
@pytest.mark.parametrize("op", [Gemm(), Gemm(0.5, 2.0), Gemm(trans_b=True)], ids=str)
def test_a_gemm_with_constant_weights_is_a_layer(
    op: Gemm, shape: tuple[int, ...] | None
) -> None:
    s = Sketch(2, 4)
    w = s.random(*((3, 4) if op.trans_b else (4, 3)))
    more = () if shape is None else (s.random(*shape),)

    assert kinds(s.graph(s.add(op, s.x, w, *more))) == ["FullyConnected"]


def test_the_weights_of_a_gemm_that_fit_are_shared() -> None:
    s = Sketch(2, 4)
    after = fuse.run(s.graph(s.add(Gemm(trans_b=True), s.x, s.random(3, 4))))

    assert list(after.constants) == ["c0"]


def test_keeps_the_precision_of_the_weights() -> None:
    s = Sketch(2, 4, dtype=DType.FLOAT64)
    w, c = s.const(np.ones((4, 3))), s.const(np.ones(3))
    after = fuse.run(s.graph(s.add(Gemm(0.1, 0.1), s.x, w, c)))

    assert {a.array.dtype for a in after.constants.values()} == {np.dtype(np.float64)}
    assert {a.array.ravel()[0] for a in after.constants.values()} == {0.1}


@pytest.mark.parametrize("shape", [(2, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("op", [Gemm(), Gemm(trans_b=True)], ids=str)
def test_keeps_a_gemm_that_adds_more_than_a_row(op: Gemm, shape: tuple[int, ...]) -> None:
    s = Sketch(2, 4)
    w = s.random(*((3, 4) if op.trans_b else (4, 3)))
    graph = s.graph(s.add(op, s.x, w, s.random(*shape)))

    assert fuse.run(graph) is graph


def test_keeps_a_gemm_that_adds_a_column_as_long_as_a_row() -> None:
    s = Sketch(3, 4)
    graph = s.graph(s.add(Gemm(), s.x, s.random(4, 3), s.random(3, 1)))

    assert fuse.run(graph) is graph


@pytest.mark.parametrize("operand", ["w", "c"])
def test_keeps_a_gemm_of_something_computed(operand: str) -> None:
    s = Sketch(2, 4)
    w = s.input("w", 4, 3) if operand == "w" else s.random(4, 3)
    c = s.input("c", 3) if operand == "c" else s.random(3)
    graph = s.graph(s.add(Gemm(), s.x, w, c))

    assert fuse.run(graph) is graph


def test_keeps_a_gemm_that_turns_its_data() -> None:
    s = Sketch(4, 2)
    graph = s.graph(s.add(Gemm(trans_a=True), s.x, s.random(4, 3)))

    assert fuse.run(graph) is graph


def test_keeps_a_product_of_two_computed_matrices() -> None:
    s = Sketch(3, 3)
    graph = s.graph(s.add(MatMul(), s.x, s.add(Relu(), s.x)))

    assert fuse.run(graph) is graph


def test_keeps_a_product_with_a_constant_in_front() -> None:
    s = Sketch(3, 3)
    graph = s.graph(s.add(MatMul(), s.random(3, 3), s.x))

    assert fuse.run(graph) is graph


def test_keeps_a_product_of_stacks() -> None:
    s = Sketch(2, 3, 4)
    graph = s.graph(s.add(MatMul(), s.x, s.random(4, 5)))

    assert fuse.run(graph) is graph


def test_keeps_a_product_of_integers() -> None:
    """ONNX Runtime multiplies them, but not in the form of a layer."""
    s = Sketch(2, 3, dtype=DType.INT32)
    graph = s.graph(s.add(MatMul(), s.x, s.const(np.ones((3, 2), np.int32))))

    assert fuse.run(graph) is graph


def layer(s: Sketch, op: Op | None = None) -> Graph:
    """A layer without a bias, and the sum behind it."""
    y = s.add(op or FullyConnected(), s.x, s.random(3, 4))
    return s.graph(s.add(Add(), y, s.random(3)))


def test_takes_up_the_bias_of_a_layer() -> None:
    assert kinds(layer(Sketch(2, 4))) == ["FullyConnected"]


def test_keeps_a_sum_behind_an_activation() -> None:
    graph = layer(Sketch(2, 4), FullyConnected(Activation.RELU))

    assert fuse.run(graph) is graph


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (5, 1, 3), (1, 1, 3)], ids=str)
def test_keeps_a_sum_with_more_than_a_row(shape: tuple[int, ...]) -> None:
    s = Sketch(2, 4)
    y = s.add(FullyConnected(), s.x, s.random(3, 4))
    graph = s.graph(s.add(Add(), y, s.random(*shape)))

    assert fuse.run(graph) is graph


def test_keeps_a_row_that_widens_the_result() -> None:
    s = Sketch(2, 4)
    y = s.add(FullyConnected(), s.x, s.random(1, 4))
    graph = s.graph(s.add(Add(), y, s.random(5)))

    assert fuse.run(graph) is graph


def test_keeps_a_second_bias() -> None:
    s = Sketch(2, 4)
    y = s.add(FullyConnected(), s.x, s.random(3, 4), s.random(3))
    graph = s.graph(s.add(Add(), y, s.random(3)))

    assert fuse.run(graph) is graph


def test_keeps_a_sum_with_an_activation_of_its_own() -> None:
    s = Sketch(2, 4)
    y = s.add(FullyConnected(), s.x, s.random(3, 4))
    graph = s.graph(s.add(Add(Activation.RELU), y, s.random(3)))

    assert fuse.run(graph) is graph


def test_keeps_a_product_that_something_else_reads() -> None:
    s = Sketch(2, 4)
    y = s.add(FullyConnected(), s.x, s.random(3, 4))
    graph = s.graph(s.add(Add(), y, s.random(3)), s.add(Relu(), y))

    assert fuse.run(graph) is graph


def test_keeps_a_sum_with_something_computed() -> None:
    s = Sketch(2, 3)
    y = s.add(FullyConnected(), s.x, s.random(3, 3))
    graph = s.graph(s.add(Add(), y, s.x))

    assert fuse.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(fuse, graph)
