from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from edgec.ir import ABSENT, Constant, DType, Node, TensorType, Value
from edgec.ops import Add, Relu
from tests.models import Sketch


def test_prints_what_it_is() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Relu(), s.conv(s.x, 3)))

    assert (
        str(graph)
        == """\
graph test(%x: f32[1,2,4,4]) {
  %c0: f32[3,2,3,3] = const
  %c1: f32[3] = const
  %v0: f32[1,3,4,4] = Conv(pad=(1, 1, 1, 1))(%x, %c0, %c1)
  %v1: f32[1,3,4,4] = Relu()(%v0)
  return %v1
}"""
    )


def test_looks_up_producers_and_users() -> None:
    s = Sketch(2)
    a = s.add(Relu(), s.x)
    b = s.add(Add(), a, a)
    graph = s.graph(b, a)
    relu, add = graph.nodes

    assert graph.producers == {a: relu, b: add}
    assert graph.users == {s.x: (relu,), a: (add,)}
    assert graph.is_only_read_by(s.x, relu)
    assert not graph.is_only_read_by(a, add)  # an output is read from outside
    assert not graph.is_only_read_by(s.x, add)


def test_absent_operands_are_not_read() -> None:
    node = Node(Relu(), (Value("x", TensorType(DType.FLOAT32, (1,))), ABSENT), (), ())

    assert [v.name for v in node.reads] == ["x"]
    assert str(ABSENT) == "absent"


def test_a_layer_is_called_as_in_the_model() -> None:
    s = Sketch(2)
    y = s.add(Relu(), s.x)
    (node,) = s.graph(y).nodes

    assert node.layer == "n0"
    assert replace(node, origin=("a", "b")).layer == "a + b"
    assert replace(node, origin=()).layer == "v0"


def test_the_only_output_is_the_only_one() -> None:
    s = Sketch(2)
    y = s.add(Relu(), s.x)
    (node,) = s.graph(y).nodes

    assert node.output == y
    with pytest.raises(ValueError, match="too many values"):
        _ = replace(node, outputs=(y, y)).output


def test_constants_are_shared_and_read_only() -> None:
    array = np.zeros(3, np.float32)
    const = Constant(array)

    assert const.array.base is array
    assert array.flags.writeable  # the owner may still write
    with pytest.raises(ValueError, match="read-only"):
        const.array[0] = 1


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (np.zeros(3), np.zeros(3), True),
        (np.zeros(3), -np.zeros(3), False),  # other bytes
        (np.zeros(3), np.zeros((3, 1)), False),
        (np.zeros(3, np.float32), np.zeros(3, np.int32), False),
        (np.array([np.nan]), np.array([np.nan]), True),
        (np.array([b"a"], object), np.array([b"a"], object), True),
        (np.array([b"a"], object), np.array([b"b"], object), False),
    ],
)
def test_constants_are_equal_by_type_and_bytes(
    a: np.ndarray, b: np.ndarray, equal: bool
) -> None:
    assert (Constant(a) == Constant(b)) is equal
    assert not equal or hash(Constant(a)) == hash(Constant(b))


def test_digests_tell_structure_and_weights() -> None:
    def digest(seed: int, channels: int = 3, *, relu: bool = False) -> str:
        s = Sketch(1, 2, 4, 4, seed=seed)
        y = s.conv(s.x, channels)
        return s.graph(s.add(Relu(), y) if relu else y).digest

    assert digest(0) == digest(0)
    assert len({digest(0), digest(1), digest(0, 2), digest(0, relu=True)}) == 4


def test_nothing_in_a_graph_can_change() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.conv(s.x, 3))

    with pytest.raises(FrozenInstanceError):
        graph.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        graph.constants["new"] = Constant(np.zeros(1))  # type: ignore[index]
