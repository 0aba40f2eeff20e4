from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, QuantParams, verify
from edgec.ops import (
    Activation,
    Add,
    Dequantize,
    FullyConnected,
    MatMul,
    Quantize,
    Relu,
    Reshape,
    Sigmoid,
)
from edgec.passes import FlattenProducts
from tests.passes.properties import check_pass
from tests.targets.graphs import Net, random


def kinds(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in check_pass(FlattenProducts(), graph).nodes]


def product(x: tuple[int | str, ...], w: tuple[int, ...]) -> Graph:
    net = Net(x=x)
    return net.graph(net.add("y", MatMul(), "x", random(*w)))


def test_a_product_and_a_sum_are_one_layer_between_reshapes() -> None:
    net = Net(x=(2, 5, 4))
    net.add("product", MatMul(), "x", random(4, 3, seed=1))
    graph = net.graph(net.add("y", Add(Activation.RELU), "product", random(3, seed=2)))

    after = check_pass(FlattenProducts(), graph)
    assert (
        str(after)
        == """\
graph net(%x: f32[2,5,4]) {
  %product.1.1: f32[3,4] = const
  %y.1.1: f32[3] = const
  %x.1: f32[10,4] = Reshape(shape=(10, 4))(%x)
  %product.2.1: f32[10,3] = FullyConnected(activation=relu)(%x.1, %product.1.1, %y.1.1)
  %y: f32[2,5,3] = Reshape(shape=(2, 5, 3))(%product.2.1)
  return %y
}"""
    )
    assert {o for n in after.nodes for o in n.origin} == {"product", "y"}


@pytest.mark.parametrize(
    ("x", "w"),
    [((4,), (4, 3)), ((2, 2, 2, 4), (4, 3)), ((2, 4), (1, 4, 3)), ((4,), (1, 1, 4, 3))],
    ids=str,
)
def test_operands_of_any_rank(x: tuple[int, ...], w: tuple[int, ...]) -> None:
    assert kinds(product(x, w)) == ["Reshape", "FullyConnected", "Reshape"]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1, 3)], ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_takes_up_a_bias_of_any_form(shape: tuple[int, ...], first: bool) -> None:
    net = Net(x=(2, 5, 4))
    net.add("product", MatMul(), "x", random(4, 3))
    pair = ["product", net.const("b", random(*shape)).name]
    graph = net.graph(net.add("y", Add(), *(pair[::-1] if first else pair)))

    assert kinds(graph) == ["Reshape", "FullyConnected", "Reshape"]


@pytest.mark.parametrize("shape", [(5, 1), (2, 5, 3), (2, 1, 3), (1, 1, 1, 3)], ids=str)
def test_keeps_a_sum_that_is_no_bias(shape: tuple[int, ...]) -> None:
    net = Net(x=(2, 5, 4))
    net.add("product", MatMul(), "x", random(4, 3))
    graph = net.graph(net.add("y", Add(), "product", random(*shape)))

    assert kinds(graph)[-1] == "Add"


def test_one_number_for_each_row_is_no_bias() -> None:
    net = Net(x=(2, 3, 4))
    net.add("product", MatMul(), "x", random(4, 3))
    graph = net.graph(net.add("y", Add(), "product", random(3, 1)))

    assert kinds(graph)[-1] == "Add"


def test_an_activation_is_not_left_out() -> None:
    net = Net(x=(5, 4))
    net.add("layer", FullyConnected(Activation.RELU), "x", random(3, 4))
    graph = net.graph(net.add("y", Add(), "layer", random(3)))

    assert FlattenProducts().run(graph) is graph


def test_a_bias_needs_a_product_of_its_own() -> None:
    net = Net(x=(2, 5, 4))
    net.add("product", MatMul(), "x", random(4, 3))
    net.add("y", Add(), "product", random(3))
    graph = net.graph("y", net.add("z", Relu(), "product"))

    assert "Add" in kinds(graph)


@pytest.mark.parametrize("returned", [False, True])
def test_a_layer_that_something_else_reads_is_computed_once(returned: bool) -> None:
    net = Net(x=(6, 4))
    net.add("layer", FullyConnected(), "x", random(3, 4))
    net.add("rows", Reshape((2, 3, 3)), "layer")
    net.add("y", Add(), "rows", random(3))
    if not returned:
        net.add("z", Sigmoid(), "layer")
    graph = net.graph("y", "layer" if returned else "z")

    assert FlattenProducts().run(graph) is graph


def test_a_second_bias_is_added_after() -> None:
    net = Net(x=(2, 5, 4))
    net.add("product", MatMul(), "x", random(4, 3))
    net.add("one", Add(), "product", random(3))
    graph = net.graph(net.add("two", Add(), "one", random(3)))

    assert kinds(graph) == ["Reshape", "FullyConnected", "Reshape", "Add"]


def test_keeps_other_products() -> None:
    flatten = FlattenProducts()
    for graph in (
        product((5, 4), (4, 3)),  # an ordinary layer
        product((2, 5, 4), (2, 4, 3)),  # a matrix for each
        product((2, 5, 4), (4,)),
        product(("n", 5, 4), (4, 3)),
    ):
        assert flatten.run(graph) is graph
    net = Net(x=(2, 5, 4), w=(4, 3))
    computed = net.graph(net.add("y", MatMul(), "x", "w"))
    assert flatten.run(computed) is computed
    net = Net(DType.INT32, x=(2, 5, 4))
    integers = net.graph(net.add("y", MatMul(), "x", np.ones((4, 3), np.int32)))
    assert flatten.run(integers) is integers


@pytest.mark.parametrize("x", [(5, 4), (2, 5, 4), (4,)], ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_that_are_stored_as_integers_stay_so(
    x: tuple[int, ...], axis: int | None
) -> None:
    count = 1 if axis is None else (4, 3)[axis]
    params = QuantParams((0.5,) * count, (0,) * count, axis)
    stored = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    net = Net(x=x)
    net.add("w", Dequantize(params), stored)
    net.add("product", MatMul(), "x", "w")
    graph = net.graph(net.add("y", Add(), "product", random(3)))

    after = check_pass(FlattenProducts(), graph)
    (layer,) = (n for n in after.nodes if isinstance(n.op, FullyConnected))
    assert len(layer.inputs) == 3
    assert {c.array.dtype.name for c in after.constants.values()} == {"int8", "float32"}


X_GRID, Y_GRID = QuantParams((0.5,), (3,)), QuantParams((2.0,), (-7,))


def integer_product(x: tuple[int, ...], w: Array, params: QuantParams) -> Graph:
    net = Net(DType.INT8, x=x)
    net.add("real", Dequantize(X_GRID), "x")
    net.add("w", Dequantize(params, DType.of(w.dtype)), w)
    net.add("product", MatMul(), "real", "w")
    return net.graph(net.add("y", Quantize(Y_GRID), "product"))


COLUMNS = QuantParams((0.5, 0.25, 1.0), (0, 0, 0), 1)


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (3, 1, 5, 4)], ids=str)
@pytest.mark.parametrize("params", [COLUMNS, QuantParams((0.5,), (0,))], ids=["columns", "one"])
def test_an_integer_product_is_an_integer_layer(
    shape: tuple[int, ...], params: QuantParams
) -> None:
    w = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    graph = integer_product(shape, w, params)
    after = FlattenProducts().run(graph)
    verify(after)
    (layer,) = (n for n in after.nodes if isinstance(n.op, FullyConnected))
    x, stored = (after.producers[v] for v in layer.inputs)
    (reader,) = after.users[layer.output]

    axis = 0 if params.axis else None
    assert stored.op == Dequantize(QuantParams(params.scale, params.zero_point, axis))
    assert x.op == Dequantize(X_GRID)
    assert reader.op == Quantize(Y_GRID)
    data = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    want, got = (evaluate(g, {"x": data})["y"] for g in (graph, after))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("w", "params"),
    [
        (np.full((4, 3), -128, np.int8), COLUMNS),
        (np.ones((4, 3), np.int8), QuantParams((0.5,), (3,))),
        (np.ones((4, 3), np.uint8), COLUMNS),
        (np.ones((1, 4, 3), np.int8), QuantParams((0.5,), (0,), 0)),
    ],
    ids=["-128", "zero point", "unsigned", "axis"],
)
def test_integer_products_that_no_layer_computes_stay(w: Array, params: QuantParams) -> None:
    graph = integer_product((2, 5, 4), w, params)

    assert FlattenProducts().run(graph) is graph


@pytest.mark.parametrize("returned", [False, True])
def test_real_numbers_that_something_else_reads_are_not_rounded(returned: bool) -> None:
    net = Net(DType.INT8, x=(2, 5, 4))
    net.add("real", Dequantize(X_GRID), "x")
    net.add("product", MatMul(), "real", random(4, 3))
    net.add("y", Quantize(Y_GRID), "product")
    if not returned:
        net.add("z", Relu(), "product")
    graph = net.graph("y", "product" if returned else "z")

    after = FlattenProducts().run(graph)
    assert sum(isinstance(n.op, Quantize) for n in after.nodes) == 1


def test_constants_with_several_scales_stay() -> None:
    net = Net(x=(2, 3, 3))
    several = QuantParams((0.5, 0.25), (0, 0), 0)
    net.add("a", Dequantize(several), np.ones((2, 3, 4), np.int8))
    net.add("w", Dequantize(X_GRID), np.ones((4, 3), np.int8))
    net.add("product", MatMul(), "a", "w")
    net.add("q", Quantize(X_GRID), "product")
    net.add("real", Dequantize(X_GRID), "q")
    graph = net.graph(net.add("y", Add(), "real", "x"))

    after = FlattenProducts().run(graph)
    feeds = {"x": random(2, 3, 3)}
    np.testing.assert_array_equal(evaluate(after, feeds)["y"], evaluate(graph, feeds)["y"])


def test_a_product_that_is_not_quantized_again_reads_its_stored_weights() -> None:
    net = Net(DType.INT8, x=(2, 5, 4))
    net.add("real", Dequantize(X_GRID), "x")
    net.add("w", Dequantize(QuantParams((0.5,), (3,))), np.full((4, 3), -128, np.int8))
    graph = net.graph(net.add("y", MatMul(), "real", "w"))
    after = FlattenProducts().run(graph)
    verify(after)

    assert FullyConnected() in [n.op for n in after.nodes]
    assert not any(isinstance(n.op, Quantize) for n in after.nodes)
