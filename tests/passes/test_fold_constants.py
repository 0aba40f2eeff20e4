from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import helper

from edgec.errors import InternalError, ModelError
from edgec.evaluate import Evaluator, evaluate
from edgec.ir import ABSENT, DType, Graph, QuantParams, TensorType, Value
from edgec.ops import Abs, Add, Cast, Dequantize, Expand, MatMul, Mul, Neg, Opaque, Relu
from edgec.passes import FoldConstants
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

fold = FoldConstants()
I64 = DType.INT64


def opaque(
    op_type: str,
    *outputs: TensorType,
    domain: str = "",
    captures: tuple[str, ...] = (),
    **attributes: Any,
) -> Opaque:
    node = helper.make_node(op_type, [], [], domain=domain, **attributes)
    proto = onnx.NodeProto(op_type=op_type, domain=domain, attribute=node.attribute)
    return Opaque(op_type, domain, 18, proto.SerializeToString(), outputs, captures)


def unknown(dtype: DType = DType.FLOAT32) -> TensorType:
    return TensorType(dtype, None)


def ints(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, np.int64)


def texts(graph: Graph) -> list[str]:
    return [str(n.op) for n in graph.nodes]


def test_computes_what_depends_on_constants_only() -> None:
    s = Sketch(1, 3)
    k = s.add(Relu(), s.add(Mul(), s.random(3), s.random(3)))
    graph = s.graph(s.add(Add(), s.x, k))

    after = check_pass(fold, graph)
    assert (
        str(after)
        == """\
graph test(%x: f32[1,3]) {
  %v1.1: f32[3] = const
  %v2: f32[1,3] = Add()(%x, %v1.1)
  return %v2
}"""
    )
    a, b = (graph.constants[name].array for name in ("c0", "c1"))
    np.testing.assert_array_equal(after.constants["v1.1"].array, np.maximum(a * b, 0))


def test_a_result_with_two_readers_is_computed_once() -> None:
    s = Sketch(1, 3)
    k = s.add(Relu(), s.random(3))
    after = check_pass(fold, s.graph(s.add(Add(), s.add(Mul(), s.x, k), s.add(Relu(), k))))

    assert sorted(after.constants) == ["v0.1", "v2.1"]


def test_leaves_a_graph_without_constants_alone() -> None:
    s = Sketch(1, 3)
    graph = s.graph(s.add(Relu(), s.x))

    assert fold.run(graph) is graph


def test_keeps_a_node_whose_result_is_an_output() -> None:
    s = Sketch(1, 3)
    k = s.add(Relu(), s.random(3))
    graph = s.graph(k)

    assert fold.run(graph) is graph


def test_what_is_an_output_too_is_still_computed_for_its_readers() -> None:
    s = Sketch(1, 3)
    k = s.add(Relu(), s.random(3))
    graph = s.graph(k, s.add(Add(), s.x, k))

    after = check_pass(fold, graph)
    assert [v.name for v in after.outputs] == ["v0", "v1"]


def test_keeps_dequantized_weights() -> None:
    s = Sketch(1, 3)
    w = s.add(Dequantize(QuantParams((0.5,), (0,))), s.const(np.ones(3, np.int8)))
    graph = s.graph(s.add(Add(), s.x, w))

    assert fold.run(graph) is graph


@pytest.mark.parametrize(
    "op",
    [
        opaque("RandomNormalLike", TensorType(DType.FLOAT32, (3,))),
        opaque("RandomUniformLike", TensorType(DType.FLOAT32, (3,))),
        opaque("Bernoulli", TensorType(DType.FLOAT32, (3,))),
        opaque("Swirl", TensorType(DType.FLOAT32, (3,)), domain="com.acme"),
        opaque("Shape", TensorType(DType.FLOAT32, (3,)), domain="com.acme"),
    ],
    ids=str,
)
def test_keeps_what_is_no_function_of_its_operands(op: Opaque) -> None:
    s = Sketch(1, 3)
    graph = s.graph(s.add(Add(), s.x, s.add(op, s.random(3))))

    assert fold.run(graph) is graph


def test_keeps_dropout_that_is_on() -> None:
    s = Sketch(1, 3)
    half, on = s.const(np.array(0.5, np.float32)), s.const(np.array(True))
    noise = s.add(opaque("Dropout", TensorType(DType.FLOAT32, (3,))), s.random(3), half, on)
    graph = s.graph(s.add(Add(), s.x, noise))

    assert fold.run(graph) is graph


def test_keeps_a_random_node_without_operands() -> None:
    s = Sketch(1, 3)
    noise = s.add(opaque("RandomNormal", TensorType(DType.FLOAT32, (3,)), shape=[3]))
    graph = s.graph(s.add(Add(), s.x, noise))

    assert fold.run(graph) is graph


def test_keeps_a_node_that_reads_from_outside_its_body() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c1"], ["t"]), helper.make_node("Not", ["c"], ["d"])],
        "b",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, [])],
        [helper.make_tensor_value_info("d", 9, []), helper.make_tensor_value_info("t", 1, [3])],
    )
    op = opaque("Loop", TensorType(DType.FLOAT32, (1, 3)), captures=("c1",), body=body)
    s = Sketch(1, 3)
    y = s.add(op, s.const(np.array(1)), ABSENT, s.random(3))
    graph = s.graph(s.add(Add(), s.x, y))

    assert fold.run(graph) is graph


# ---- growth


def expand(s: Sketch, length: int, *, known: bool) -> Graph:
    declared = TensorType(DType.FLOAT32, (length,) if known else ("?",))
    shape = s.const(ints(length))
    big = s.add(opaque("Expand", declared), s.random(1), shape)
    return s.graph(s.add(Add(), s.x, big))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("length", "folds"), [(16, True), (17, False)])
def test_keeps_what_would_blow_up_the_file(length: int, folds: bool, known: bool) -> None:
    graph = expand(Sketch(length), length, known=known)
    after = FoldConstants(growth_bytes=64).run(graph)

    assert any("Expand" in str(node.op) for node in after.nodes) != folds


@pytest.mark.parametrize(("length", "folds"), [(8, True), (9, False)])
def test_growth_is_judged_when_the_size_is_known(length: int, folds: bool) -> None:
    s = Sketch(16)
    indices = s.add(opaque("NonZero", unknown(I64)), s.const(np.ones(length, np.float32)))
    assert not indices.type.is_static
    graph = s.graph(s.add(opaque("Gather", unknown(), axis=0), s.x, indices))

    after = FoldConstants(growth_bytes=64).run(graph)

    assert any("NonZero" in text for text in texts(after)) != folds


BIG = (600, 500)
"""More than a mebibyte of floats."""


def weights(computed: Value, s: Sketch) -> Graph:
    return s.graph(s.add(MatMul(), s.x, computed))


def test_weights_may_grow() -> None:
    s = Sketch(1, 600)
    row = s.add(Expand(BIG), s.random(1, 500))

    assert texts(check_pass(fold, weights(s.add(Neg(), row), s))) == ["MatMul()"]


def test_weights_may_grow_in_a_chain_whose_sizes_are_not_known() -> None:
    s = Sketch(1, 600)
    shape = s.add(
        opaque("Concat", unknown(I64), axis=0), s.const(ints(600)), s.const(ints(500))
    )
    row = s.add(opaque("Expand", unknown()), s.random(1, 500), shape)

    assert texts(fold.run(weights(s.add(opaque("Abs", unknown()), row), s))) == ["MatMul()"]


def test_halves_of_weights_are_widened() -> None:
    s = Sketch(1, 600)
    half = s.const(np.ones(BIG, np.float16))

    assert texts(check_pass(fold, weights(s.add(Cast(DType.FLOAT32), half), s))) == ["MatMul()"]


def test_keeps_weights_that_are_stored_as_integers() -> None:
    s = Sketch(1, 600)
    wide = s.add(Cast(DType.FLOAT32), s.const(np.ones(BIG, np.int8)))
    graph = weights(s.add(Mul(), wide, s.random(500)), s)

    assert fold.run(graph) is graph


def test_keeps_what_grows_and_is_read_elsewhere_too() -> None:
    s = Sketch(1, 600)
    row = s.add(Expand(BIG), s.random(1, 500))
    y = s.add(MatMul(), s.x, s.add(Neg(), row))
    graph = s.graph(y, s.add(Add(), s.input("y", 1), row))

    assert fold.run(graph) is graph


def test_a_result_as_large_as_its_operands_is_no_growth() -> None:
    s = Sketch(100)
    graph = s.graph(s.add(Add(), s.x, s.add(Relu(), s.random(100))))

    assert FoldConstants(growth_bytes=8).run(graph) is not graph


# ---- shapes


@pytest.mark.parametrize(
    ("attributes", "want"),
    [
        ({}, [2, 3, 4]),
        ({"start": 1}, [3, 4]),
        ({"end": -1}, [2, 3]),
        ({"start": -2, "end": 9}, [3, 4]),
    ],
    ids=str,
)
def test_a_known_shape_is_a_constant(attributes: dict[str, Any], want: list[int]) -> None:
    s = Sketch(2, 3, 4)
    shape = s.add(opaque("Shape", unknown(I64), **attributes), s.x)
    graph = s.graph(s.add(Add(), shape, s.const(np.zeros(len(want), np.int64))))

    after = fold.run(graph)
    x = {"x": np.zeros((2, 3, 4), np.float32)}
    assert "Shape" not in texts(after)
    assert evaluate(graph, x)[graph.outputs[0].name].tolist() == want
    assert evaluate(after, x)[graph.outputs[0].name].tolist() == want


def test_an_unknown_shape_stays() -> None:
    s = Sketch("N", 3)
    shape = s.add(opaque("Shape", unknown(I64)), s.x)
    graph = s.graph(s.add(Add(), shape, s.const(ints(0, 0))))

    assert texts(fold.run(graph)) == ["Shape()", "Add()"]


def test_what_becomes_known_makes_operators_typed() -> None:
    s = Sketch(2, 3, 4)
    shape = s.add(opaque("Shape", unknown(I64), end=1), s.x)
    target = s.add(opaque("Concat", unknown(I64), axis=0), shape, s.const(ints(-1)))
    flat = s.add(opaque("Reshape", unknown()), s.x, target)
    again = s.add(opaque("Shape", unknown(I64)), flat)
    y = s.add(opaque("Expand", unknown()), flat, again)
    graph = s.graph(y)

    after = check_pass_unknown(graph)
    assert texts(after) == ["Reshape(shape=(2, -1))", "Expand(shape=(2, 12))"]
    assert str(after.outputs[0].type) == "f32[2,12]"


def test_a_number_that_is_stored_as_an_integer_may_be_a_parameter() -> None:
    s = Sketch(1, 2)
    value = s.add(Dequantize(QuantParams((0.5,), (3,))), s.const(np.array(7, np.int8)))
    pads = s.const(ints(0, 1, 0, 0))
    y = s.add(opaque("Pad", TensorType(DType.FLOAT32, (1, 3))), s.x, pads, value)
    after = fold.run(s.graph(y))

    assert texts(after) == ["Pad(pads=(0, 1, 0, 0), value=2.0)"]


def check_pass_unknown(graph: Graph) -> Graph:
    """Like `check_pass`, where the type of the output becomes better known."""
    after = fold.run(graph)
    x = {v.name: np.ones(v.type.ints, np.float32) for v in graph.inputs}
    for name, want in evaluate(graph, x).items():
        np.testing.assert_array_equal(evaluate(after, x)[name], want)
    assert fold.run(after) is after
    return after


def halves(length: int) -> Graph:
    """A reshape of four numbers to a shape that is one half of a constant."""
    s = Sketch(4)
    split = opaque("Split", unknown(I64), unknown(I64), axis=0, num_outputs=2)
    _, shape = s.adds(split, s.const(ints(7, length)))
    return s.graph(s.add(opaque("Reshape", unknown()), s.x, shape))


def test_a_shape_that_is_not_the_declared_one_is_the_fault_of_the_model() -> None:
    s = Sketch(4)
    _, shape = s.adds(opaque("Split", unknown(I64), unknown(I64), num_outputs=2),
                      s.const(ints(7, 4)))  # fmt: skip
    y = s.add(opaque("Reshape", TensorType(DType.FLOAT32, (3,))), s.x, shape)

    with pytest.raises(ModelError, match=r"is f32\[4\], but the model says"):
        fold.run(s.graph(y))


def test_one_of_several_results_may_be_unread() -> None:
    assert texts(check_pass_unknown(halves(4))) == ["Reshape(shape=(4,))"]


def test_a_shape_that_does_not_fit_is_the_fault_of_the_model() -> None:
    with pytest.raises(ModelError) as caught:
        fold.run(halves(5))

    assert caught.value.summary == "the model does not fit together once its shapes are known"
    assert [str(d) for d in caught.value.diagnostics] == [
        "n1: Reshape(shape=(5,))(%x: f32[4]): "
        "inputs do not fit: x is f32[4], which does not fit [5]"
    ]


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(fold, graph)


def test_what_the_runtime_cannot_compute_stays_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stands for an operator that is newer than the runtime: no graph with a Neg runs."""

    def picky(graph: Graph) -> Evaluator:
        if any(isinstance(n.op, Neg) for n in graph.nodes):
            raise InternalError("no kernel")
        return Evaluator(graph)

    monkeypatch.setattr("edgec.passes.fold_constants.Evaluator", picky)
    s = Sketch(1, 3)
    abs_, neg = s.add(Abs(), s.random(1, 3)), s.add(Neg(), s.random(1, 3))
    graph = s.graph(s.add(Add(), s.add(Add(), s.x, abs_), neg))

    after = FoldConstants().run(graph)
    assert [type(n.op) for n in after.nodes] == [Neg, Add, Add]
