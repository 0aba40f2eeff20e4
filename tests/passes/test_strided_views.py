from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate import evaluate
from edgec.ir import Op
from edgec.ops import Gather, Reshape, Slice, Split, Transpose
from edgec.passes.strided_views import StridedView
from tests.models import Sketch

SHAPE = (1, 12, 4, 3)


def view_of(*ops: Op) -> StridedView | None:
    s = Sketch(*SHAPE)
    value, view = s.x, StridedView.whole(SHAPE)
    for op in ops:
        made = s.adds(op, value)
        graph = s.graph(*made)
        view = view and view.through(graph, s.nodes[-1], made[0])  # type: ignore[assignment]
        value = made[0]
    return view


@st.composite
def moves(draw: st.DrawFn) -> tuple[Sketch, list[StridedView | None]]:
    """A chain of moves on numbered elements, and the view after each."""
    s = Sketch(*SHAPE)
    value = s.x
    views: list[StridedView | None] = [StridedView.whole(SHAPE)]
    for _ in range(draw(st.integers(1, 4))):
        shape = value.type.ints
        kind = draw(st.sampled_from(("reshape", "transpose", "slice", "split", "gather")))
        axis = draw(st.integers(0, len(shape) - 1))
        operands = [value]
        if kind == "reshape":
            left = math.prod(shape)
            dims: list[int] = []
            while left > 1 and len(dims) < 5:
                dims.append(
                    draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0]))
                )
                left //= dims[-1]
            op: Op = Reshape((*dims, left))
        elif kind == "transpose":
            op = Transpose(tuple(draw(st.permutations(range(len(shape))))))
        elif kind == "slice":
            start = draw(st.integers(0, shape[axis] - 1))
            op = Slice((start,), (2**31,), (axis,), (draw(st.integers(1, 3)),))
        elif kind == "split":
            first = draw(st.integers(0, shape[axis] - 1))
            op = (
                Split(axis, (first, shape[axis] - first))
                if first
                else Split(axis, (shape[axis],))
            )
        else:
            if len(shape) == 1:
                continue
            op = Gather(axis)
            at = draw(st.integers(-shape[axis], shape[axis] - 1))
            operands.append(s.const(np.array(at, np.int64)))
        made = s.adds(op, *operands)
        value = made[-1]
        last = views[-1]
        views.append(last and last.through(s.graph(*made), s.nodes[-1], value))
    return s, views


@given(moves())
def test_a_view_names_the_elements_that_are_left(
    case: tuple[Sketch, list[StridedView | None]],
) -> None:
    s, views = case
    if not s.nodes or views[-1] is None:
        return
    view = views[-1]
    x = np.arange(math.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    out = s.nodes[-1].outputs[-1]
    want = evaluate(s.graph(out), {"x": x})[out.name]

    runs = [run for axis in view.axes for run in axis]
    steps = np.indices([run.length for run in runs])
    where = [np.full(steps.shape[1:], start) for start in view.start]
    for run, step in zip(runs, steps, strict=True):
        where[run.axis] += run.step * step
    np.testing.assert_array_equal(x[tuple(where)].reshape(-1), want.reshape(-1))
    lengths = tuple(math.prod(run.length for run in axis) for axis in view.axes)
    assert lengths == want.shape


@pytest.mark.parametrize(
    ("ops", "want"),
    [
        ((), range(12)),
        ((Slice((1,), (9,), (1,), (3,)),), [1, 4, 7]),
        ((Reshape((3, 4, 12)), Transpose((1, 0, 2)), Reshape(SHAPE)),
         [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]),
        ((Reshape((1, 6, 2, 4, 3)), Slice((1,), (2,), (2,), (1,)), Reshape((1, 6, 4, 3))),
         range(1, 12, 2)),
    ],
)  # fmt: skip
def test_channels_that_are_taken(ops: tuple[Op, ...], want: range | list[int]) -> None:
    view = view_of(*ops)

    assert view is not None
    taken = view.along(1, SHAPE)
    assert taken is not None
    assert taken.tolist() == list(want)


@pytest.mark.parametrize(
    "ops",
    [
        (Transpose((0, 1, 3, 2)),),
        (Slice((1,), (3,), (2,), (1,)),),
        (Reshape((1, 4, 3, 12)),),
        (Reshape((1, 12, 12)),),
        (Transpose((0, 2, 1, 3)), Reshape(SHAPE)),
    ],
    ids=["rows for columns", "rows cut", "mixed", "another rank", "rows for channels"],
)
def test_what_is_no_choice_of_channels(ops: tuple[Op, ...]) -> None:
    view = view_of(*ops)

    assert view is not None
    assert view.along(1, SHAPE) is None


def test_what_is_no_view() -> None:
    assert view_of(Reshape((9, 16)), Transpose((1, 0)), Reshape((18, 8))) is None
