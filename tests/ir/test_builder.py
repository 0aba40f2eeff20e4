from __future__ import annotations

import numpy as np
import pytest

from edgec.errors import InternalError
from edgec.ir import Builder, DType, Graph, TensorType, verify
from edgec.ops import Add, Conv, Identity, Opaque, Relu, Sigmoid
from tests.models import Sketch


def chain() -> Graph:
    """x -> Relu -> Sigmoid, both returned."""
    s = Sketch(1, 3)
    a = s.add(Relu(), s.x)
    return s.graph(s.add(Sigmoid(), a), a)


def replayed(graph: Graph) -> Builder:
    b = Builder(graph)
    for node in graph.nodes:
        b.copy(node)
    return b


def test_a_replay_without_changes_is_the_source_itself() -> None:
    graph = chain()

    assert replayed(graph).finish() is graph


def test_equal_constants_are_no_change() -> None:
    s = Sketch(3)
    y = s.add(Add(), s.x, s.random(3))
    graph = s.graph(y)
    b = Builder(graph)
    b.constant(np.zeros(9), near="unused")
    b.copy(graph.nodes[0])

    assert b.finish() is graph


def test_puts_another_node_in_the_place_of_one() -> None:
    graph = chain()
    b = Builder(graph)
    relu, sigmoid = graph.nodes
    (y,) = b.add(Identity(), b.now(relu.inputs[0]), like=relu)
    b.copy(sigmoid)
    after = b.finish()

    verify(after)
    assert [str(n.op) for n in after.nodes] == ["Identity()", "Sigmoid()"]
    assert y.name == relu.output.name
    assert after.nodes[0].origin == ("n0",)


def test_absorbed_layers_are_named_once_and_first() -> None:
    graph = chain()
    relu, sigmoid = graph.nodes
    b = Builder(graph)
    b.copy(relu)
    b.add(Sigmoid(), b.now(relu.output), like=sigmoid, absorbs=(relu, relu))

    assert b.finish().nodes[1].origin == ("n0", "n1")


def test_what_stands_for_a_value_reaches_its_readers() -> None:
    s = Sketch(1, 3)
    a = s.add(Identity(), s.x)
    graph = s.graph(s.add(Relu(), a))
    b = Builder(graph)
    b.replace(a, s.x)
    b.copy(graph.nodes[1])
    after = b.finish()

    assert str(after.nodes[0]) == "%v1: f32[1,3] = Relu()(%x)"
    assert len(after.nodes) == 1


def test_types_are_inferred_anew() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Relu(), s.conv(s.x, 3, bias=False)))
    conv, relu = graph.nodes
    b = Builder(graph)
    w = b.constant(np.zeros((5, 2, 3, 3), np.float32), near="c0")
    b.add(conv.op, conv.inputs[0], w, like=conv)
    b.copy(relu)

    assert str(b.finish().outputs[0].type) == "f32[1,5,4,4]"


def test_graph_outputs_keep_their_names() -> None:
    graph = chain()
    b = Builder(graph)

    with pytest.raises(InternalError, match="%v0 is a graph output and must keep its name"):
        b.replace(graph.nodes[0].output, graph.inputs[0])


def test_names_are_fresh_and_reserved() -> None:
    graph = chain()
    b = Builder(graph)

    assert [b.fresh("v0"), b.fresh("v0"), b.fresh("new"), b.fresh("new")] == [
        "v0.1",
        "v0.2",
        "new",
        "new.1",
    ]
    assert b.constant(np.zeros(1), near="x").name == "x.1"


def test_looks_back_at_what_was_added() -> None:
    s = Sketch(3)
    y = s.add(Add(), s.x, s.random(3))
    graph = s.graph(y)
    b = replayed(graph)

    assert b.producer(y) is graph.producers[y] or b.producer(y) == graph.producers[y]
    assert b.producer(s.x) is None
    assert b.array(s.x) is None
    np.testing.assert_array_equal(
        b.array(graph.nodes[0].inputs[1]), graph.constants["c0"].array
    )


def test_renames_an_output_that_nothing_has_read() -> None:
    s = Sketch(1, 3)
    a = s.add(Relu(), s.x)
    graph = s.graph(s.add(Identity(), a))
    relu, identity = graph.nodes
    b = Builder(graph)
    (x,) = b.copy(relu)
    b.rename(x, identity.output)
    after = b.finish()

    verify(after)
    assert [str(n) for n in after.nodes] == ["%v1: f32[1,3] = Relu()(%x)"]
    assert b.producer(after.outputs[0]) == after.nodes[0]


def test_a_renamed_output_keeps_its_own_type() -> None:
    s = Sketch(1, 3)
    a = s.add(Relu(), s.x)
    vague = TensorType(DType.FLOAT32, ("?", 3))
    graph = s.graph(s.add(Opaque("Keep", "other", 1, b"", (vague,)), a))
    relu, keep = graph.nodes
    b = Builder(graph)
    (x,) = b.copy(relu)
    b.rename(x, keep.output)
    after = b.finish()

    verify(after)
    assert str(after.outputs[0].type) == "f32[1,3]"


def test_a_misfit_names_the_layer() -> None:
    s = Sketch(1, 3, 4, 4)
    graph = s.graph(s.conv(s.x, 3))
    (conv,) = graph.nodes
    b = Builder(graph)
    w = b.constant(np.zeros((3, 5, 3, 3), np.float32), near="c0")

    with pytest.raises(InternalError) as caught:
        b.add(Conv(), conv.inputs[0], w, like=conv, absorbs=(conv,))
    assert str(caught.value) == (
        "an operator cannot take its inputs\n"
        "  n0: Conv()(%x: f32[1,3,4,4], %c0.1: f32[3,5,3,3]): "
        "inputs do not fit: x has 3 channels, w expects 5"
    )


def test_a_misfit_of_a_new_node_says_so() -> None:
    b = Builder(chain())

    with pytest.raises(InternalError, match="a new node: Add"):
        b.add(Add(), b.source.inputs[0], b.constant(np.zeros(2), near="k"), names=["y"])


def test_a_node_needs_names() -> None:
    b = Builder(chain())

    with pytest.raises(InternalError, match="without names and without a likeness"):
        b.add(Relu(), b.source.inputs[0])


def test_what_no_output_needs_is_dropped() -> None:
    graph = chain()
    b = replayed(graph)
    k = b.constant(np.zeros(3, np.float32), near="k")
    b.add(Add(), graph.inputs[0], k, names=["dead"])

    assert b.finish() is graph
