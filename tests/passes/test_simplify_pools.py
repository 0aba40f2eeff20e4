from __future__ import annotations

import pytest
from hypothesis import given

from edgec.ir import DType, Graph, Op
from edgec.ops import AveragePool, MaxPool, ReduceMean
from edgec.passes import SimplifyPools
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

simplify = SimplifyPools()


@pytest.mark.parametrize(
    "op", [AveragePool((4, 5)), AveragePool((4, 5), (3, 3)), ReduceMean((2, 3))], ids=str
)
def test_a_mean_over_the_image_is_a_global_pool(op: Op) -> None:
    s = Sketch(1, 2, 4, 5)

    after = check_pass(simplify, s.graph(s.add(op, s.x)))
    assert (
        str(after)
        == """\
graph test(%x: f32[1,2,4,5]) {
  %v0: f32[1,2,1,1] = GlobalAveragePool()(%x)
  return %v0
}"""
    )


@pytest.mark.parametrize(
    "op",
    [
        AveragePool((4, 4)),
        AveragePool((4, 5), pad=(0, 0, 0, 1)),
        AveragePool((4, 5), pad=(0, 0, 1, 0), stride=(2, 2)),
        MaxPool((4, 5)),
        ReduceMean((1, 2, 3)),
        ReduceMean((2,)),
    ],
    ids=str,
)
def test_keeps_other_means(op: Op) -> None:
    s = Sketch(1, 2, 4, 5)
    graph = s.graph(s.add(op, s.x))

    assert simplify.run(graph) is graph


@pytest.mark.parametrize("dtype", [DType.FLOAT64, DType.INT32, DType.FLOAT16])
def test_keeps_means_of_types_that_global_pools_do_not_take(dtype: DType) -> None:
    s = Sketch(1, 2, 4, 5, dtype=dtype)
    graph = s.graph(s.add(ReduceMean((2, 3)), s.x))

    assert simplify.run(graph) is graph


def test_keeps_means_over_images_of_unknown_size() -> None:
    s = Sketch(1, 2, "H", 5)
    graph = s.graph(s.add(ReduceMean((2, 3)), s.x))

    assert simplify.run(graph) is graph


def test_keeps_means_of_what_is_no_image() -> None:
    s = Sketch(1, 2, 3, 4, 5)
    graph = s.graph(s.add(ReduceMean((2, 3)), s.x))

    assert simplify.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(simplify, graph)


def test_a_mean_that_drops_the_axes_is_a_pool_and_a_reshape() -> None:
    s = Sketch(1, 2, 4, 5)
    graph = s.graph(s.add(ReduceMean((2, 3), keepdims=False), s.x))

    after = simplify.run(graph)

    assert [str(node.op) for node in after.nodes] == [
        "GlobalAveragePool()",
        "Reshape(shape=(1, 2))",
    ]
    assert after.outputs == graph.outputs
