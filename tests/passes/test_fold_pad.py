from __future__ import annotations

import pytest
from hypothesis import given

from edgec.ir import Graph, Op
from edgec.ops import AveragePool, Conv, DepthwiseConv, Pad
from edgec.passes import FoldPad
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

fold = FoldPad()
AROUND = (0, 0, 1, 0, 0, 0, 2, 3)


def test_the_layer_takes_over_the_padding() -> None:
    s = Sketch(1, 2, 5, 5)
    padded = s.add(Pad(AROUND), s.x)
    graph = s.graph(s.conv(padded, 3, bias=False, op=Conv(pad=(1, 2, 3, 4))))

    after = check_pass(fold, graph)
    assert (
        str(after)
        == """\
graph test(%x: f32[1,2,5,5]) {
  %c0: f32[3,2,3,3] = const
  %v1: f32[1,3,10,12] = Conv(pad=(2, 2, 5, 7))(%x, %c0)
  return %v1
}"""
    )
    assert after.nodes[0].origin == ("n0", "n1")


def test_two_in_a_row_are_both_taken_over() -> None:
    s = Sketch(1, 2, 5, 5)
    y = s.conv(s.add(Pad(AROUND), s.add(Pad(AROUND), s.x)), 3, op=Conv())

    (node,) = check_pass(fold, s.graph(y)).nodes
    assert str(node.op) == "Conv(pad=(2, 0, 4, 6))"
    assert node.origin == ("n0", "n1", "n2")


def test_other_readers_keep_the_padded_image() -> None:
    s = Sketch(1, 2, 5, 5)
    padded = s.add(Pad(AROUND), s.x)
    w = s.random(2, 1, 3, 3)
    graph = s.graph(s.add(DepthwiseConv(), padded, w), padded)

    after = check_pass(fold, graph)
    assert [str(n.op) for n in after.nodes] == [
        "Pad(pads=(0, 0, 1, 0, 0, 0, 2, 3))",
        "DepthwiseConv(pad=(1, 0, 2, 3))",
    ]
    assert after.nodes[1].inputs[0].name == "x"


@pytest.mark.parametrize(
    "pad",
    [Pad(AROUND, 1.0), Pad((0, 1, 0, 0, 0, 0, 0, 0)), Pad((0, 0, 0, 0, 0, 1, 0, 0)),
     Pad((1, 0, 0, 0, 0, 0, 0, 0)), Pad((0, 0, 0, 0, 1, 0, 0, 0))],
    ids=str,
)  # fmt: skip
def test_keeps_other_padding(pad: Op) -> None:
    s = Sketch(1, 2, 5, 5)
    graph = s.graph(s.conv(s.add(pad, s.x), 3))

    assert fold.run(graph) is graph


def test_keeps_padding_before_other_nodes() -> None:
    s = Sketch(1, 2, 5, 5)
    graph = s.graph(s.add(AveragePool((2, 2)), s.add(Pad(AROUND), s.x)))

    assert fold.run(graph) is graph


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(fold, graph)
