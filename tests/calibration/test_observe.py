"""Histograms: nothing is lost however far the range grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.calibration import Histogram, Observer
from edgec.calibration.observe import BINS
from edgec.ir import Array

numbers = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
samples = st.lists(st.lists(numbers, min_size=1, max_size=20), min_size=1, max_size=6)


def f32(values: Sequence[float]) -> Array:
    return np.array(values, np.float32)


def observed(*arrays: Array) -> Observer:
    observer = Observer(histogram=Histogram())
    for array in arrays:
        observer.add(array)
    return observer


def histogram(observer: Observer) -> Histogram:
    assert observer.histogram is not None
    return observer.histogram


@given(samples)
def test_every_number_but_zero_is_counted_once(lists: list[list[float]]) -> None:
    arrays = [f32(x) for x in lists]

    seen = observed(*arrays)

    assert histogram(seen).counts.sum() == sum(np.count_nonzero(a) for a in arrays)
    assert (histogram(seen).counts >= 0).all()
    assert seen.low == min(float(a.min()) for a in arrays)
    assert seen.high == max(float(a.max()) for a in arrays)


@given(samples)
def test_counts_are_those_of_numpy_within_a_bin(lists: list[list[float]]) -> None:
    arrays = [f32(x) for x in lists]

    found = histogram(observed(*arrays))

    everything = np.concatenate(arrays)
    everything = everything[everything != 0]
    assert everything.size == 0 or found.low <= everything.min()
    assert everything.size == 0 or found.high >= everything.max()
    if found.low < found.high:
        want, _ = np.histogram(everything, BINS, (found.low, found.high))
        # Cumulated counts, shifted a bin either way, enclose the others.
        ours, theirs = np.cumsum(found.counts), np.cumsum(want)
        assert (ours[1:] >= theirs[:-1]).all()
        assert (ours[:-1] <= theirs[1:]).all()


def test_one_sample_is_binned_as_numpy_does() -> None:
    x = np.random.default_rng(0).normal(2, 3, 50_000).astype(np.float32)

    found = histogram(observed(x))

    want, edges = np.histogram(x, BINS, (float(x.min()), float(x.max())))
    assert np.abs(found.counts - want).sum() < 100  # those on an edge
    np.testing.assert_allclose(
        found.centres, (edges[1:] + edges[:-1]) / 2, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_range_doubles_in_both_directions(sign: int) -> None:
    seen = histogram(observed(f32([1, 2, 3]), f32([sign * 100.0])))

    assert seen.counts.sum() == 4
    width = seen.high - seen.low
    assert math.log2(width / 2) == round(math.log2(width / 2))
    assert seen.low <= min(1, sign * 100) < max(3, sign * 100) <= seen.high
    where = np.flatnonzero(seen.counts)
    near = (f32([1, 2, 3, sign * 100]) - seen.low) / width * BINS
    assert all(np.abs(near - i).min() <= 1 for i in where)


def test_a_range_that_grows_both_ways_in_turn() -> None:
    reach = [(-1.0) ** k * 2.0**k for k in range(12)]

    seen = histogram(observed(*(f32([r, 0.25]) for r in reach)))

    assert seen.counts.sum() == 24
    assert seen.low <= min(reach)
    assert seen.high >= max(reach)


def test_zeros_are_not_counted_wherever_zero_lies() -> None:
    for others in ([0.5, 1], [-1, -0.5], [-1, 1], [1e-3, 1]):
        seen = histogram(observed(f32([*others, *[0.0] * 50, -0.0])))

        assert seen.counts.sum() == len(others)
        where = seen.centres[seen.counts > 0]
        assert np.abs(where[:, None] - f32(others)).min(axis=1).max() < 2 * 2 / BINS


def test_nothing_but_zeros() -> None:
    seen = observed(np.zeros(9, np.float32), np.zeros(9, np.float32))

    assert (seen.low, seen.high, histogram(seen).counts.sum()) == (0, 0, 0)


@pytest.mark.parametrize("value", [3.0, -3.0])
def test_a_constant(value: float) -> None:
    seen = observed(np.full(7, value, np.float32))

    assert histogram(seen).counts.sum() == 7
    (at,) = np.flatnonzero(histogram(seen).counts)
    assert abs(histogram(seen).centres[at] - value) < 0.01


def test_a_constant_that_changes() -> None:
    seen = observed(f32([2.0, 2.0]), f32([5.0]), f32([-7.0]))

    assert histogram(seen).counts.sum() == 4


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e30, 3e38])
def test_numbers_at_the_ends_of_float32(size: float) -> None:
    seen = observed(f32([-size, size / 2, size]), f32([0.0, size]))

    assert (seen.low, seen.high) == (float(np.float32(-size)), float(np.float32(size)))
    assert 0 <= histogram(seen).counts.sum() <= 4


def test_ranges_that_differ_by_many_orders() -> None:
    seen = observed(f32([1e-20, 2e-20]), f32([1e10]), f32([-1e12]))

    assert histogram(seen).counts.sum() == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="is not a finite number"):
        observed(f32([1, bad, 2]))


def test_an_empty_value_says_nothing() -> None:
    seen = observed(np.zeros((0, 3), np.float32), f32([1, 2]))

    assert (seen.low, seen.high) == (1, 2)


def test_large_values_are_sampled_and_all_channels_are_visited() -> None:
    x = np.zeros((1, 256, 256, 4), np.float32)
    x += f32([1, 2, 3, 4])
    x[0, 100, 100, 2] = 9  # an extreme that the sample may miss

    seen = observed(x)

    assert seen.high == 9
    counted = histogram(seen)
    assert 1 << 14 <= counted.counts.sum() <= 1 << 17
    modes = counted.centres[counted.counts > counted.counts.sum() / 8]
    np.testing.assert_allclose(modes, [1, 2, 3, 4], atol=0.01)
