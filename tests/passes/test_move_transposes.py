from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate import evaluate
from edgec.ir import Dim, Graph, Op, QuantParams, Value
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Dequantize,
    Div,
    Expand,
    GlobalAveragePool,
    Identity,
    MaxPool,
    MirrorPad,
    Mul,
    Pad,
    PRelu,
    Quantize,
    ReduceMax,
    ReduceMean,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Split,
    Sub,
    Tile,
    Transpose,
)
from edgec.passes import MoveTransposes
from tests.models import Sketch, feeds, graphs
from tests.passes.properties import check_pass

move = MoveTransposes()

LAST, FIRST = Transpose((0, 2, 3, 1)), Transpose((0, 3, 1, 2))


def moved(graph: Graph) -> list[str]:
    """The operators that are left, which must compute the very same numbers."""
    after = check_pass(move, graph)
    x = feeds(graph)
    got = evaluate(after, x)
    for name, want in evaluate(graph, x).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-6)
    return [str(n.op) for n in after.nodes]


def transposes(graph: Graph) -> int:
    return sum(isinstance(n.op, Transpose) for n in graph.nodes)


def between(*ops: Op, back: bool = True, shape: tuple[Dim, ...] = (1, 3, 4, 5)) -> Graph:
    """Operators on images in channels-last order, between two pools in the other order."""
    s = Sketch(*shape)
    y = s.add(LAST, s.add(MaxPool((2, 2)), s.x))
    for op in ops:
        y = s.add(op, y)
    return s.graph(s.add(MaxPool((1, 1)), s.add(FIRST, y)) if back else y)


P = QuantParams((0.1, 0.2, 0.3), (1, 2, 3), 3)


@pytest.mark.parametrize(
    ("op", "want"),
    [
        (Relu(), "Relu()"),
        (Softmax(-1), "Softmax(axis=-3)"),
        (Softmax(-2), "Softmax()"),
        (ReduceMean((1, 2)), "ReduceMean(axes=(2, 3))"),
        (ReduceMax((3, 1)), "ReduceMax(axes=(1, 2))"),
        (Pad((0, 1, 2, 3, 0, 4, 5, 6)), "Pad(pads=(0, 3, 1, 2, 0, 6, 4, 5))"),
        (MirrorPad((0, 0, 0, 1, 0, 1, 0, 0)), "MirrorPad(pads=(0, 1, 0, 0, 0, 0, 1, 0))"),
        (Slice((1, 0), (3, 2), (3, 1), (1, 1)),
         "Slice(starts=(1, 0), ends=(3, 2), axes=(1, 2), steps=(1, 1))"),
        (Tile((1, 2, 1, 3)), "Tile(repeats=(1, 3, 2, 1))"),
        (Expand((2, 3, 1, 1)), "Expand(shape=(2, 1, 3, 1))"),
        (Identity(), "Identity()"),
    ],
    ids=str,
)  # fmt: skip
def test_transposes_around_an_operator_vanish(op: Op, want: str) -> None:
    assert moved(between(op)) == ["MaxPool(kernel=(2, 2))", want, "MaxPool()"]


def test_quantization_turns_its_axis() -> None:
    ops = moved(between(Quantize(P), Dequantize(P)))

    assert ops[1:3] == [f"{kind}(params=" + repr(QuantParams(P.scale, P.zero_point, 1)) + ")"
                        for kind in ("Quantize", "Dequantize")]  # fmt: skip


def test_constants_are_transposed_beforehand() -> None:
    s = Sketch(1, 3, 4, 5)
    y = s.add(LAST, s.x)
    for op, shape in [(Mul(), (4, 1, 3)), (Add(), ()), (Sub(), (1, 1, 1, 1, 1)[:4]),
                      (Div(), (1, 1, 5, 3)), (PRelu(), (3,))]:  # fmt: skip
        y = s.add(op, y, s.random(*shape))
    y = s.add(Sub(), s.random(1, 4, 5, 3), y)
    graph = s.graph(s.add(MaxPool((2, 2)), s.add(FIRST, y)))

    assert moved(graph) == ["Mul()", "Add()", "Sub()", "Div()", "PRelu()", "Sub()",
                            "MaxPool(kernel=(2, 2))"]  # fmt: skip
    after = move.run(graph)
    shapes = [v.type.ints for n in after.nodes for v in n.inputs if v.name in after.constants]
    assert shapes == [(1, 3, 4, 1), (), (1, 1, 1, 1), (1, 3, 1, 5), (1, 3, 1, 1), (1, 3, 4, 5)]


def test_a_constant_of_more_axes_holds_a_transpose() -> None:
    s = Sketch(1, 3, 4)
    y = s.add(Add(), s.add(Transpose((0, 2, 1)), s.x), s.random(2, 1, 4, 3))
    graph = s.graph(s.add(Transpose((0, 1, 3, 2)), y))
    assert move.run(graph) is graph


def test_branches_and_joints_are_turned_together() -> None:
    """As a model for channels-last images has it: everything in between is one region."""
    s = Sketch(1, 4, 6, 6)
    a, b = s.add(LAST, s.conv(s.x, 3)), s.add(LAST, s.conv(s.x, 3))
    joined = s.add(Concat(3), s.add(Relu(), a), s.add(Mul(), b, s.add(Sigmoid(), b)))
    parts = s.adds(Split(3, (2, 4)), joined)
    scale = s.add(ReduceMean((1, 2)), parts[1])
    ends = [s.add(FIRST, v) for v in (parts[0], s.add(Mul(), parts[1], scale))]
    graph = s.graph(*(s.conv(v, 2) for v in ends))

    assert transposes(graph) == 4
    assert not any(text.startswith("Transpose") for text in moved(graph))


def test_one_of_two_transposed_operands_is_enough() -> None:
    s = Sketch(1, 3, 4, 5)
    a, b = s.add(LAST, s.add(Relu(), s.x)), s.add(LAST, s.add(Sigmoid(), s.x))
    graph = s.graph(s.add(MaxPool((2, 2)), s.add(Add(), a, b)))

    assert moved(graph) == ["Relu()", "Sigmoid()", "Add()", str(LAST), "MaxPool(kernel=(2, 2))"]


def test_a_transpose_passes_a_reduction_to_move_less() -> None:
    s = Sketch(1, 3, 4, 5)
    graph = s.graph(s.add(ReduceMax((1,)), s.add(LAST, s.x)), s.x)

    assert moved(graph) == ["ReduceMax(axes=(2,))", str(LAST)]


def test_a_reduction_that_leaves_no_order_takes_either() -> None:
    assert moved(between(Relu(), ReduceMean((1, 2), keepdims=False), back=False)) == [
        "MaxPool(kernel=(2, 2))", "Relu()", "ReduceMean(axes=(2, 3), keepdims=False)",
    ]  # fmt: skip


def test_a_reduction_that_leaves_another_order_does_not() -> None:
    graph = between(ReduceMean((1,), keepdims=False), back=False)
    assert move.run(graph) is graph


def test_a_reshape_of_single_axes_takes_either() -> None:
    s = Sketch(1, 3, 4, 5)
    y = s.add(Relu(), s.add(LAST, s.add(GlobalAveragePool(), s.x)))

    assert moved(s.graph(s.add(Reshape((-1,)), y))) == [
        "GlobalAveragePool()", "Relu()", "Reshape(shape=(3,))",
    ]  # fmt: skip


def test_a_reader_of_another_order_is_joined() -> None:
    graph = between(Relu(), Transpose((3, 2, 1, 0)), back=False)

    assert moved(graph) == ["MaxPool(kernel=(2, 2))", "Relu()", "Transpose(perm=(1, 3, 2, 0))"]


def test_an_output_keeps_its_name() -> None:
    s = Sketch(1, 3, 4, 5)
    y = s.add(Relu(), s.add(LAST, s.add(MaxPool((2, 2)), s.x)))
    graph = s.graph(s.add(FIRST, y))

    assert (
        str(check_pass(move, graph))
        == """\
graph test(%x: f32[1,3,4,5]) {
  %v0: f32[1,3,3,4] = MaxPool(kernel=(2, 2))(%x)
  %v3: f32[1,3,3,4] = Relu()(%v0)
  return %v3
}"""
    )
    assert move.run(graph).nodes[1].origin == ("n2",)


def test_an_order_that_undoes_itself() -> None:
    swap = Transpose((0, 2, 1))
    s = Sketch(2, 3, 4)
    y = s.add(Softmax(), s.add(swap, s.add(Relu(), s.x)))

    assert moved(s.graph(s.add(Sigmoid(), s.add(swap, y)))) == [
        "Relu()", "Softmax(axis=-2)", "Sigmoid()",
    ]  # fmt: skip


def test_lengths_may_be_open() -> None:
    s = Sketch("N", 3, "H", 5)
    y = s.add(Mul(), s.add(LAST, s.add(Relu(), s.x)), s.random(3))
    graph = s.graph(s.add(Sigmoid(), s.add(FIRST, y)))
    after = move.run(graph)

    assert [str(n.op) for n in after.nodes] == ["Relu()", "Mul()", "Sigmoid()"]
    assert after.outputs == graph.outputs
    assert move.run(after) is after


KEPT = [
    between(AveragePool((1, 1)), back=False),
    between(back=False),
    between(Reshape((4, -1)), back=False),
]


@pytest.mark.parametrize("graph", KEPT, ids=str)
def test_keeps_transposes_that_cannot_vanish(graph: Graph) -> None:
    assert move.run(graph) is graph


def test_keeps_a_transpose_that_is_needed_on_both_sides() -> None:
    s = Sketch(1, 3, 4, 5)
    a = s.add(LAST, s.x)
    graph = s.graph(s.add(AveragePool((2, 2)), a), s.add(MaxPool((2, 2)), s.add(Relu(), a)))
    assert move.run(graph) is graph


def test_keeps_a_transpose_of_a_constant() -> None:
    s = Sketch(1, 3, 4, 5)
    graph = s.graph(s.add(Mul(), s.x, s.add(FIRST, s.random(1, 4, 5, 3))))
    assert move.run(graph) is graph


# ---- any

ORDERS = [(0, 2, 1), (1, 0, 2), (2, 0, 1), (1, 2, 0)]


@st.composite
def turning(draw: st.DrawFn) -> Graph:
    """Operators on values of three axes in several orders, with much sharing."""
    s = Sketch(2, 3, 4, seed=draw(st.integers(0, 99)))
    values: list[Value] = [s.x]
    for _ in range(draw(st.integers(3, 12))):
        x = draw(st.sampled_from(values[-4:]))
        same = [v for v in values if v.type == x.type]
        axis = draw(st.integers(0, 2))
        kinds = ["transpose"] * 3 + ["unary", "binary", "constant", "softmax", "concat", "pad",
                 "slice", "reduce", "dropped", "split", "flat", "broadcast"]  # fmt: skip
        match draw(st.sampled_from(kinds)):
            case "transpose":
                y = s.add(Transpose(draw(st.sampled_from(ORDERS))), x)
            case "unary":
                y = s.add(draw(st.sampled_from([Relu(), Sigmoid()])), x)
            case "binary":
                y = s.add(Add(Activation.RELU), x, draw(st.sampled_from(same)))
            case "constant":
                shape = draw(st.sampled_from([(), (1,), (x.type.ints[2],), x.type.ints[1:]]))
                y = s.add(Mul(), s.random(*shape), x)
            case "softmax":
                y = s.add(Softmax(-1 - axis), x)
            case "concat":
                y = s.add(Concat(axis), x, draw(st.sampled_from(same)))
            case "pad":
                pads = [0] * 6
                pads[axis] = 1
                y = s.add(Pad(tuple(pads)), x)
            case "slice":
                y = s.add(Slice((0,), (-1,), (axis,), (1,)), x)
            case "reduce":
                y = s.add(ReduceMax((axis,)), x)
            case "dropped":
                y = s.add(Reshape((-1, 2, 1)), s.add(ReduceMax((axis,), keepdims=False), x)) \
                    if x.type.size // x.type.ints[axis] % 2 == 0 else x  # fmt: skip
            case "split":
                length = x.type.ints[axis]
                y = draw(st.sampled_from(s.adds(Split(axis, (1, length - 1)), x)))
            case "broadcast":
                y = s.add(Sub(), x, s.add(ReduceMax((axis,)), x))
            case _:
                y = s.add(Reshape((1, -1, 1)), x)
        if 0 < y.type.size < 500:
            values.append(y)
    return s.graph(*dict.fromkeys(s.add(Sigmoid(), v) for v in values[-3:]), *values[-2:-1])


@given(turning())
def test_holds_on_any_orders(graph: Graph) -> None:
    after = check_pass(move, graph)

    assert transposes(after) <= transposes(graph)
    assert len(after.nodes) <= len(graph.nodes)


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    after = check_pass(move, graph)

    assert len(after.nodes) <= len(graph.nodes)
