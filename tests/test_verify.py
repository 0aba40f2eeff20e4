from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given

from edgec.errors import VerificationError
from edgec.ir import Constant, DType, Graph, Node, TensorType, Value, verify
from edgec.ops import Relu
from tests.models import Sketch, graphs


def problems(graph: Graph) -> list[str]:
    with pytest.raises(VerificationError) as caught:
        verify(graph)
    return [str(d) for d in caught.value.diagnostics]


def two() -> Graph:
    s = Sketch(1, 2, 4, 4)
    return s.graph(s.add(Relu(), s.conv(s.x, 3)))


def f32(name: str, *shape: int) -> Value:
    return Value(name, TensorType(DType.FLOAT32, shape))


@given(graphs())
def test_takes_every_graph_drawn(graph: Graph) -> None:
    verify(graph)


def test_a_name_is_defined_before_it_is_used() -> None:
    graph = two()

    assert problems(replace(graph, nodes=graph.nodes[::-1])) == [
        "%v1: f32[1,3,4,4] = Relu()(%v0): reads %v0 before its definition"
    ]


def test_constants_are_there() -> None:
    graph = two()
    left = {k: c for k, c in graph.constants.items() if k != "c1"}

    (problem,) = problems(replace(graph, constants=MappingProxyType(left)))
    assert problem.endswith("reads %c1 before its definition")


def test_outputs_are_there() -> None:
    graph = two()
    outputs = (*graph.outputs, f32("nowhere", 1))

    assert problems(replace(graph, outputs=outputs)) == [
        "return: reads %nowhere before its definition"
    ]


def test_a_name_is_defined_once() -> None:
    graph = two()
    again = Node(Relu(), graph.nodes[1].inputs, graph.nodes[1].outputs)

    assert problems(replace(graph, nodes=(*graph.nodes, again))) == [
        "%v1: f32[1,3,4,4] = Relu()(%v0): %v1 is defined twice"
    ]


def test_an_input_is_no_constant() -> None:
    graph = two()
    constants = {**graph.constants, "x": Constant(np.zeros((1, 2, 4, 4), np.float32))}

    assert problems(replace(graph, constants=MappingProxyType(constants))) == [
        "%x: is defined twice"
    ]


def test_an_input_is_named_once() -> None:
    graph = two()

    assert problems(replace(graph, inputs=graph.inputs * 2)) == ["%x: is defined twice"]


def test_an_output_has_a_name() -> None:
    graph = two()
    nameless = replace(graph.nodes[1], outputs=(f32("", 1, 3, 4, 4),))

    found = problems(replace(graph, nodes=(graph.nodes[0], nameless)))
    assert found[0].endswith("absent is defined twice")


def test_every_use_has_the_type_of_the_definition() -> None:
    graph = two()
    wrong = f32("v0", 1, 3, 4, 5)
    relu = Node(Relu(), (wrong,), (f32("v1", 1, 3, 4, 5),))

    assert problems(replace(graph, nodes=(graph.nodes[0], relu), outputs=relu.outputs)) == [
        "%v1: f32[1,3,4,5] = Relu()(%v0): reads %v0 as f32[1,3,4,5], defined as f32[1,3,4,4]"
    ]


def test_every_output_has_the_type_that_is_inferred() -> None:
    graph = two()
    relu = replace(graph.nodes[1], outputs=(f32("v1", 1, 3, 4, 5),))

    assert problems(replace(graph, nodes=(graph.nodes[0], relu), outputs=relu.outputs)) == [
        "%v1: f32[1,3,4,5] = Relu()(%v0): the operator infers f32[1,3,4,4]"
    ]


def test_operands_fit() -> None:
    graph = two()
    conv = graph.nodes[0]
    narrow = replace(conv, inputs=(conv.inputs[0], *conv.inputs[2:0:-1]))

    (problem,) = problems(replace(graph, nodes=(narrow, graph.nodes[1])))
    assert "inputs do not fit: x is f32[1,2,4,4], w is f32[3]" in problem


def test_no_node_is_dead() -> None:
    graph = two()
    dead = Node(Relu(), graph.inputs, (f32("dead", 1, 2, 4, 4),))

    assert problems(replace(graph, nodes=(*graph.nodes, dead))) == [
        "%dead: f32[1,2,4,4] = Relu()(%x): is dead: nothing reads its outputs"
    ]


def test_no_constant_is_dead() -> None:
    graph = two()
    constants = {**graph.constants, "dead": Constant(np.zeros(1))}

    assert problems(replace(graph, constants=MappingProxyType(constants))) == [
        "%dead: is dead: nothing reads it"
    ]


def test_reports_every_problem_at_once() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.conv(s.conv(s.x, 3), 4))
    swapped = replace(graph, nodes=graph.nodes[::-1], constants=MappingProxyType({}))

    assert len(problems(swapped)) == 5  # four constants, and one value read too early
