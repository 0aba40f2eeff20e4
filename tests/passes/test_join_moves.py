from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph, Op
from edgec.ops import (
    Concat,
    Expand,
    Pad,
    ReduceMax,
    ReduceSum,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Transpose,
)
from edgec.passes import JoinMoves
from tests.models import Sketch, feeds, graphs
from tests.passes.properties import check_pass

join = JoinMoves()

FAR = 2**31


def only(graph: Graph) -> str:
    """The one node that is left, as text."""
    (node,) = check_pass(join, graph).nodes
    return str(node)


def pair(first: Op, second: Op, *shape: int | str) -> Graph:
    s = Sketch(*(shape or (2, 3, 4)))
    return s.graph(s.add(second, s.add(first, s.x)))


PAIRS: list[tuple[Op, Op, str]] = [
    (Reshape((1, 4, 6)), Reshape((-1, 3)), "f32[8,3] = Reshape(shape=(8, 3))(%x)"),
    (Transpose((1, 2, 0)), Transpose((2, 1, 0)), "f32[2,4,3] = Transpose(perm=(0, 2, 1))(%x)"),
    (Expand((2, 1, 3, 4)), Expand((5, 1, 1, 1, 1)),
     "f32[5,2,2,3,4] = Expand(shape=(5, 2, 2, 3, 4))(%x)"),
    (Pad((0, 1, 0, 0, 0, 2), 1.5), Pad((1, 1, 0, 0, 0, 0), 1.5),
     "f32[3,5,6] = Pad(pads=(1, 2, 0, 0, 0, 2), value=1.5)(%x)"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "want"), PAIRS, ids=lambda v: str(v)[:9])
def test_two_of_a_kind_are_one(first: Op, second: Op, want: str) -> None:
    graph = pair(first, second)

    assert only(graph) == f"%v1: {want}"
    assert join.run(graph).nodes[0].origin == ("n0", "n1")


def test_the_first_stays_for_its_other_readers() -> None:
    s = Sketch(1, 3, 4)
    a = s.add(Reshape((1, 4, 3)), s.x)

    after = check_pass(join, s.graph(s.add(Reshape((2, 6)), a), a))
    assert [n.inputs[0].name for n in after.nodes] == ["x", "x"]


@pytest.mark.parametrize(
    "graph",
    [
        pair(Reshape((-1, 12)), Reshape((-1, 4, 3)), "N", 3, 4),
        pair(Transpose((0, 2, 1)), Reshape((24,))),
        pair(Pad((0, 0, 0, 0, 0, 1), 1.0), Pad((0, 0, 0, 0, 0, 1), 2.0)),
        pair(Relu(), Reshape((24,))),
    ],
    ids=["unknown length", "two kinds", "two values", "no move"],
)
def test_keeps_what_is_not_one(graph: Graph) -> None:
    assert join.run(graph) is graph


# ---- slices


def test_slices_along_two_axes_are_one() -> None:
    graph = pair(Slice((0,), (FAR,), (1,), (2,)), Slice((1,), (FAR,), (2,), (2,)))

    assert only(graph) == (
        "%v1: f32[2,2,2] = Slice(starts=(0, 1), ends=(2147483648, 2147483648), axes=(1, 2), "
        "steps=(2, 2))(%x)"
    )


def test_slices_along_two_axes_of_unknown_length_are_one() -> None:
    first, second = Slice((0,), (FAR,), (0,), (2,)), Slice((1,), (3,), (1,), (1,))

    assert len(check_pass_shapes(pair(first, second, "N", 3)).nodes) == 1
    again = pair(first, Slice((1,), (3,), (0,), (1,)), "N", 3)
    assert join.run(again) is again


def check_pass_shapes(graph: Graph) -> Graph:
    after = join.run(graph)
    assert join.run(after) is after
    assert after.outputs == graph.outputs
    return after


CUTS = [(0, FAR, 1), (1, FAR, 2), (-3, -1, 1), (-1, -(2**31), -1), (5, 0, -2), (6, 1, -3)]


@pytest.mark.parametrize(("first", "second"), list(product(CUTS, CUTS)))
def test_slices_along_one_axis_are_one(
    first: tuple[int, int, int], second: tuple[int, int, int]
) -> None:
    ops = [Slice((s,), (e,), (0,), (p,)) for s, e, p in (first, second)]
    s = Sketch(7)
    y = s.add(ops[1], s.add(ops[0], s.x))
    graph = s.graph(s.add(Relu(), y))
    after = join.run(graph)

    assert len(after.nodes) == (2 if y.type.size else 3)
    x = {"x": np.arange(1, 8, dtype=np.float32)}
    np.testing.assert_array_equal(evaluate(after, x)["v2"], evaluate(graph, x)["v2"])


def test_a_slice_that_cuts_one_axis_twice_stays() -> None:
    twice = Slice((0, 0), (3, 2), (1, 1), (1, 1))
    graph = pair(twice, Slice((1,), (2,), (1,), (1,)))
    assert join.run(graph) is graph


def parts(cut: Slice) -> Graph:
    s = Sketch(1, 2, 3)
    joined = s.add(Concat(1), s.add(Relu(), s.x), s.add(Sigmoid(), s.x), s.x)
    return s.graph(s.add(cut, joined))


def test_a_slice_of_one_part_reads_that_part() -> None:
    after = check_pass(join, parts(Slice((3, 1), (1, 3), (1, 2), (-1, 1))))

    assert [str(n) for n in after.nodes] == [
        "%v1: f32[1,2,3] = Sigmoid()(%x)",
        "%v3: f32[1,2,2] = Slice(starts=(1, 1), ends=(-2147483648, 3), axes=(1, 2), "
        "steps=(-1, 1))(%v1)",
    ]


@pytest.mark.parametrize(
    "cut",
    [
        Slice((1,), (3,), (1,), (1,)),
        Slice((1,), (3,), (2,), (1,)),
        Slice((0,), (FAR,), (1,), (5,)),
        Slice((2,), (2,), (1,), (1,)),
    ],
    ids=str,
)
def test_keeps_a_slice_of_several_parts_or_none(cut: Slice) -> None:
    graph = parts(cut)
    assert join.run(graph) is graph


# ---- concatenations


def test_concatenations_are_one() -> None:
    s = Sketch(1, 2)
    inner = s.add(Concat(1), s.x, s.random(1, 3))
    graph = s.graph(s.add(Concat(1), s.random(1, 1), inner, inner))

    assert only(graph) == "%v1: f32[1,11] = Concat(axis=1)(%c1, %x, %c0, %x, %c0)"


def test_keeps_a_concatenation_along_another_axis_or_with_another_reader() -> None:
    s = Sketch(1, 2)
    graph = s.graph(s.add(Concat(0), s.add(Concat(1), s.x, s.x), s.random(1, 4)))
    assert join.run(graph) is graph

    s = Sketch(1, 2)
    inner = s.add(Concat(1), s.x, s.x)
    graph = s.graph(s.add(Concat(1), inner, s.x), s.add(Relu(), inner))
    assert join.run(graph) is graph


# ---- transposes that move nothing


def test_a_transpose_of_single_axes_is_a_reshape() -> None:
    s = Sketch(1, 1, 5, 6)
    graph = s.graph(s.add(Transpose((0, 2, 3, 1)), s.x))

    assert only(graph) == "%v0: f32[1,5,6,1] = Reshape(shape=(1, 5, 6, 1))(%x)"


def test_keeps_a_transpose_that_moves_values() -> None:
    for shape, perm in [((1, 2, 5, 1), (0, 2, 1, 3)), (("N", 1, 5), (0, 2, 1))]:
        s = Sketch(*shape)
        graph = s.graph(s.add(Transpose(perm), s.x))
        assert join.run(graph) is graph


def test_transposes_of_single_axes_join_their_neighbours_instead() -> None:
    graph = pair(Transpose((1, 2, 0)), Transpose((1, 0, 2)), 1, 3, 4)

    assert only(graph) == "%v1: f32[4,3,1] = Transpose(perm=(2, 1, 0))(%x)"


def chain(s: Sketch, *ops: Op) -> Graph:
    y = s.x
    for op in ops:
        y = s.add(op, y)
    return s.graph(y)


def test_transposes_are_joined_across_a_reshape() -> None:
    """As exporters write the transposed keys of an attention."""
    graph = chain(
        Sketch(1, 6, 3, 4),
        Transpose((0, 2, 1, 3)),
        Reshape((3, 6, 4)),
        Transpose((0, 2, 1)),
        Reshape((1, 3, 4, 6)),
    )
    after = check_pass(join, graph)
    assert [str(n.op) for n in after.nodes] == [
        "Transpose(perm=(0, 2, 3, 1))",
        "Reshape(shape=(1, 3, 4, 6))",  # which EliminateIdentities drops
    ]


def test_transposes_are_joined_across_a_reshape_of_axes_that_stay_together() -> None:
    graph = chain(
        Sketch(2, 3, 4, 5),
        Transpose((3, 0, 1, 2)),
        Reshape((5, 6, 2, 2)),
        Transpose((2, 3, 1, 0)),
    )
    after = check_pass(join, graph)
    assert [str(n.op) for n in after.nodes] == [
        "Transpose(perm=(2, 0, 1, 3))",
        "Reshape(shape=(2, 2, 6, 5))",
    ]


def test_reshapes_are_joined_across_a_transpose() -> None:
    graph = chain(Sketch(2, 3, 4), Reshape((6, 4)), Transpose((1, 0)), Reshape((2, 2, 3, 2)))
    after = check_pass(join, graph)
    assert [str(n.op) for n in after.nodes] == [
        "Transpose(perm=(2, 0, 1))",
        "Reshape(shape=(2, 2, 3, 2))",
    ]


@pytest.mark.parametrize(
    "ops",
    [
        (Transpose((0, 2, 1)), Reshape((2, 2, 2, 3)), Transpose((0, 2, 1, 3))),
        (Reshape((2, 3, 2, 2)), Transpose((0, 2, 1, 3)), Reshape((4, 6))),
        (Transpose((0, 2, 1)), Reshape((2, 12)), Relu(), Transpose((1, 0))),
    ],
    ids=str,
)
def test_keeps_three_that_tear_axes_apart(ops: tuple[Op, ...]) -> None:
    graph = chain(Sketch(2, 3, 4), *ops)
    assert join.run(graph) is graph


@pytest.mark.parametrize("read", [0, 1])
def test_keeps_three_where_something_else_reads_one(read: int) -> None:
    s = Sketch(2, 3, 4)
    a = s.add(Transpose((0, 2, 1)), s.x)
    b = s.add(Reshape((1, 2, 4, 3)), a)
    graph = s.graph(s.add(Transpose((0, 1, 3, 2)), b), s.add(Relu(), (a, b)[read]))
    assert join.run(graph) is graph


# ---- reductions


def test_a_reduction_keeps_or_drops_its_axes_itself() -> None:
    dropped = pair(ReduceMax((1,), keepdims=False), Reshape((2, 1, 4)))
    assert only(dropped) == "%v1: f32[2,1,4] = ReduceMax(axes=(1,))(%x)"

    kept = pair(ReduceSum((0, 2)), Reshape((3,)))
    assert only(kept) == "%v1: f32[3] = ReduceSum(axes=(0, 2), keepdims=False)(%x)"


def test_keeps_a_reduction_that_is_reshaped_otherwise_or_read_elsewhere() -> None:
    graph = pair(ReduceMax((1,), keepdims=False), Reshape((1, 8)))
    assert join.run(graph) is graph

    s = Sketch(2, 3, 4)
    y = s.add(ReduceMax((1,)), s.x)
    graph = s.graph(s.add(Reshape((2, 4)), y), s.add(Relu(), y))
    assert join.run(graph) is graph


# ---- any


MOVES = st.sampled_from(["reshape", "transpose", "slice", "pad", "expand", "concat", "reduce"])


@st.composite
def moving(draw: st.DrawFn) -> Graph:
    """A graph of moves only."""
    s = Sketch(2, 1, 6)
    values = [s.x]
    for _ in range(draw(st.integers(2, 7))):
        x = draw(st.sampled_from(values[-3:]))
        shape, rank = x.type.ints, x.type.rank
        axis = draw(st.integers(0, rank - 1)) if rank else 0
        match draw(MOVES):
            case "reshape":
                options = [(-1,), (1, -1), (-1, 1), (*shape, 1), (1, *shape), (-1, 2)]
                op: Op = Reshape(draw(st.sampled_from([o for o in options if x.type.size])))
                if op == Reshape((-1, 2)) and x.type.size % 2:
                    op = Reshape((-1,))
            case "transpose":
                op = Transpose(tuple(draw(st.permutations(range(rank)))))
            case "slice" if rank:
                start, stop, step = draw(st.sampled_from(CUTS))
                op = Slice((start,), (stop,), (axis,), (step,))
            case "pad" if rank:
                pads = [0] * (2 * rank)
                pads[axis], pads[axis + rank] = draw(st.sampled_from([(1, 0), (0, 2), (1, 1)]))
                op = Pad(tuple(pads), draw(st.sampled_from([0.0, 2.0])))
            case "concat" if rank:
                values.append(s.add(Concat(axis), x, draw(st.sampled_from([x, x]))))
                continue
            case "reduce" if rank:
                op = ReduceMax((axis,), keepdims=draw(st.booleans()))
            case _:
                op = Expand((2, *(1 for _ in shape)))
        y = s.add(op, x)
        if y.type.size and y.type.rank < 6:
            values.append(y)
    return s.graph(s.add(Relu(), values[-1]), *values[-2:-1])


@given(moving())
def test_holds_on_any_moves(graph: Graph) -> None:
    after = check_pass(join, graph)

    x = feeds(graph)
    for name, want in evaluate(graph, x).items():
        np.testing.assert_array_equal(evaluate(after, x)[name], want)
    assert len(after.nodes) <= len(graph.nodes)


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(join, graph)


def test_integers_are_joined_too() -> None:
    s = Sketch(2, 3, dtype=DType.INT64)
    graph = s.graph(s.add(Reshape((6,)), s.add(Reshape((3, 2)), s.x)))
    assert len(join.run(graph).nodes) == 1
