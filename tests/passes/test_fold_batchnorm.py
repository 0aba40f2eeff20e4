from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from edgec.ir import DType, Graph, Op
from edgec.ops import (
    Activation,
    Add,
    BatchNorm,
    Conv,
    ConvTranspose,
    Div,
    FullyConnected,
    GroupedConv,
    MatMul,
    Mul,
    Neg,
    Relu,
    Reshape,
    Sub,
    Transpose,
)
from edgec.passes import FoldBatchNorm
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

fold = FoldBatchNorm()


def folded(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in check_pass(fold, graph).nodes]


def test_folds_into_one_convolution() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.batchnorm(s.conv(s.x, 3)))

    after = check_pass(fold, graph)
    assert (
        str(after)
        == """\
graph test(%x: f32[1,2,4,4]) {
  %c0.1: f32[3,2,3,3] = const
  %v0.bias: f32[3] = const
  %v1: f32[1,3,4,4] = Conv(pad=(1, 1, 1, 1))(%x, %c0.1, %v0.bias)
  return %v1
}"""
    )
    assert after.nodes[0].origin == ("n0", "n1")


def test_leaves_the_weights_alone_where_only_an_offset_is_added() -> None:
    s = Sketch(1, 2, 4, 4)
    after = fold.run(s.graph(s.add(Add(), s.conv(s.x, 3), s.random(3, 1, 1))))

    assert str(after.nodes[0]).endswith("(%x, %c0, %v0.bias)")


def test_makes_no_bias_of_zeros() -> None:
    s = Sketch(1, 2, 4, 4)
    after = fold.run(s.graph(s.add(Mul(), s.conv(s.x, 3, bias=False), s.random(3, 1, 1))))

    assert str(after.nodes[0]).endswith("(%x, %c0.1)")


def test_folds_a_chain_of_two() -> None:
    s = Sketch(1, 2, 4, 4)

    assert folded(s.graph(s.batchnorm(s.batchnorm(s.conv(s.x, 3, bias=False))))) == ["Conv"]


@pytest.mark.parametrize("op", [Mul(), Add(), Sub()], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 1, 1), (1, 1, 1, 1)], ids=str)
def test_folds_what_acts_on_each_channel(op: Op, shape: tuple[int, ...]) -> None:
    s = Sketch(1, 2, 4, 4)

    assert folded(s.graph(s.add(op, s.conv(s.x, 3), s.random(*shape)))) == ["Conv"]


@pytest.mark.parametrize("op", [Mul(), Add()], ids=str)
def test_the_constant_may_come_first(op: Op) -> None:
    s = Sketch(1, 2, 4, 4)

    assert folded(s.graph(s.add(op, s.random(3, 1, 1), s.conv(s.x, 3)))) == ["Conv"]


def test_a_constant_minus_a_layer_turns_its_sign() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Sub(), s.random(3, 1, 1), s.add(Neg(), s.conv(s.x, 3))))

    assert folded(graph) == ["Conv"]


def test_divisors_are_folded_unless_one_is_zero() -> None:
    s = Sketch(1, 2, 4, 4)
    assert folded(s.graph(s.add(Div(), s.conv(s.x, 3), s.random(3, 1, 1)))) == ["Conv"]

    zero = s.const(np.array(0, np.float32))
    graph = s.graph(s.add(Div(), s.conv(s.x, 3), zero))
    assert fold.run(graph) is graph
    graph = s.graph(s.add(Div(), s.random(3, 1, 1), s.conv(s.x, 3)))
    assert fold.run(graph) is graph


def test_folds_into_layers_of_every_kind() -> None:
    s = Sketch(1, 4, 5, 5)
    y = s.batchnorm(s.depthwise(s.x, 2))
    w = s.random(6, 4, 3, 3)
    y = s.batchnorm(s.add(GroupedConv(groups=2), y, w))

    assert folded(s.graph(y)) == ["DepthwiseConv", "GroupedConv"]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3)], ids=str)
def test_folds_into_a_fully_connected_layer(shape: tuple[int, ...]) -> None:
    s = Sketch(1, 5)
    y = s.add(FullyConnected(), s.x, s.random(3, 5), s.random(3))

    assert folded(s.graph(s.add(Mul(), y, s.random(*shape)))) == ["FullyConnected"]


def test_weights_that_are_shared_are_folded_apart() -> None:
    s = Sketch(1, 3, 4, 4)
    w = s.random(3, 3, 3, 3)
    op = Conv(pad=(1, 1, 1, 1))
    y = s.batchnorm(s.add(op, s.batchnorm(s.add(op, s.x, w)), w))

    after = check_pass(fold, s.graph(y))
    assert sorted(after.constants) == ["c0.1", "c0.2", "v0.bias", "v2.bias"]


def test_computes_in_double_and_rounds_once() -> None:
    """In single precision ``k * b - k * mean`` would lose all of beta."""
    s = Sketch(1, 1, 1, 1)
    big, beta = np.array([2.0**24], np.float32), np.array([0.1], np.float32)
    ones = s.const(np.ones(1, np.float32))
    y = s.add(Conv(), s.x, s.random(1, 1, 1, 1), s.const(big))
    var = s.const(np.array([3.0], np.float32))
    graph = s.graph(s.add(BatchNorm(), y, ones, s.const(beta), s.const(big), var))

    bias = fold.run(graph).constants["v0.bias"].array
    np.testing.assert_allclose(bias, beta, rtol=1e-6)


def test_keeps_a_layer_that_something_else_reads() -> None:
    s = Sketch(1, 2, 4, 4)
    y = s.conv(s.x, 3)
    graph = s.graph(s.batchnorm(y), s.add(Relu(), y))

    assert fold.run(graph) is graph


def test_keeps_a_layer_that_is_an_output() -> None:
    s = Sketch(1, 2, 4, 4)
    y = s.conv(s.x, 3)
    graph = s.graph(s.batchnorm(y), y)

    assert fold.run(graph) is graph


def test_keeps_what_follows_an_activation() -> None:
    s = Sketch(1, 2, 4, 4)
    op = Conv(pad=(1, 1, 1, 1), activation=Activation.RELU)
    graph = s.graph(s.batchnorm(s.conv(s.x, 3, op=op)))

    assert fold.run(graph) is graph


def test_an_activation_of_what_is_folded_is_taken_over() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Mul(Activation.RELU), s.conv(s.x, 3), s.random(3, 1, 1)))

    (node,) = check_pass(fold, graph).nodes
    assert str(node.op) == "Conv(pad=(1, 1, 1, 1), activation=relu)"


def test_keeps_what_follows_no_layer() -> None:
    s = Sketch(1, 3, 4, 4)
    graph = s.graph(s.batchnorm(s.add(Relu(), s.x)))

    assert fold.run(graph) is graph
    (problem,) = fold.diagnostics(graph)
    assert str(problem).startswith("n1: this batch norm follows no layer")


def test_keeps_what_follows_an_input() -> None:
    s = Sketch(1, 3, 4, 4)
    graph = s.graph(s.batchnorm(s.x))

    assert fold.run(graph) is graph


@pytest.mark.parametrize("shape", [(4,), (4, 4), (3, 4, 4), (1, 3, 1, 4)], ids=str)
def test_keeps_constants_that_vary_over_the_image(shape: tuple[int, ...]) -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Mul(), s.conv(s.x, 3), s.random(*shape)))

    assert fold.run(graph) is graph


def test_keeps_a_sum_with_something_computed() -> None:
    s = Sketch(1, 3, 4, 4)
    graph = s.graph(s.add(Add(), s.conv(s.x, 3), s.x))

    assert fold.run(graph) is graph


def test_keeps_a_constant_that_adds_channels() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Mul(), s.conv(s.x, 1), s.random(3, 1, 1)))

    assert fold.run(graph) is graph


def test_keeps_a_constant_that_adds_an_axis() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Mul(), s.conv(s.x, 3), s.random(1, 1, 1, 1, 1)))

    assert fold.run(graph) is graph


@pytest.mark.parametrize("operand", ["weight", "bias", "scale"])
def test_keeps_parameters_that_are_computed(operand: str) -> None:
    s = Sketch(1, 3, 4, 4)
    computed = {
        "weight": s.input("w", 3, 3, 1, 1),
        "bias": s.input("b", 3),
        "scale": s.input("k", 3, 1, 1),
    }[operand]
    w = computed if operand == "weight" else s.random(3, 3, 1, 1)
    b = computed if operand == "bias" else s.random(3)
    k = computed if operand == "scale" else s.random(3, 1, 1)
    s.inputs = [s.x, computed]
    graph = s.graph(s.add(Mul(), s.add(Conv(), s.x, w, b), k))

    assert fold.run(graph) is graph


def test_keeps_a_batch_norm_with_computed_parameters() -> None:
    s = Sketch(1, 2, 4, 4)
    y = s.batchnorm(s.conv(s.x, 3))
    gamma = s.input("gamma", 3)
    node = s.nodes[-1]
    s.nodes[-1] = type(node)(node.op, (node.inputs[0], gamma, *node.inputs[2:]), node.outputs)
    graph = s.graph(y)

    assert fold.run(graph) is graph


def test_keeps_the_precision_of_the_weights() -> None:
    s = Sketch(1, 2, 4, 4, dtype=DType.FLOAT64)
    w = s.const(np.ones((3, 2, 1, 1)))
    graph = s.graph(s.add(Mul(), s.add(Conv(), s.x, w), s.const(np.array(0.1))))

    after = fold.run(graph)
    assert after.constants["c0.1"].array.dtype == np.float64
    assert after.constants["c0.1"].array[0, 0, 0, 0] == 0.1


# ---- transposed convolutions


@pytest.mark.parametrize("groups", [1, 2])
def test_folds_into_a_transposed_convolution(groups: int) -> None:
    s = Sketch(1, 4, 3, 3)
    op = ConvTranspose(stride=(2, 2), output_pad=(1, 0), groups=groups)
    y = s.add(op, s.x, s.random(4, 6 // groups, 2, 2), s.random(6))

    assert folded(s.graph(s.batchnorm(s.add(Mul(), y, s.random(6, 1, 1))))) == ["ConvTranspose"]


def test_keeps_an_activation_behind_a_transposed_convolution() -> None:
    s = Sketch(1, 4, 3, 3)
    y = s.add(ConvTranspose(), s.x, s.random(4, 6, 2, 2))
    graph = s.graph(s.add(Mul(Activation.RELU), y, s.random()))
    assert fold.run(graph) is graph


# ---- products


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 5)], ids=str)
@pytest.mark.parametrize("op", [Mul(), Div()], ids=str)
def test_folds_into_a_product(op: Op, shape: tuple[int, ...]) -> None:
    s = Sketch(1, 3, 4)
    y = s.add(MatMul(), s.x, s.random(4, 5))
    assert folded(s.graph(s.add(op, y, s.random(*shape)))) == ["MatMul"]


def test_folds_into_a_product_and_its_bias() -> None:
    s = Sketch(1, 3, 4)
    y = s.add(Add(), s.random(5), s.add(MatMul(), s.x, s.random(4, 5)))
    graph = s.graph(s.add(Sub(Activation.RELU), s.random(5), s.add(Mul(), y, s.random())))

    after = check_pass(fold, graph)
    assert [str(n) for n in after.nodes] == [
        "%v0.1.1: f32[1,3,5] = MatMul()(%x, %c1.1.1)",
        "%v3: f32[1,3,5] = Add(activation=relu)(%v0.1.1, %v2.bias)",
    ]


KEPT_PRODUCTS: list[tuple[Op, tuple[int, ...]]] = [
    (Mul(), (3, 1)),
    (Add(), (5,)),
    (Sub(), (5,)),
    (Mul(Activation.RELU), ()),
]


@pytest.mark.parametrize(("op", "shape"), KEPT_PRODUCTS, ids=str)
def test_keeps_what_a_product_cannot_take(op: Op, shape: tuple[int, ...]) -> None:
    s = Sketch(1, 3, 4)
    graph = s.graph(s.add(op, s.add(MatMul(), s.x, s.random(4, 5)), s.random(*shape)))
    assert fold.run(graph) is graph


def test_keeps_what_follows_a_product_of_two_values() -> None:
    s = Sketch(1, 3, 4)
    y = s.add(MatMul(), s.x, s.input("y", 4, 5))
    graph = s.graph(s.add(Mul(), s.add(Add(), y, s.random(5)), s.random()))
    assert fold.run(graph) is graph


@pytest.mark.parametrize("read", [0, 1])
def test_keeps_a_product_or_sum_that_something_else_reads(read: int) -> None:
    s = Sketch(1, 3, 4)
    product = s.add(MatMul(), s.x, s.random(4, 5))
    total = s.add(Add(), product, s.random(5))
    graph = s.graph(s.add(Mul(), total, s.random()), s.add(Relu(), (product, total)[read]))
    assert fold.run(graph) is graph


def test_keeps_a_bias_that_would_grow() -> None:
    s = Sketch(1, 3, 4)
    y = s.add(Add(), s.add(MatMul(), s.x, s.random(4, 5)), s.random(3, 1))
    graph = s.graph(s.add(Mul(), y, s.random(5)))
    assert fold.run(graph) is graph


# ---- moves in between


def test_single_numbers_are_folded_across_moves() -> None:
    s = Sketch(1, 4, 8)
    y = s.add(Add(), s.add(MatMul(), s.x, s.random(8, 6)), s.random(6))
    y = s.add(Transpose((0, 2, 1, 3)), s.add(Reshape((1, 4, 2, 3)), y))
    graph = s.graph(s.add(Mul(), y, s.random()))

    after = check_pass(fold, graph)
    assert [type(n.op).__name__ for n in after.nodes] == [
        "MatMul",
        "Add",
        "Reshape",
        "Transpose",
    ]
    assert after.outputs == graph.outputs
    assert [n.origin for n in after.nodes] == [("n0",), ("n1",), ("n2",), ("n3", "n4")]


def test_single_numbers_are_folded_across_a_flattening() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Add(), s.add(Reshape((48,)), s.conv(s.x, 3)), s.random(1)))
    assert folded(graph) == ["Conv", "Reshape"]


def test_keeps_single_numbers_behind_moves_that_are_read_elsewhere() -> None:
    s = Sketch(1, 2, 4, 4)
    layer = s.conv(s.x, 3)
    y = s.add(Reshape((3, 16)), layer)
    for other in (layer, y):
        graph = s.graph(s.add(Mul(), y, s.random()), s.add(Relu(), other))
        assert fold.run(graph) is graph


def test_keeps_factors_of_channels_behind_moves() -> None:
    s = Sketch(1, 2, 4, 4)
    y = s.add(Transpose((0, 2, 3, 1)), s.conv(s.x, 3))
    graph = s.graph(s.add(Mul(), y, s.random(3)))
    assert fold.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(fold, graph)
