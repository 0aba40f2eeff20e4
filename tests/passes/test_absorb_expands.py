from __future__ import annotations

import pytest
from hypothesis import given

from edgec.ir import Graph, Op
from edgec.ops import Add, Expand, Less, PRelu, Relu, Where
from edgec.passes import AbsorbExpands
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

absorb = AbsorbExpands()


@pytest.mark.parametrize("op", [Add(), Less()], ids=str)
def test_operators_that_broadcast_read_the_operand(op: Op) -> None:
    s = Sketch(2, 3, 4)
    y = s.add(Expand((2, 3, 4)), s.add(Relu(), s.input("y", 3, 1)))

    after = check_pass(absorb, s.graph(s.add(op, s.x, y)))
    assert [str(n.op) for n in after.nodes] == ["Relu()", str(op)]
    assert after.nodes[1].origin == ("n1", "n2")


def test_all_operands_are_looked_at() -> None:
    s = Sketch(2, 3, 4)
    a, b = (s.add(Expand((2, 3, 4)), s.input(name, 4)) for name in "ab")
    c = s.add(Less(), s.x, s.random(4))

    after = check_pass(absorb, s.graph(s.add(Where(), c, a, b)))
    assert [str(n.op) for n in after.nodes] == ["Less()", "Where()"]


def test_slopes_are_not_repeated() -> None:
    s = Sketch(2, 3, 4)
    slope = s.add(Expand((3, 4)), s.input("y", 3, 1))
    assert len(check_pass(absorb, s.graph(s.add(PRelu(), s.x, slope))).nodes) == 1


def test_one_of_two_stays_where_they_repeat_each_other() -> None:
    s = Sketch(3, 1)
    a, b = s.add(Expand((2, 3, 4)), s.x), s.add(Expand((2, 3, 4)), s.input("y", 4))

    after = check_pass(absorb, s.graph(s.add(Add(), a, b)))
    assert [str(n.op) for n in after.nodes] == ["Expand(shape=(2, 3, 4))", "Add()"]


def test_other_readers_keep_the_expand() -> None:
    s = Sketch(2, 3)
    y = s.add(Expand((2, 3)), s.input("y", 3))

    after = check_pass(absorb, s.graph(s.add(Add(), s.x, y), y))
    assert [v.name for v in after.nodes[1].inputs] == ["x", "y"]


def test_keeps_an_expand_that_makes_the_shape() -> None:
    s = Sketch(3, 1)
    graph = s.graph(s.add(Add(), s.add(Expand((2, 3, 4)), s.x), s.random(4)))
    assert absorb.run(graph) is graph

    s = Sketch(2, 3)
    graph = s.graph(s.add(PRelu(), s.add(Expand((2, 3)), s.input("y", 3)), s.x))
    assert absorb.run(graph) is graph

    s = Sketch(3)
    graph = s.graph(s.add(Relu(), s.add(Expand((2, 3)), s.x)))
    assert absorb.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(absorb, graph)
