"""Range methods on distributions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.calibration import (
    METHODS,
    Entropy,
    Histogram,
    MinMax,
    Mse,
    Observer,
    Percentile,
    RangeMethod,
)
from edgec.ir import Array, DType
from edgec.ops import quantize_array
from edgec.passes.quantize import activation_params

RNG = np.random.default_rng(11)
UNIFORM = RNG.uniform(-2, 6, 60_000).astype(np.float32)
NORMAL = RNG.normal(0, 1, 60_000).astype(np.float32)
HEAVY = RNG.standard_t(2.2, 60_000).astype(np.float32)
SPIKE = np.concatenate([RNG.normal(0, 0.5, 60_000), [100.0, -90.0, 80.0]]).astype(np.float32)
OUTLIERS = np.concatenate([NORMAL, [40.0]]).astype(np.float32)
TAILS = [HEAVY, SPIKE, np.abs(HEAVY), -SPIKE, OUTLIERS, -OUTLIERS]
DISTRIBUTIONS = [UNIFORM, NORMAL, HEAVY, SPIKE, np.abs(HEAVY), -np.abs(HEAVY), NORMAL + 5]


def observed(*arrays: Array) -> Observer:
    observer = Observer(histogram=Histogram())
    for array in arrays:
        observer.add(array)
    return observer


def found(method: RangeMethod, *arrays: Array) -> tuple[float, float]:
    return method.range(observed(*arrays))


def squared_error(x: Array, ends: tuple[float, float]) -> float:
    """Return the error of int8 quantization as the runtime does it."""
    params = activation_params(*ends, DType.INT8)
    steps = quantize_array(x, params, DType.INT8).astype(np.float64)
    return float(((steps - params.zero_point[0]) * params.scale[0] - x).__pow__(2).sum())


def test_the_methods_are_named_as_they_call_themselves() -> None:
    assert {name: make().name for name, make in METHODS.items()} == {n: n for n in METHODS}
    assert set(METHODS) == {"minmax", "percentile", "entropy", "mse"}


class TestMinMax:
    def test_is_exact(self) -> None:
        x = RNG.normal(0, 1, 1000).astype(np.float32)

        assert found(MinMax(), x, 3 * x) == (float((3 * x).min()), float((3 * x).max()))

    def test_needs_no_histogram(self) -> None:
        observer = Observer()
        observer.add(NORMAL)

        assert not MinMax.needs_histogram
        assert MinMax().range(observer) == (float(NORMAL.min()), float(NORMAL.max()))


class TestPercentile:
    @pytest.mark.parametrize("percent", [99.99, 99.9, 99.0, 90.0])
    @pytest.mark.parametrize("x", [UNIFORM, NORMAL], ids=["uniform", "normal"])
    def test_cuts_half_of_the_share_at_each_end(self, x: Array, percent: float) -> None:
        low, high = found(Percentile(percent), x)

        cut = (1 - percent / 100) / 2
        bin_width = (float(x.max()) - float(x.min())) / 2048
        assert abs(low - np.quantile(x, cut)) <= 2 * bin_width
        assert abs(high - np.quantile(x, 1 - cut)) <= 2 * bin_width

    def test_zeros_do_not_dilute_the_share(self) -> None:
        relu = np.maximum(NORMAL, 0)
        few = relu[relu > 0]

        assert found(Percentile(99), relu) == pytest.approx(
            found(Percentile(99), few), rel=1e-4
        )

    def test_is_asymmetric(self) -> None:
        x = np.concatenate([NORMAL, np.array([1000], np.float32)])

        low, high = found(Percentile(99.9), x)

        assert -5 < low < -2
        assert 2 < high < 5

    def test_of_100_percent_is_all(self) -> None:
        low, high = found(Percentile(100.0), NORMAL)

        bin_width = float(NORMAL.max() - NORMAL.min()) / 2048
        assert low == pytest.approx(float(NORMAL.min()), abs=bin_width)
        assert high == pytest.approx(float(NORMAL.max()), abs=bin_width)


class TestMse:
    @pytest.mark.parametrize("x", TAILS, ids=range(len(TAILS)))
    def test_beats_min_max_on_heavy_tails(self, x: Array) -> None:
        assert squared_error(x, found(Mse(), x)) < 0.95 * squared_error(x, found(MinMax(), x))

    @pytest.mark.parametrize("x", TAILS, ids=range(len(TAILS)))
    def test_is_near_the_best_of_all_ranges(self, x: Array) -> None:
        low, high = found(MinMax(), x)
        factors = np.linspace(0.1, 1, 19)

        best = min(squared_error(x, (a * low, b * high)) for a in factors for b in factors)

        assert squared_error(x, found(Mse(), x)) <= 1.05 * best

    def test_keeps_all_of_uniform_data(self) -> None:
        low, high = found(Mse(), UNIFORM)

        # Cutting an end by a factor f loses ((1 - f) 6)^3 and gains next to nothing.
        assert low == pytest.approx(float(UNIFORM.min()), rel=0.02)
        assert high == pytest.approx(float(UNIFORM.max()), rel=0.02)

    @pytest.mark.parametrize("x", [*DISTRIBUTIONS], ids=range(len(DISTRIBUTIONS)))
    def test_is_never_worse_than_min_max(self, x: Array) -> None:
        best = squared_error(x, found(Mse(), x))

        # A bin counts as its centre; a step is 8 bins wide, which hides 1/64 of the error.
        assert best <= 1.02 * squared_error(x, found(MinMax(), x))

    def test_cuts_the_end_with_the_outlier(self) -> None:
        low, high = found(Mse(), OUTLIERS)

        assert float(NORMAL.min()) <= low < -3
        assert 25 < high < 39  # clipping costs (40 - high)^2, a coarse grid 150 in all


class TestEntropy:
    def test_cuts_the_tail_behind_a_spike(self) -> None:
        low, high = found(Entropy(), SPIKE)

        assert -30 < low <= -1
        assert 1 <= high < 30

    def test_keeps_most_of_uniform_data(self) -> None:
        low, high = found(Entropy(), UNIFORM)

        assert high > 5
        assert low == pytest.approx(float(UNIFORM.min()), rel=0.01)

    def test_is_better_than_min_max_behind_a_spike(self) -> None:
        bulk = SPIKE[np.abs(SPIKE) < 10]

        assert squared_error(bulk, found(Entropy(), SPIKE)) < squared_error(
            bulk, found(MinMax(), SPIKE)
        )


EVERY = pytest.mark.parametrize("method", [make() for make in METHODS.values()], ids=METHODS)


@EVERY
@pytest.mark.parametrize("x", DISTRIBUTIONS, ids=range(len(DISTRIBUTIONS)))
def test_a_range_holds_zero_and_is_no_wider_than_what_was_seen(method: RangeMethod,
                                                               x: Array) -> None:  # fmt: skip
    low, high = found(method, x)

    assert min(float(x.min()), 0) <= low <= 0 <= high <= max(float(x.max()), 0)
    assert low < high


@EVERY
def test_one_sided_data_keep_zero_at_their_end(method: RangeMethod) -> None:
    low, high = found(method, np.abs(HEAVY))
    assert low == 0 < high

    low, high = found(method, -np.abs(HEAVY))
    assert low < 0 == high


@EVERY
@pytest.mark.parametrize("value", [3.0, -3.0])
def test_a_constant_is_within_half_a_step_of_the_range(
    method: RangeMethod, value: float
) -> None:
    ends = found(method, np.full(10, value, np.float32))

    assert min(ends) <= value <= max(ends) or abs(value - max(ends, key=abs)) < 3 / 255


@EVERY
def test_a_value_that_is_always_zero_has_an_empty_range(method: RangeMethod) -> None:
    assert found(method, np.zeros(10, np.float32)) == (0, 0)


@EVERY
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=8))
def test_any_few_numbers(method: RangeMethod, values: list[float]) -> None:
    x = np.array(values, np.float32)

    low, high = found(method, x)

    assert min(float(x.min()), 0) <= low <= 0 <= high <= max(float(x.max()), 0)
    assert high > low or not x.any()
