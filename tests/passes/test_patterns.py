"""What rules ask of a graph, and how what they find is put in its place."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import DType, Graph, Node, TensorType, Value
from edgec.ops import Activation, Add, Div, Exp, Mul, Neg, Opaque, Relu, Sub
from edgec.passes.patterns import Affine, Call, Reader, kind, near, recognize, same
from tests.models import Sketch


def number(s: Sketch, value: float) -> Value:
    return s.const(np.full((), value, np.float32))


def test_a_line_is_read_through_any_arithmetic_with_constants() -> None:
    s = Sketch(1, 4)
    y = s.add(Sub(), number(s, 1), s.add(Div(), s.x, number(s, 4)))
    y = s.add(Neg(), s.add(Mul(), number(s, 2), y))
    r = Reader(s.graph(s.add(Relu(), y)))

    assert r.affine(y) == Affine(0.5, s.x, -2.0)
    assert next(line.value for line in r.affines(y)) == y


def test_a_line_begins_at_what_others_read() -> None:
    s = Sketch(1, 4)
    middle = s.add(Mul(), s.x, number(s, 2))
    y = s.add(Add(), middle, number(s, 1))
    r = Reader(s.graph(s.add(Mul(), s.add(Relu(), y), middle)))

    assert r.affine(y) == Affine(1.0, middle, 1.0)
    assert [line.value for line in r.affines(y)] == [y, middle, s.x]


def test_a_polynomial_adds_up_what_it_is_made_of() -> None:
    s = Sketch(1, 4)
    e = s.add(Exp(), s.x)
    y = s.add(Mul(), s.add(Add(), s.x, e), s.add(Sub(), s.x, e))
    r = Reader(s.graph(s.add(Add(), y, number(s, 3))))

    found = r.polynomial(y, s.x, e)
    assert same(found, {(2, 0): 1.0, (0, 2): -1.0})  # (x + e) * (x - e)
    assert r.polynomial(y, s.x) is None


def test_a_polynomial_of_high_degree_is_none() -> None:
    s = Sketch(1, 4)
    y = s.x
    for _ in range(20):
        y = s.add(Mul(), y, y)

    assert Reader(s.graph(y)).polynomial(y, s.x) is None


def test_constants_are_the_same_to_float32() -> None:
    assert near(float(np.float32(1 / 3)), 1 / 3)
    assert not near(0.33333, 1 / 3)
    assert near(0, 0)


def test_an_operator_of_another_domain_or_with_an_activation_has_no_kind() -> None:
    t = TensorType(DType.FLOAT32, (1, 4))

    def kind_of(op: Opaque | Add) -> str:
        return kind(Node(op, (), (Value("y", t),)))

    assert kind_of(Opaque("Erf", "com.example", 1, b"", (t,))) == ""
    assert kind_of(Opaque("Erf", "", 18, b"", (t,))) == "Erf"
    assert kind_of(Add()) == "Add"
    assert kind_of(Add(Activation.RELU)) == ""


def squares(r: Reader, node: Node) -> Call | None:
    """Exp(x) * Exp(x) as Exp(x + x), with the sum read twice."""
    if kind(node) != "Mul" or node.inputs[0] != node.inputs[1]:
        return None
    x = r.operand(node.inputs[0], "Exp")
    if x is None:
        return None
    half = Call.of(Mul(), x, np.full((), 0.5, np.float32))
    return Call.of(Exp(), Call.of(Add(), Call.of(Add(), half, half), x))


def squared(s: Sketch) -> Graph:
    e = s.add(Exp(), s.x)
    return s.graph(s.add(Mul(), e, e))


def test_a_call_is_written_with_what_it_reads_twice_once() -> None:
    graph = squared(Sketch(1, 4))
    after = recognize(graph, (squares,), ("Exp",))

    assert (
        str(after)
        == """\
graph test(%x: f32[1,4]) {
  %v1.constant: f32[] = const
  %v1.inner: f32[1,4] = Mul()(%x, %v1.constant)
  %v1.inner.1: f32[1,4] = Add()(%v1.inner, %v1.inner)
  %v1.inner.2: f32[1,4] = Add()(%v1.inner.1, %x)
  %v1: f32[1,4] = Exp()(%v1.inner.2)
  return %v1
}"""
    )
    assert {n.origin for n in after.nodes} == {("n0", "n1")}


def test_nothing_is_looked_for_where_nothing_can_be() -> None:
    def never(r: Reader, node: Node) -> Call | None:
        raise AssertionError("was asked")

    graph = squared(Sketch(1, 4))
    assert recognize(graph, (never,), ("Erf",)) is graph


@pytest.mark.parametrize("reading", ["elsewhere", "as an output"])
def test_what_is_read_inside_keeps_the_pattern(reading: str) -> None:
    s = Sketch(1, 4)
    e = s.add(Exp(), s.x)
    y = s.add(Mul(), e, e)
    graph = s.graph(y, e) if reading == "as an output" else s.graph(s.add(Add(), y, e))

    assert recognize(graph, (squares,), ("Exp",)) is graph


def test_a_call_that_ignores_an_input_is_refused() -> None:
    s = Sketch(1, 4)
    other = s.input("other", 1, 4)
    graph = s.graph(s.add(Add(), s.x, other))

    def wrong(r: Reader, node: Node) -> Call | None:
        return Call.of(Relu(), node.inputs[0])

    assert recognize(graph, (wrong,), ("Add",)) is graph


def test_a_result_of_another_type_is_refused() -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Add(), s.x, s.random(3, 4)))

    def wrong(r: Reader, node: Node) -> Call | None:
        return Call.of(Relu(), node.inputs[0])

    assert recognize(graph, (wrong,), ("Add",)) is graph
