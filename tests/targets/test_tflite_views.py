"""Reshapes of values that are stored in another order: free where nothing must move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.targets.tflite.views import grouped_perm, reshaped_perm

NHWC = (0, 2, 3, 1)


@pytest.mark.parametrize(
    ("before", "perm", "after", "want"),
    [
        ((1, 8, 4, 5), NHWC, (1, 8, 20), (0, 2, 1)),  # a detection head: pixels in a row
        ((1, 8, 4, 5), NHWC, (1, 2, 4, 4, 5), (0, 3, 4, 1, 2)),  # a channel shuffle
        ((1, 8, 1, 1), NHWC, (1, 8), (0, 1)),
        ((1, 8), (0, 1), (1, 8, 1, 1), (0, 2, 3, 1)),
        ((1, 8, 4, 5), NHWC, (1, 160), None),  # channels come last in memory
        ((1, 8, 4, 5), (0, 1, 2, 3), (1, 160), (0, 1)),
        ((2, 3), (1, 0), (6,), None),
        ((2, 3), (1, 0), (3, 2), None),
    ],
)
def test_order_after_a_reshape(
    before: tuple[int, ...],
    perm: tuple[int, ...],
    after: tuple[int, ...],
    want: tuple[int, ...] | None,
) -> None:
    assert reshaped_perm(before, perm, after) == want


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    before: list[int] = draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5))
    perm = draw(st.permutations(list(range(len(before)))))
    # Split and join axes at random.
    parts: list[int] = []
    for d in before:
        split: bool = d == 4 and draw(st.booleans())
        parts += [2, 2] if split else [d]
    after: list[int] = []
    for part in parts:
        join: bool = draw(st.booleans())
        if after and join:
            after[-1] *= part
        else:
            after.append(part)
    return before, list(perm), after


@given(cases())
def test_the_order_found_holds_the_same_elements(
    case: tuple[list[int], list[int], list[int]],
) -> None:
    before, perm, after = case
    found = reshaped_perm(before, perm, after)
    if found is None:
        return
    x = np.arange(np.prod(before)).reshape(before)
    stored = x.transpose(perm)

    assert sorted(found) == list(range(len(after)))
    want = x.reshape(after).transpose(found)
    np.testing.assert_array_equal(stored.reshape(want.shape), want)


@given(cases())
def test_bringing_blocks_together_is_always_enough(
    case: tuple[list[int], list[int], list[int]],
) -> None:
    before, perm, after = case
    grouped = grouped_perm(before, perm, after)

    assert sorted(grouped) == list(range(len(before)))
    assert reshaped_perm(before, grouped, after) is not None


def test_a_channel_shuffle_moves_channels_only() -> None:
    assert grouped_perm((1, 4, 2, 6, 5), (0, 3, 4, 2, 1), (1, 8, 6, 5)) == (0, 3, 4, 1, 2)
