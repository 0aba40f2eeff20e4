from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import Array
from edgec.passes.alphabets import fitted, nearest

LIMITS = (-5, 6)


def cost(points: Array, weights: Array, alphabet: Array) -> float:
    off = np.abs(points[:, None] - np.asarray(alphabet)[None, :]).min(axis=1)
    return float((weights * off**2).sum())


def least(points: Array, weights: Array, count: int) -> float:
    every = np.arange(LIMITS[0], LIMITS[1] + 1)
    return min(cost(points, weights, np.array(c)) for c in combinations(every, count))


numbers = st.lists(
    st.tuples(
        st.floats(-8, 8).map(lambda x: round(x, 3)), st.sampled_from([0.0, 0.1, 1.0, 7.5])
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(numbers, st.integers(1, 5))
def test_no_other_alphabet_costs_less(pairs: list[tuple[float, float]], count: int) -> None:
    points, weights = np.array(pairs).T

    (found,) = fitted(points[None], weights[None], count, LIMITS)

    assert len(found) == count
    assert (np.diff(found) > 0).all()
    assert found.min() >= LIMITS[0]
    assert found.max() <= LIMITS[1]
    mine = cost(points, weights, found)
    assert mine == pytest.approx(least(points, weights, count), abs=1e-9)


def test_each_row_has_its_own_alphabet() -> None:
    rng = np.random.default_rng(0)
    points, weights = rng.normal(0, 40, (140, 30)), rng.random((140, 30))

    found = fitted(points, weights, 4, (-127, 127))

    for k in (0, 128, 129, 139):
        alone = fitted(points[k : k + 1], weights[k : k + 1], 4, (-127, 127))
        np.testing.assert_array_equal(found[k], alone[0])


def test_where_there_are_no_more_integers_all_are_letters() -> None:
    found = fitted(np.zeros((2, 3)), np.ones((2, 3)), 16, (-7, 7))

    np.testing.assert_array_equal(found, np.tile(np.arange(-7, 8), (2, 1)))


@pytest.mark.parametrize("own", [False, True])
def test_the_nearest_letter_is_taken(own: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 60, (3, 50))
    alphabet = np.sort(rng.choice(np.arange(-127, 128), (3, 50, 8)), axis=2)
    if not own:
        alphabet = alphabet[0, 0]

    found = nearest(alphabet, x)

    choices = np.broadcast_to(alphabet, (3, 50, 8))
    at = np.abs(choices - x[..., None]).argmin(axis=2)
    np.testing.assert_array_equal(found, np.take_along_axis(choices, at[..., None], 2)[..., 0])
