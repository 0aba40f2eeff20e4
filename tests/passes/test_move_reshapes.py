from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate import evaluate
from edgec.ir import Graph, Op, QuantParams, Value
from edgec.ops import (
    Add,
    Dequantize,
    Div,
    GlobalAveragePool,
    LayerNorm,
    LogSoftmax,
    MatMul,
    Mul,
    PRelu,
    Quantize,
    ReduceMax,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Sub,
    Transpose,
    Where,
)
from edgec.passes import MoveReshapes
from tests.models import Sketch, feeds, graphs
from tests.passes.properties import check_pass

move = MoveReshapes()


def moved(graph: Graph) -> list[str]:
    """The operators that are left, which must compute the very same numbers."""
    after = check_pass(move, graph)
    x = feeds(graph)
    got = evaluate(after, x)
    for name, want in evaluate(graph, x).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-6)
    return [str(n.op) for n in after.nodes]


def between(*ops: Op) -> Graph:
    """Operators on six rows of four numbers that come and go as 2 * 3 rows."""
    s = Sketch(2, 3, 4)
    y = s.add(Reshape((6, 4)), s.add(ReduceMax(()), s.x))
    for op in ops:
        y = s.add(op, y)
    return s.graph(s.add(ReduceMax(()), s.add(Reshape((2, 3, 4)), y)))


P = QuantParams((0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4), 1)


@pytest.mark.parametrize(
    ("op", "want"),
    [(Relu(), "Relu()"), (Softmax(), "Softmax()"), (LogSoftmax(-1), "LogSoftmax()")],
    ids=str,
)
def test_reshapes_around_an_operator_vanish(op: Op, want: str) -> None:
    assert moved(between(op))[1:-1] == [want]


def test_quantization_turns_its_axis() -> None:
    ops = moved(between(Quantize(P), Dequantize(P)))

    turned = QuantParams(P.scale, P.zero_point, 2)
    assert ops[1:3] == [f"{kind}(params={turned!r})" for kind in ("Quantize", "Dequantize")]


@pytest.mark.parametrize(
    "graph",
    [between(Softmax(-2)), between(Quantize(QuantParams((0.1,) * 6, (0,) * 6, 0)))],
    ids=str,
)
def test_keeps_reshapes_around_an_axis_that_is_joined(graph: Graph) -> None:
    assert move.run(graph) is graph


def test_constants_are_reshaped_beforehand() -> None:
    s = Sketch(2, 3, 4)
    y = s.add(Reshape((6, 4)), s.x)
    for op, shape in [(Mul(), (4,)), (Add(), ()), (Sub(), (6, 1)), (Div(), (6, 4)),
                      (PRelu(), (1, 1)), (LayerNorm(), (4,))]:  # fmt: skip
        y = s.add(op, y, s.random(*shape))
    y = s.add(Where(), s.const(np.array([True, False, True, True])), y, s.random(1, 4))
    graph = s.graph(s.add(ReduceMax(()), s.add(Reshape((2, 3, 4)), y)))

    assert not any(text.startswith("Reshape") for text in moved(graph))
    after = move.run(graph)
    constants = [v for n in after.nodes for v in n.inputs if v.name in after.constants]
    assert [v.type.ints for v in constants] == [
        (4,), (), (2, 3, 1), (2, 3, 4), (1, 1), (4,), (4,), (1, 4),
    ]  # fmt: skip


def test_keeps_reshapes_where_a_constant_repeats_along_part_of_the_joined_axes() -> None:
    s = Sketch(6, 4)
    y = s.add(Mul(), s.add(Reshape((2, 3, 4)), s.x), s.random(1, 3, 1))
    graph = s.graph(s.add(ReduceMax(()), s.add(Reshape((6, 4)), y)))
    assert move.run(graph) is graph


def test_keeps_reshapes_around_a_constant_of_more_axes() -> None:
    s = Sketch(6, 4)
    y = s.add(Add(), s.add(Reshape((24,)), s.x), s.random(2, 24))
    graph = s.graph(s.add(Reshape((2, 6, 4)), y))
    assert move.run(graph) is graph


def test_reshapes_behind_join_those_before() -> None:
    s = Sketch(2, 3, 4)
    y = s.add(Sigmoid(), s.add(Relu(), s.add(Reshape((6, 4)), s.x)))
    graph = s.graph(s.add(MatMul(), s.add(Reshape((3, 8)), y), s.random(8, 2)))

    assert moved(graph) == ["Relu()", "Sigmoid()", "Reshape(shape=(3, 8))", "MatMul()"]


def test_reshapes_before_join_those_behind() -> None:
    s = Sketch(2, 3, 4)
    a = s.add(Reshape((6, 4)), s.add(Transpose((0, 1, 2)), s.x))
    b = s.add(Reshape((6, 4)), s.add(Reshape((3, 8)), s.random(2, 12)))
    y = s.add(Add(), a, b)
    graph = s.graph(s.add(ReduceMax(()), s.add(Reshape((2, 3, 4)), y)))

    assert moved(graph) == [
        "Transpose(perm=(0, 1, 2))",
        "Reshape(shape=(3, 8))",
        "Reshape(shape=(2, 3, 4))",
        "Add()",
        "ReduceMax()",
    ]


def test_single_axes_come_and_go() -> None:
    s = Sketch(1, 3, 4, 5)
    y = s.add(Reshape((1, 3)), s.add(GlobalAveragePool(), s.x))
    y = s.add(Reshape((1, 3, 1, 1)), s.add(Mul(), s.add(Sigmoid(), y), s.random(3)))

    assert moved(s.graph(s.add(Mul(), s.x, y))) == [
        "GlobalAveragePool()", "Sigmoid()", "Mul()", "Mul()",
    ]  # fmt: skip


@pytest.mark.parametrize("fixed", ["input", "output", "reader"])
def test_keeps_a_reshape_that_is_needed(fixed: str) -> None:
    s = Sketch(2, 3, 4)
    y = s.add(Relu(), s.add(Reshape((6, 4)), s.x))
    graph = s.graph(*([y] if fixed != "reader" else [s.add(MatMul(), y, s.random(4, 2))]))
    assert move.run(graph) is graph


def test_keeps_reshapes_of_unknown_length() -> None:
    s = Sketch("N", 3, 4)
    y = s.add(Relu(), s.add(Reshape((-1, 12)), s.x))
    graph = s.graph(s.add(Sigmoid(), s.add(Reshape((-1, 3, 4)), y)))
    assert move.run(graph) is graph


SHAPES = [(2, 3, 4), (6, 4), (24,), (2, 12), (1, 6, 4), (3, 8)]


@st.composite
def reshaping(draw: st.DrawFn) -> Graph:
    """Operators on values in several shapes, with much sharing."""
    s = Sketch(*SHAPES[0], seed=draw(st.integers(0, 99)))
    values: list[Value] = [s.x]
    for _ in range(draw(st.integers(3, 12))):
        x = draw(st.sampled_from(values[-4:]))
        same = [v for v in values if v.type == x.type]
        shape = x.type.ints
        match draw(st.sampled_from(["reshape"] * 4 + ["unary", "binary", "constant", "softmax",
                                                      "quantize", "reduce"])):  # fmt: skip
            case "reshape":
                y = s.add(Reshape(draw(st.sampled_from(SHAPES))), x)
            case "unary":
                y = s.add(draw(st.sampled_from([Relu(), Sigmoid()])), x)
            case "binary":
                y = s.add(Sub(), x, draw(st.sampled_from(same)))
            case "constant":
                options = [(), (1, 1), shape[-1:], (*shape[:-1], 1), shape]
                y = s.add(Mul(), s.random(*draw(st.sampled_from(options))), x)
            case "softmax":
                y = s.add(Softmax(-draw(st.integers(1, x.type.rank))), x)
            case "quantize":
                p = QuantParams((0.05,), (3,))
                y = s.add(Dequantize(p), s.add(Quantize(p), x))
            case _:
                y = s.add(ReduceMax(()), x)
        if y.type.rank == x.type.rank or y.type.size == 24:
            values.append(y)
    return s.graph(*dict.fromkeys(s.add(Sigmoid(), v) for v in values[-3:]), *values[-2:-1])


@given(reshaping())
def test_holds_on_any_shapes(graph: Graph) -> None:
    after = check_pass(move, graph)

    assert len(after.nodes) <= len(graph.nodes)


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    after = check_pass(move, graph)

    assert len(after.nodes) <= len(graph.nodes)
