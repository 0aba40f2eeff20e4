from __future__ import annotations

from typing import Any

import onnx
import pytest
from hypothesis import given
from onnx import helper

from edgec.ir import DType, Graph, Op, TensorType
from edgec.ops import Add, Clip, Div, Max, MaxPool, Min, Mul, Opaque, Pad, Relu, Sigmoid, Sub
from edgec.passes import EliminateCommonSubexpressions
from tests.models import Sketch, graphs, info
from tests.passes.properties import check_pass

eliminate = EliminateCommonSubexpressions()


def opaque(name: str, domain: str = "", **attributes: Any) -> Opaque:
    proto = onnx.NodeProto(op_type=name, domain=domain)
    proto.attribute.extend(helper.make_node(name, [], [], **attributes).attribute)
    data = proto.SerializeToString(deterministic=True)
    return Opaque(name, domain, 18, data, (TensorType(DType.FLOAT32, (1, 4)),))


def twice(op: Op) -> Graph:
    """One operator applied to one value at two places."""
    s = Sketch(1, 4)
    return s.graph(s.add(Sub(), s.add(op, s.x), s.add(Sigmoid(), s.add(op, s.x))))


def test_equal_nodes_are_one() -> None:
    after = check_pass(eliminate, twice(Relu()))

    assert (
        str(after)
        == """\
graph test(%x: f32[1,4]) {
  %v0: f32[1,4] = Relu()(%x)
  %v2: f32[1,4] = Sigmoid()(%v0)
  %v3: f32[1,4] = Sub()(%v0, %v2)
  return %v3
}"""
    )
    assert after.nodes[0].origin == ("n1", "n0")


def test_whole_chains_are_one() -> None:
    s = Sketch(1, 4)
    ends = [s.add(Sigmoid(), s.add(Clip(0.0, 1.0), s.add(Relu(), s.x))) for _ in range(3)]
    graph = s.graph(s.add(Sub(), s.add(Sub(), ends[0], ends[1]), ends[2]))

    assert len(check_pass(eliminate, graph).nodes) == 5


@pytest.mark.parametrize(("op", "left"), [(Add(), 2), (Mul(), 2), (Max(), 2), (Min(), 2),
                                          (Sub(), 3), (Div(), 3)], ids=str)  # fmt: skip
def test_the_order_of_operands_counts_only_where_it_matters(op: Op, left: int) -> None:
    s = Sketch(1, 4)
    c = s.random(4)
    graph = s.graph(s.add(Sub(), s.add(op, s.x, c), s.add(op, c, s.x)))

    assert len(check_pass(eliminate, graph).nodes) == left


def test_the_node_that_makes_an_output_stays() -> None:
    s = Sketch(1, 4)
    first, second = s.add(Relu(), s.x), s.add(Relu(), s.x)

    after = check_pass(eliminate, s.graph(s.add(Sigmoid(), first), second))
    assert [str(n) for n in after.nodes] == [
        "%v1: f32[1,4] = Relu()(%x)",
        "%v2: f32[1,4] = Sigmoid()(%v1)",
    ]


def test_nodes_that_make_outputs_stay() -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Relu(), s.x), s.add(Relu(), s.x))
    assert eliminate.run(graph) is graph

    s = Sketch(1, 4)
    a, b, c = (s.add(Relu(), s.x) for _ in range(3))
    after = check_pass(eliminate, s.graph(b, c, s.add(Sigmoid(), a)))
    assert [n.output.name for n in after.nodes] == ["v1", "v2", "v3"]


@pytest.mark.parametrize(
    ("one", "other"),
    [(Clip(0.0, 1.0), Clip(0.0, 2.0)), (Relu(), Sigmoid()),
     (Pad((0, 0, 0, 1), 0.0), Pad((0, 0, 0, 1), -0.0))],
    ids=str,
)  # fmt: skip
def test_keeps_nodes_that_differ(one: Op, other: Op) -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Sub(), s.add(one, s.x), s.add(other, s.x)))
    assert eliminate.run(graph) is graph


def test_keeps_nodes_with_other_operands() -> None:
    s = Sketch(1, 2, 4, 4)
    a, b = (s.add(MaxPool((2, 2)), s.add(op, s.x)) for op in (Relu(), Sigmoid()))
    graph = s.graph(s.add(Sub(), a, b))
    assert eliminate.run(graph) is graph


def test_equal_opaque_nodes_are_one() -> None:
    assert len(check_pass(eliminate, twice(opaque("Erf"))).nodes) == 3


@pytest.mark.parametrize(
    "op",
    [
        opaque("RandomNormalLike"),
        opaque("Bernoulli"),
        opaque("Dropout"),
        opaque("Mystery", "com.example"),
    ],
    ids=str,
)
def test_keeps_what_may_differ_each_time(op: Op) -> None:
    graph = twice(op)
    assert eliminate.run(graph) is graph


def test_keeps_nodes_with_subgraphs() -> None:
    """Random numbers may be drawn inside."""
    node = helper.make_node("RandomNormal", [], ["r"], shape=[1, 4])
    body = helper.make_graph([node], "body", [], [info("r", 1, 4)])
    op = opaque("If", then_branch=body, else_branch=body)
    s = Sketch(dtype=DType.BOOL)
    graph = s.graph(s.add(Sub(), s.add(op, s.x), s.add(op, s.x)))
    assert eliminate.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(eliminate, graph)
