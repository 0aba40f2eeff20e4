from __future__ import annotations

import numpy as np
from hypothesis import given

from edgec.ir import Array, DType, Graph, Value
from edgec.ops import Add, Concat, Identity, Mul
from edgec.passes import ShareConstants
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

share = ShareConstants()


def sums(*arrays: Array) -> Graph:
    """The sum of an input and constants."""
    s = Sketch(3, dtype=DType.of(arrays[0].dtype))
    y = s.x
    for array in arrays:
        y = s.add(Add(), y, s.const(array))
    return s.graph(y)


def row(*values: float) -> Array:
    return np.array(values, np.float32)


def test_equal_constants_are_one() -> None:
    graph = sums(row(1, 2, 3), row(1, 2, 4), row(1, 2, 3), row(1, 2, 3))

    after = check_pass(share, graph)
    assert list(after.constants) == ["c0", "c1"]
    assert [n.inputs[1].name for n in after.nodes] == ["c0", "c1", "c0", "c0"]
    assert after.constants["c0"] is graph.constants["c0"]  # shared, not copied


def test_keeps_constants_that_differ_in_bits_only() -> None:
    graph = sums(row(0, 1, 2), row(-0.0, 1, 2))
    assert share.run(graph) is graph


def test_keeps_constants_of_another_type_or_shape() -> None:
    s = Sketch(2, 2)
    y = s.add(Add(), s.x, s.const(np.zeros((1, 2), np.float32)))
    y = s.add(Add(), y, s.const(np.zeros((2, 1), np.float32)))
    z = s.add(Concat(0), s.const(np.zeros((1, 2), np.int32)))
    graph = s.graph(y, z)
    assert share.run(graph) is graph


def test_constants_are_told_apart_by_any_element() -> None:
    a = np.zeros(5000, np.float32)
    b = a.copy()
    b[4321] = 1e-30
    s = Sketch(5000)
    graph = s.graph(s.add(Mul(), s.add(Add(), s.x, s.const(a)), s.const(b)))
    assert share.run(graph) is graph


def test_the_order_in_memory_makes_no_difference() -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    s = Sketch(2, 3)
    y = s.add(Add(), s.x, s.const(a))
    graph = s.graph(s.add(Mul(), y, s.const(np.asfortranarray(a))))

    assert len(check_pass(share, graph).constants) == 1


def test_strings_are_shared() -> None:
    s = Sketch(1)
    a, b, c = (s.const(np.array(t, object)) for t in (["a", "b"], ["a", "b"], ["a", "c"]))
    graph = s.graph(s.x, s.add(Concat(0), a, b, c))

    assert list(share.run(graph).constants) == ["c0", "c2"]


def test_an_output_keeps_its_name() -> None:
    s = Sketch(3)
    c = s.const(row(1, 2, 3))
    y = s.add(Add(), s.x, s.const(row(1, 2, 3)))
    graph = s.graph(s.add(Add(), y, c), c)
    assert share.run(graph) is graph


def test_nothing_to_share_gives_the_graph_itself() -> None:
    s = Sketch(3)
    graph = s.graph(s.add(Identity(), s.x))
    assert share.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    after = check_pass(share, graph)

    values = list(after.constants.values())
    assert all(a != b for i, a in enumerate(values) for b in values[:i])
    assert all(isinstance(v, Value) for v in after.outputs)
