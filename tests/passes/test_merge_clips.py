from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.ir import Graph, Op
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    Clip,
    Concat,
    Identity,
    MaxPool,
    Neg,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Tanh,
    Transpose,
)
from edgec.passes import MergeClips
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

merge = MergeClips()


def chain(*ops: Op) -> Graph:
    s = Sketch(1, 2, 4, 4)
    y = s.x
    for op in ops:
        y = s.add(op, y)
    return s.graph(y)


@pytest.mark.parametrize(
    ("first", "second", "want"),
    [
        (Relu(), Clip(-1.0, 6.0), Clip(0.0, 6.0)),
        (Clip(-2.0, 3.0), Clip(-1.0, 6.0), Clip(-1.0, 3.0)),
        (Clip(-1.0), Relu(), Relu()),
        (Clip(high=4.0), Clip(low=0.5), Clip(0.5, 4.0)),
        (Clip(high=0.0), Clip(low=0.0), Clip(0.0, 0.0)),
    ],
    ids=str,
)
def test_two_in_a_row_are_one(first: Op, second: Op, want: Op) -> None:
    (node,) = check_pass(merge, chain(first, second)).nodes

    assert node.op == want
    assert node.origin == ("n0", "n1")


@pytest.mark.parametrize(
    "ops",
    [
        (Relu(), Relu()),
        (Clip(0.0, 6.0), Relu()),
        (Clip(0.0, 1.0), Clip(-1.0, 2.0)),
        (Sigmoid(), Clip(0.0, 1.0)),
        (Softmax(-3), Relu()),
        (Tanh(), Clip(-1.0, 1.0)),
        (Relu(), MaxPool((2, 2)), Relu()),
        (Clip(0.0, 1.0), AveragePool((2, 2), pad=(1, 1, 1, 1)), Reshape((-1,)), Clip(0.0, 2.0)),
        (Sigmoid(), Clip(0.5), Transpose((3, 2, 1, 0)), Clip(0.5, 1.0)),
    ],
    ids=str,
)
def test_one_that_clips_nothing_goes(ops: tuple[Op, ...]) -> None:
    after = check_pass(merge, chain(*ops))

    assert after.nodes[-1].op == Identity()  # which EliminateIdentities drops
    assert [n.op for n in after.nodes[:-1]] == list(ops[:-1])


def test_one_behind_a_layer_with_that_activation_goes() -> None:
    s = Sketch(1, 4)
    y = s.add(Add(Activation.RELU6), s.x, s.random(4))
    assert check_pass(merge, s.graph(s.add(Clip(0.0, 7.0), y))).nodes[-1].op == Identity()


def test_parts_of_a_concatenation_count_together() -> None:
    s = Sketch(1, 4)
    y = s.add(Concat(1), s.add(Relu(), s.x), s.add(Tanh(), s.x))
    graph = s.graph(s.add(Relu(), y))
    assert merge.run(graph) is graph

    y = s.add(Concat(1), s.add(Sigmoid(), s.x), s.add(Tanh(), s.x))
    assert check_pass(merge, s.graph(s.add(Clip(-1.0, 1.0), y))).nodes[-1].op == Identity()


@pytest.mark.parametrize(
    "ops",
    [
        (Clip(high=-1.0), Relu()),
        (Clip(0.0, 1.0), Clip(2.0, 3.0)),
        (Relu(), Neg(), Relu()),
        (Neg(), Clip(0.0, 1.0)),
        (Clip(5.0, 1.0), Clip(0.5, 2.0)),
        (Clip(0.5, 1.0), AveragePool((2, 2), pad=(1, 1, 1, 1), count_include_pad=True),
         Clip(0.5)),
    ],
    ids=str,
)  # fmt: skip
def test_keeps_those_that_clip_something(ops: tuple[Op, ...]) -> None:
    graph = chain(*ops)
    assert merge.run(graph) is graph


def test_keeps_two_where_something_else_reads_the_first() -> None:
    s = Sketch(1, 4)
    first = s.add(Clip(-2.0, 3.0), s.x)
    graph = s.graph(s.add(Clip(-1.0, 6.0), first), first)
    assert merge.run(graph) is graph


BOUNDS = st.sampled_from([-np.inf, -2.0, -0.5, 0.0, 0.5, 1.0, np.inf])


@given(st.lists(st.one_of(st.just(Relu()), st.builds(Clip, BOUNDS, BOUNDS)), max_size=5))
def test_holds_on_any_chain(ops: list[Op]) -> None:
    finite = [op for op in ops if not (isinstance(op, Clip) and np.inf in (op.low, -op.high))]
    check_pass(merge, chain(Tanh(), *finite, Neg()))


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(merge, graph)
