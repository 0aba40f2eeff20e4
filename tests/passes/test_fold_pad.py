from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.ir import Graph, Op
from edgec.ops import (
    AveragePool,
    Conv,
    DepthwiseConv,
    GlobalAveragePool,
    MaxPool,
    Neg,
    Pad,
    Relu,
    Sigmoid,
    Tanh,
)
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
     Pad((1, 0, 0, 0, 0, 0, 0, 0)), Pad((0, 0, 0, 0, 1, 0, 0, 0)),
     Pad((0, 0, 1, 0, 0, 0, -1, 0))],
    ids=str,
)  # fmt: skip
def test_keeps_other_padding(pad: Op) -> None:
    s = Sketch(1, 2, 5, 5)
    graph = s.graph(s.conv(s.add(pad, s.x), 3))

    assert fold.run(graph) is graph


def test_keeps_padding_before_other_nodes() -> None:
    s = Sketch(1, 2, 5, 5)
    graph = s.graph(s.add(GlobalAveragePool(), s.add(Pad(AROUND), s.x)))

    assert fold.run(graph) is graph


# ---- pools

ONE = (0, 0, 1, 0, 0, 0, 1, 2)


def pooled(op: Op, before: Op, pad: Pad) -> Graph:
    s = Sketch(1, 2, 5, 5)
    return s.graph(s.add(op, s.add(pad, s.add(before, s.x))))


@pytest.mark.parametrize(
    ("op", "before", "pad", "want"),
    [
        (AveragePool((3, 3)), Sigmoid(), Pad(ONE),
         "AveragePool(kernel=(3, 3), pad=(1, 0, 1, 2), count_include_pad=True)"),
        (AveragePool((3, 4), (2, 2), (1, 1, 0, 0), count_include_pad=True), Tanh(), Pad(ONE),
         "AveragePool(kernel=(3, 4), stride=(2, 2), pad=(2, 1, 1, 2), count_include_pad=True)"),
        (MaxPool((3, 3), (2, 2)), Relu(), Pad(ONE),
         "MaxPool(kernel=(3, 3), stride=(2, 2), pad=(1, 0, 1, 2))"),
        (MaxPool((3, 3), pad=(1, 0, 0, 0)), Sigmoid(), Pad(ONE, -0.5),
         "MaxPool(kernel=(3, 3), pad=(2, 0, 1, 2))"),
        (MaxPool((3, 3)), Tanh(), Pad(ONE, -1.0), "MaxPool(kernel=(3, 3), pad=(1, 0, 1, 2))"),
        (MaxPool((3, 3)), Neg(), Pad(ONE, -np.inf), "MaxPool(kernel=(3, 3), pad=(1, 0, 1, 2))"),
        (MaxPool((3, 3)), Neg(), Pad(ONE, -3.4028235e38),
         "MaxPool(kernel=(3, 3), pad=(1, 0, 1, 2))"),
    ],
    ids=lambda v: str(v)[:30],
)  # fmt: skip
def test_pools_take_over_padding_that_is_like_their_own(
    op: Op, before: Op, pad: Pad, want: str
) -> None:
    assert [str(n.op) for n in check_pass(fold, pooled(op, before, pad)).nodes][1:] == [want]


@pytest.mark.parametrize(
    ("op", "before", "pad"),
    [
        (AveragePool((3, 3)), Relu(), Pad(ONE, 1.0)),
        (AveragePool((3, 3), pad=(1, 0, 0, 0)), Relu(), Pad(ONE)),
        (AveragePool((3, 3), (2, 2), ceil_mode=True), Relu(), Pad(ONE)),
        (AveragePool((2, 2)), Relu(), Pad(ONE)),
        (MaxPool((3, 3)), Tanh(), Pad(ONE)),
        (MaxPool((3, 3)), Relu(), Pad(ONE, 0.5)),
        (MaxPool((3, 3), dilation=(2, 1)), Relu(), Pad(ONE)),
        (MaxPool((3, 3), (2, 2), ceil_mode=True), Relu(), Pad(ONE)),
        (MaxPool((3, 3)), Relu(), Pad((0, 1, 1, 1, 0, 0, 1, 1))),
        (MaxPool((3, 3)), Relu(), Pad((0, 0, 1, 1, 0, 0, -1, 1))),
    ],
    ids=lambda v: str(v)[:30],
)
def test_pools_keep_padding_that_is_not(op: Op, before: Op, pad: Pad) -> None:
    graph = pooled(op, before, pad)
    assert fold.run(graph) is graph


@given(st.data())
def test_padded_pools_compute_the_same(data: st.DataObject) -> None:
    s = Sketch(1, 1, data.draw(st.integers(1, 5)), 6)
    y = s.add(data.draw(st.sampled_from([Relu(), Tanh(), Sigmoid()])), s.x)
    for _ in range(data.draw(st.integers(1, 2))):
        around = [data.draw(st.integers(0, 2)) for _ in range(4)]
        value = data.draw(st.sampled_from([0.0, 0.0, -1.0]))
        y = s.add(Pad((0, 0, *around[:2], 0, 0, *around[2:]), value), y)
    make = data.draw(st.sampled_from([MaxPool, AveragePool]))
    kernel = data.draw(st.integers(1, y.type.ints[2])), data.draw(st.integers(1, 4))
    own = tuple(data.draw(st.integers(0, k - 1)) for k in kernel * 2)
    stride = data.draw(st.sampled_from([(1, 1), (2, 3)]))
    check_pass(fold, s.graph(s.add(make(kernel, stride, own), y)))


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(fold, graph)
