"""More axes than kernels take are merged where they take part in the same way."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Graph, Op
from edgec.ops import Add, Exp, ReduceMax, ReduceSum, Reshape, Where
from edgec.targets import Tflite
from edgec.targets.tflite.merge_axes import MergeAxes
from tests.targets.graphs import Net, ran, random

SHAPE = (2, 1, 3, 2, 1, 4, 2)
X = random(*SHAPE)


def merged(graph: Graph) -> Graph:
    """The graph after the pass, which computes the same in both runtimes."""
    after = MergeAxes().run(graph)
    want = evaluate(graph, {"x": X})
    got, _, _ = ran(Tflite(), after, {"x": X})
    for name, array in evaluate(after, {"x": X}).items():
        np.testing.assert_array_equal(array, want[name])
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5)
    return after


def ranks(graph: Graph) -> list[int]:
    return [n.output.type.rank for n in graph.nodes if not isinstance(n.op, Reshape)]


def test_functions_of_each_element_see_one_axis_for_all_that_are_alike() -> None:
    net = Net(x=SHAPE)

    assert ranks(merged(net.graph(net.add("y", Exp(), "x")))) == [1]


@pytest.mark.parametrize(
    "other", [(2, 1, 3, 2, 1, 4, 2), (4, 2), (), (1, 1, 3, 2, 1, 1, 1), (3, 2, 1, 1, 1)]
)
def test_operands_broadcast_as_before(other: tuple[int, ...]) -> None:
    net = Net(x=SHAPE)
    net.add("y", Add(), "x", random(*other, seed=1))

    assert max(ranks(merged(net.graph("y")))) <= 5


def test_three_operands() -> None:
    net = Net(x=SHAPE)
    mask = random(4, 2, seed=2) > 0
    net.add("y", Where(), mask, "x", random(*SHAPE, seed=3))

    assert max(ranks(merged(net.graph("y")))) <= 5


@pytest.mark.parametrize("op", [ReduceSum((2, 3)), ReduceMax((1, 2, 3), keepdims=False),
                                ReduceSum((0, 6), keepdims=False)], ids=str)  # fmt: skip
def test_reductions_keep_their_axes_apart(op: Op) -> None:
    net = Net(x=SHAPE)

    assert max(ranks(merged(net.graph(net.add("y", op, "x"))))) <= 5


def test_axes_that_alternate_are_left_alone() -> None:
    net = Net(x=SHAPE)
    graph = net.graph(net.add("y", ReduceSum((0, 2, 4, 6)), "x"))

    assert MergeAxes().run(graph) is graph
    assert len(Tflite().check(graph)) == 1


def test_five_axes_are_not_touched() -> None:
    net = Net(x=(1, 2, 1, 3, 1))
    graph = net.graph(net.add("y", Exp(), "x"))

    assert MergeAxes().run(graph) is graph
