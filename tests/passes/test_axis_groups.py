"""Groups of axes, against what a reshape really does."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgec.passes.axis_groups import AxisGroup, axis_groups


def test_axes_are_split_and_joined() -> None:
    groups = axis_groups((2, 3, 1, 4, 5), (6, 2, 2, 1, 5))

    assert groups == (AxisGroup((0, 1), (0,)), AxisGroup((3,), (1, 2)), AxisGroup((4,), (4,)))
    assert [g.is_single for g in groups] == [False, False, True]


def test_axes_that_do_not_divide_are_one_group() -> None:
    assert axis_groups((4, 6, 7), (3, 8, 7)) == (
        AxisGroup((0, 1), (0, 1)),
        AxisGroup((2,), (2,)),
    )
    assert axis_groups((1, 1), ()) == ()


LENGTHS = st.lists(st.sampled_from([1, 2, 2, 3, 4]), max_size=5).map(tuple)


@given(LENGTHS, st.data())
def test_values_stay_within_their_group(before: tuple[int, ...], data: st.DataObject) -> None:
    left, after = math.prod(before), list[int]()
    while left > 1:
        after.append(
            data.draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
        )
        left //= after[-1]
    groups = axis_groups(before, tuple(after))

    assert [a for g in groups for a in g.before] == [a for a, d in enumerate(before) if d != 1]
    assert [a for g in groups for a in g.after] == [a for a, d in enumerate(after) if d != 1]
    for group in groups:
        # Number the positions within the group: the reshape moves them to the same numbers.
        shape = [d if a in group.before else 1 for a, d in enumerate(before)]
        n = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), before)
        other = [d if a in group.after else 1 for a, d in enumerate(after)]
        want = np.broadcast_to(np.arange(math.prod(other)).reshape(other), after)
        np.testing.assert_array_equal(n.reshape(after), want)
