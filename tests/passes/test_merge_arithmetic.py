from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op, Value
from edgec.ops import (
    Activation,
    Add,
    And,
    Clip,
    Div,
    Identity,
    Mul,
    Neg,
    Not,
    Or,
    Pow,
    Relu,
    Sigmoid,
    Sub,
    Where,
    Xor,
)
from edgec.passes import MergeArithmetic
from tests.models import Sketch, feeds, graphs
from tests.passes.properties import check_pass

merge = MergeArithmetic()

Step = tuple[Op, object] | tuple[object, Op]
"""An operator with a constant behind it, or before it."""


def chain(*steps: object, shape: tuple[int, ...] = (2, 3)) -> Graph:
    """Operators in a row, each alone or with a constant operand on either side."""
    s = Sketch(*shape)
    y = s.x
    for step in steps:
        match step:
            case Op():
                y = s.add(step, y)
            case (Op() as op, c):
                y = s.add(op, y, s.const(np.array(c, np.float32)))
            case (c, Op() as op):
                y = s.add(op, s.const(np.array(c, np.float32)), y)
    return s.graph(y)


def merged(*steps: object, shape: tuple[int, ...] = (2, 3)) -> list[str]:
    """What is left: operators, and their constants as lists."""
    after = check_pass(merge, chain(*steps, shape=shape))
    texts: list[str] = []
    for node in after.nodes:
        arrays = [after.constant(v) for v in node.inputs]
        shown = ["x" if a is None else str(np.round(a, 6).tolist()) for a in arrays]
        texts.append(f"{node.op}({', '.join(shown)})")
    return texts


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        (((Mul(), 2), (Mul(), 3)), ["Mul()(x, 6.0)"]),
        (((Add(), 2), (Sub(), 3)), ["Add()(x, -1.0)"]),
        (((Div(), 4), (2, Mul())), ["Mul()(x, 0.5)"]),
        (((Mul(), 2), (Add(), 1), (Mul(), [1, 2, 4])),
         ["Mul()(x, [2.0, 4.0, 8.0])", "Add()(x, [1.0, 2.0, 4.0])"]),
        (((Sub(), 1), (Div(), 2), (Add(), 1), (Mul(), 4)), ["Mul()(x, 2.0)", "Add()(x, 2.0)"]),
        (((1, Sub()), (Add(), 3)), ["Sub()(4.0, x)"]),
        (((Mul(), -1), (Add(), 3)), ["Sub()(3.0, x)"]),
        ((Neg(), Neg()), ["Identity()(x)"]),
        (((Add(), 2), (Sub(), 2)), ["Identity()(x)"]),
        (((2, Sub()), (2, Sub())), ["Identity()(x)"]),
        ((Neg(), (Mul(), 1)), ["Neg()(x)", "Identity()(x)"]),
        (((Mul(), 2), (Mul(Activation.RELU), 3)), ["Mul(activation=relu)(x, 6.0)"]),
        (((Add(), 2), (Sub(Activation.RELU), 2)), ["Relu()(x)"]),
        (((Add(), 2), (Add(Activation.RELU6), -2)), ["Clip(low=0.0, high=6.0)(x)"]),
        (((2, Sub()), (Mul(), 3), (Add(Activation.RELU), 1)),
         ["Mul()(x, -3.0)", "Add(activation=relu)(x, 7.0)"]),
    ],
)  # fmt: skip
def test_a_chain_is_one_product_and_one_sum(steps: tuple[object, ...], want: list[str]) -> None:
    assert merged(*steps) == want


def test_the_layers_of_a_chain_are_remembered() -> None:
    after = merge.run(chain((Mul(), 2), (Add(), 3), (Mul(), 4)))
    assert [n.origin for n in after.nodes] == [("n0", "n1"), ("n0", "n1", "n2")]
    assert after.outputs[0].name == "v2"


KEPT: list[tuple[object, ...]] = [
    ((Mul(), 2), (Add(), 1)),
    ((Mul(), 2), Sigmoid(), (Mul(), 2)),
    ((Mul(Activation.RELU), 2), (Mul(), 2)),
    ((2, Div()), (Mul(), 3)),
    ((Add(), 12582912), (Sub(), 12582912)),
    ((Mul(), 1e-6), (Mul(), 1e-6)),
    ((Mul(), 1e5), (Mul(), 1e5)),
    ((Mul(), float("inf")), (Mul(), 2)),
    ((Div(), 0), (Mul(), 2)),
]


@pytest.mark.parametrize("steps", KEPT, ids=str)
def test_keeps_other_chains(steps: tuple[object, ...]) -> None:
    graph = chain(*steps)
    assert merge.run(graph) is graph


def test_keeps_a_chain_whose_operand_is_repeated() -> None:
    graph = chain((Mul(), 2), (Mul(), [[1], [2], [3], [4]]), shape=(1, 3))
    assert merge.run(graph) is graph


def test_keeps_a_chain_that_something_else_reads() -> None:
    s = Sketch(2, 3)
    y = s.add(Mul(), s.x, s.random())
    graph = s.graph(s.add(Mul(), y, s.random()), s.add(Sigmoid(), y))
    assert merge.run(graph) is graph


def test_keeps_a_chain_whose_large_constants_are_read_elsewhere() -> None:
    s = Sketch(2, 30)
    k = s.random(30)
    y = s.add(Mul(), s.add(Mul(), s.x, k), s.random())
    graph = s.graph(y, s.add(Sub(), k, s.input("y", 30)))
    assert merge.run(graph) is graph


def test_keeps_constants_that_would_fill_each_other_up() -> None:
    graph = chain((Add(), [[1]] * 20), (Add(), [1, 2, 3]), shape=(20, 3))
    assert merge.run(graph) is graph


def test_keeps_chains_of_integers() -> None:
    s = Sketch(3, dtype=DType.INT32)
    two = s.const(np.array(2, np.int32))
    graph = s.graph(s.add(Div(), s.add(Mul(), s.x, two), two))
    assert merge.run(graph) is graph


def test_halves_that_would_overflow_stay() -> None:
    s = Sketch(3, dtype=DType.FLOAT16)
    big = s.const(np.array(60000, np.float16))
    graph = s.graph(s.add(Add(), s.add(Add(), s.x, big), big))
    assert merge.run(graph) is graph


# ---- what changes nothing


ONES, ZEROS = np.ones(3, np.float32), np.zeros((2, 1), np.float32)


@pytest.mark.parametrize(
    ("op", "array", "first"),
    [
        (Mul(), ONES, True),
        (Mul(), ONES, False),
        (Add(), ZEROS, True),
        (Add(), ZEROS, False),
        (Sub(), ZEROS, False),
        (Div(), ONES, False),
        (Pow(), ONES, False),
    ],
    ids=str,
)
def test_arithmetic_that_changes_nothing_goes(op: Op, array: Array, first: bool) -> None:
    s = Sketch(2, 3)
    operands = (s.const(array), s.x)
    graph = s.graph(s.add(op, *(operands if first else operands[::-1])))

    assert [n.op for n in check_pass(merge, graph).nodes] == [Identity()]


def test_its_activation_stays() -> None:
    assert merged((Mul(Activation.RELU), 1)) == ["Relu()(x)"]
    assert merged((Add(Activation.RELU_N1_TO_1), 0)) == ["Clip(low=-1.0, high=1.0)(x)"]


@pytest.mark.parametrize(
    ("op", "array", "first"),
    [
        (Mul(), np.ones((4, 1, 1), np.float32), False),
        (Sub(), ZEROS, True),
        (Div(), ONES, True),
        (Pow(), ONES, True),
        (Mul(), np.array([1, 1, 2], np.float32), False),
        (Add(), np.zeros((0, 2, 3), np.float32), False),
    ],
    ids=str,
)
def test_keeps_arithmetic_that_changes_something(op: Op, array: Array, first: bool) -> None:
    s = Sketch(2, 3)
    operands = (s.const(array), s.x)
    graph = s.graph(s.add(op, *(operands if first else operands[::-1])))
    assert merge.run(graph) is graph


def bools(s: Sketch, *values: bool) -> Value:
    return s.const(np.array(values))


@pytest.mark.parametrize(
    ("op", "value", "goes"),
    [(And(), True, True), (And(), False, False), (Or(), False, True), (Or(), True, False),
     (Xor(), False, True), (Xor(), True, False)],
    ids=str,
)  # fmt: skip
def test_logic_that_decides_nothing_goes(op: Op, value: bool, goes: bool) -> None:
    s = Sketch(3, dtype=DType.BOOL)
    graph = s.graph(s.add(op, bools(s, value), s.x))
    after = merge.run(graph)

    assert ([n.op for n in after.nodes] == [Identity()]) is goes
    assert (after is graph) is not goes


def test_negations_undo_each_other() -> None:
    s = Sketch(3, dtype=DType.BOOL)
    graph = s.graph(s.add(And(), s.add(Not(), s.add(Not(), s.x)), s.x))
    assert [str(n) for n in merge.run(graph).nodes] == [
        "%v1: bool[3] = Identity()(%x)",
        "%v2: bool[3] = And()(%v1, %x)",
    ]


@pytest.mark.parametrize(("condition", "want"), [(True, "x"), (False, "y")])
def test_a_known_condition_chooses(condition: bool, want: str) -> None:
    s = Sketch(2, 3)
    y = s.input("y", 2, 3)
    graph = s.graph(s.add(Where(), bools(s, condition, condition, condition), s.x, y))

    (node,) = merge.run(graph).nodes
    assert (node.op, node.inputs[0].name) == (Identity(), want)


def test_keeps_a_condition_that_repeats_or_differs() -> None:
    s = Sketch(1, 3)
    y = s.input("y", 2, 3)
    graph = s.graph(
        s.add(Where(), bools(s, True), s.x, y),
        s.add(Where(), bools(s, True, False, True), y, y),
    )
    assert merge.run(graph) is graph


NUMBERS = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])
CONSTANTS = st.one_of(NUMBERS, st.lists(NUMBERS, min_size=3, max_size=3))


@given(st.lists(st.one_of(
    st.tuples(st.sampled_from([Add(), Sub(), Mul(), Add(Activation.RELU)]), CONSTANTS),
    st.tuples(CONSTANTS, st.sampled_from([Add(), Sub(), Mul()])),
    st.tuples(st.just(Div()), st.sampled_from([-1.0, 0.5, 4.0])),
    st.sampled_from([Neg(), Relu(), Clip(high=1.0)]),
), max_size=7))  # fmt: skip
def test_holds_on_any_chain(steps: list[object]) -> None:
    graph = chain(*steps, Sigmoid())
    after = check_pass(merge, graph)

    assert len(after.nodes) <= len(graph.nodes)
    x = feeds(graph)
    (got,), (want,) = evaluate(after, x).values(), evaluate(graph, x).values()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(merge, graph)
