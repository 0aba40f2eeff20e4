from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given

from edgec.ir import DType, Graph, Op, TensorType
from edgec.ops import (
    Clip,
    Concat,
    Expand,
    Identity,
    Opaque,
    Pad,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Transpose,
)
from edgec.passes import EliminateIdentities
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

eliminate = EliminateIdentities()


def cast(to: DType, dims: tuple[int, ...] | None = (1, 3, 4)) -> Opaque:
    node = onnx.helper.make_node("Cast", [], [], to=to.onnx)
    proto = onnx.NodeProto(op_type="Cast", attribute=node.attribute)
    return Opaque("Cast", "", 18, proto.SerializeToString(), (TensorType(to, dims),))


NOTHING = [
    Identity(),
    Clip(),
    Pad((0,) * 6),
    Concat(1),
    Transpose((0, 1, 2)),
    Reshape((1, 3, 4)),
    Reshape((1, -1, 4)),
    Expand((3, 1)),
    Slice((0, -4), (3, 2**31), (1, 2), (1, 1)),
    cast(DType.FLOAT32),
]


@pytest.mark.parametrize("op", NOTHING, ids=str)
def test_drops_what_changes_nothing(op: Op) -> None:
    s = Sketch(1, 3, 4)
    graph = s.graph(s.add(Sigmoid(), s.add(op, s.add(Relu(), s.x))))

    assert (
        str(check_pass(eliminate, graph))
        == """\
graph test(%x: f32[1,3,4]) {
  %v0: f32[1,3,4] = Relu()(%x)
  %v2: f32[1,3,4] = Sigmoid()(%v0)
  return %v2
}"""
    )


@pytest.mark.parametrize(
    "op",
    [
        Clip(high=6.0),
        Clip(low=0.0),
        Pad((0, 0, 0, 0, 0, 1)),
        Transpose((0, 2, 1)),
        Reshape((1, 4, 3)),
        Reshape((1, 1, 3, 4)),
        Expand((2, 3, 4)),
        Slice((0,), (3,), (2,), (1,)),
        Slice((-1,), (-9,), (1,), (-1,)),  # the same shape, the other way round
        cast(DType.FLOAT16),
    ],
    ids=str,
)
def test_keeps_what_changes_something(op: Op) -> None:
    s = Sketch(1, 3, 4)
    graph = s.graph(s.add(Sigmoid(), s.add(op, s.add(Relu(), s.x))))

    assert eliminate.run(graph) is graph


def test_keeps_a_concatenation_of_two() -> None:
    s = Sketch(1, 3)
    graph = s.graph(s.add(Sigmoid(), s.add(Concat(1), s.x, s.x)))

    assert eliminate.run(graph) is graph


def test_the_output_keeps_its_name() -> None:
    s = Sketch(1, 3)
    graph = s.graph(s.add(Identity(), s.add(Relu(), s.x)))

    assert (
        str(check_pass(eliminate, graph))
        == """\
graph test(%x: f32[1,3]) {
  %v1: f32[1,3] = Relu()(%x)
  return %v1
}"""
    )


def test_a_chain_up_to_the_output_goes_at_once() -> None:
    s = Sketch(1, 3)
    y = s.add(Relu(), s.x)
    for _ in range(5):
        y = s.add(Identity(), y)

    (node,) = check_pass(eliminate, s.graph(y)).nodes
    assert str(node) == "%v5: f32[1,3] = Relu()(%x)"


def test_keeps_a_node_between_input_and_output() -> None:
    s = Sketch(1, 3)
    graph = s.graph(s.add(Identity(), s.x))

    assert eliminate.run(graph) is graph


def test_keeps_a_node_between_two_outputs() -> None:
    s = Sketch(1, 3)
    y = s.add(Relu(), s.x)
    graph = s.graph(y, s.add(Identity(), y))

    assert eliminate.run(graph) is graph


def test_keeps_a_node_before_an_output_whose_operand_is_read_elsewhere() -> None:
    s = Sketch(1, 3)
    y = s.add(Relu(), s.x)
    graph = s.graph(s.add(Identity(), y), s.add(Sigmoid(), y))

    assert eliminate.run(graph) is graph


def test_keeps_a_node_between_a_constant_and_an_output() -> None:
    s = Sketch(1, 3)
    graph = s.graph(s.add(Identity(), s.random(3)))

    assert eliminate.run(graph) is graph


def test_keeps_a_node_whose_type_says_more_than_its_operand() -> None:
    s = Sketch(1, 3, 4)
    unknown = cast(DType.FLOAT32, None)
    loose = Opaque("Cast", "other", 18, unknown.proto, (TensorType(DType.FLOAT32, ("?",)),))
    y = s.add(cast(DType.FLOAT32, (12,)), s.add(loose, s.x))
    graph = s.graph(s.add(Relu(), y))

    assert str(y.type) == "f32[12]"
    assert eliminate.run(graph) is graph


def test_a_slice_of_unknown_length_stays() -> None:
    s = Sketch("N", 3)
    graph = s.graph(s.add(Relu(), s.add(Slice((0,), (2**31,), (0,), (1,)), s.x)))

    assert eliminate.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    after = check_pass(eliminate, graph)

    names = {v.name for v in graph.outputs}
    left = [n for n in after.nodes if isinstance(n.op, Identity)]
    assert all(n.output.name in names for n in left)
    np.testing.assert_equal(len(after.nodes) <= len(graph.nodes), True)
