"""Requantization: TFLite Micro's arithmetic, and what stands for it in fewer instructions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import DType, QuantParams
from edgec.program import Tensor
from edgec.targets.microcontroller.kernels.requantization import (
    Multiplier,
    Requantization,
    Rescaling,
    _Staircase,
    exact_constants,
    output_range,
    rescaling_of,
)

Ints = npt.NDArray[np.int64]


def quotient(a: int, b: int) -> int:
    """Divide as C does."""
    return abs(a) // b * (1 if a >= 0 else -1)


def as_tflite(total: int, multiplier: Multiplier) -> int:
    """Multiply and round twice, one number at a time."""
    product = total * 2 ** max(multiplier.shift, 0) * multiplier.value
    high = quotient(product + (2**30 if product >= 0 else 1 - 2**30), 2**31)
    right = max(-multiplier.shift, 0)
    away = 1 if high >= 0 else -1
    return away * ((abs(high) + 2**right // 2) // 2**right) if right else high


def wrapped(number: Ints) -> Ints:
    """Return what 32 bits hold."""
    held: Ints = (number + 2**31) % 2**32 - 2**31
    return held


def as_instructions(sums: Ints, channel: int, scale: int, how: Rescaling) -> Ints:
    """Compute what the instructions of a rescaling do, which wrap and saturate."""
    grown = wrapped((sums + how.offsets[channel]) * scale)
    factor, addend = how.words[channel][:2]
    if how.form == "linear":
        twice = wrapped(grown << 1) if scale == 1 else grown >> 7
        carried = wrapped(addend + (grown >> 31))
        level = wrapped((carried * 2**32 + twice * factor + 2**31) >> 32)
        shift = how.words[channel][2]
    else:
        level = wrapped(addend + (grown * factor >> 32))
        shared = how.form == "shared"
        shift = how.shifts[(0, 1)[scale == 256]] if shared else how.words[channel][2]
    result: Ints = np.clip(level >> shift, -128, 127)
    if how.clamp is not None:
        result = np.clip(result, *how.clamp)
    return result


@given(st.floats(1e-12, 1000), st.integers(-(2**20), 2**20))
def test_factors_are_rounded_twice(factor: float, total: int) -> None:
    multiplier = Multiplier.of(factor)

    assert int(multiplier.times(total)) == as_tflite(total, multiplier)
    if multiplier.value:
        assert math.isclose(
            multiplier.value * 2.0 ** (multiplier.shift - 31), factor, rel_tol=2**-30
        )


def test_factors_at_the_ends() -> None:
    assert Multiplier.of(1.0) == Multiplier(2**30, 1)
    assert Multiplier.of(1 - 2**-40) == Multiplier(2**30, 1)  # rounds up to the next power
    assert Multiplier.of(2.0**-40) == Multiplier(0, 0)
    assert Multiplier.of(0.0) == Multiplier(0, 0)
    with pytest.raises(ValueError, match="cannot be a factor"):
        Multiplier.of(-1.0)


def test_halves_go_up_first_and_away_from_zero_then() -> None:
    half = Multiplier(2**30, 0)
    quarter = Multiplier(2**30, -1)

    assert half.times([-3, -1, 1, 3]).tolist() == [-1, 0, 1, 2]
    assert quarter.times([-4, -2, 2, 4]).tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize(
    ("activation", "wanted"),
    [
        ("none", (-128, 127)),
        ("relu", (-10, 127)),
        ("relu6", (-10, 50)),
        ("relu_n1_to_1", (-20, 0)),
    ],
)
def test_ranges_of_activations(activation: str, wanted: tuple[int, int]) -> None:
    result = Tensor("y", DType.INT8, (1, 4), QuantParams((0.1,), (-10,)))

    assert output_range(activation, result) == wanted  # type: ignore[arg-type]


@st.composite
def requantizations(draw: st.DrawFn) -> tuple[Requantization, Ints, Ints]:
    """Return one of a few channels, and sums that fit it more or less."""
    count = draw(st.integers(1, 4))
    zero = draw(st.integers(-128, 127))
    least, greatest = draw(
        st.sampled_from([(-128, 127), (zero, 127), (zero, min(zero + 90, 127))])
    )
    multipliers, lows, highs = [], [], []
    for _ in range(count):
        multiplier = Multiplier.of(draw(st.floats(2.0**-26, 2)))
        unit = 2.0**31 / multiplier.value * 2.0**-multiplier.shift
        widest = min(unit * draw(st.floats(0.01, 400)), 2.0**22)
        multipliers.append(multiplier)
        lows.append(-int(widest * draw(st.floats(0, 1))))
        highs.append(int(widest * draw(st.floats(0, 1))))
    return (
        Requantization(tuple(multipliers), zero, least, greatest),
        np.array(lows, np.int64),
        np.array(highs, np.int64),
    )


@given(requantizations())
def test_thresholds_are_where_results_change(case: tuple[Requantization, Ints, Ints]) -> None:
    requantization, low, high = case
    thresholds = requantization.thresholds(low, high)

    for channel in range(len(low)):
        alone = Requantization(
            requantization.multipliers[channel : channel + 1],
            requantization.zero_point,
            requantization.least,
            requantization.greatest,
        )
        for k, threshold in zip(range(-127, 128), thresholds[:, channel], strict=True):
            if threshold <= high[channel]:
                assert alone([threshold])[0] >= k
            if threshold > low[channel]:
                assert alone([threshold - 1])[0] < k


def sums_to_try(low: int, high: int, steps: Ints, rng: np.random.Generator) -> Ints:
    """Return all sums if there are few, else the ends, both sides of each step, and some."""
    if high - low < 50_000:
        return np.arange(low, high + 1)
    picked = np.concatenate([steps, steps - 1, rng.integers(low, high + 1, 2000), [low, high]])
    return np.unique(np.clip(picked, low, high))


@settings(max_examples=150, deadline=None)
@given(requantizations(), st.sampled_from([(1,), (1, 256)]))
def test_rescalings_are_exact(
    case: tuple[Requantization, Ints, Ints], scales: tuple[int, ...]
) -> None:
    requantization, low, high = case
    rng = np.random.default_rng(0)
    found = rescaling_of(requantization, low, high, scales)
    if found is None:
        return
    thresholds = requantization.thresholds(low, high)
    for channel in range(len(low)):
        sums = sums_to_try(int(low[channel]), int(high[channel]), thresholds[:, channel], rng)
        every = np.zeros((len(sums), len(low)), np.int64)
        every[:, channel] = sums

        wanted = requantization(every)[:, channel]
        scale = scales[channel % len(scales)]
        assert np.array_equal(as_instructions(sums, channel, scale, found), wanted)


def relu_layer(channels: int, spread: float, seed: int) -> tuple[Requantization, Ints, Ints]:
    """Return what layers with ReLU look like, with scales that differ by `spread`."""
    rng = np.random.default_rng(seed)
    factors = 2.0**-7 * spread ** -rng.random(channels)
    bounds = (300 / factors * rng.random(channels)).astype(np.int64)
    requantization = Requantization(tuple(map(Multiplier.of, factors)), -128, -128, 127)
    return requantization, -bounds, bounds + 1000


@pytest.mark.parametrize("scales", [(1,), (1, 256)])
def test_layers_with_relu_take_two_instructions(scales: tuple[int, ...]) -> None:
    found = rescaling_of(*relu_layer(32, 8, 0), scales)

    assert found is not None
    assert found.form == "shared"
    assert found.shifts == (2, 9)[: len(scales)]  # what all such layers prefer
    assert any(found.offsets)  # constants alone are too coarse


def test_scales_far_apart_need_their_own_shifts() -> None:
    found = rescaling_of(*relu_layer(8, 2.0**14, 1), (1,))

    assert found is not None
    assert found.form == "own"


def test_results_of_both_signs_are_rounded_twice() -> None:
    factors = (0.0031, 0.0017)
    requantization = Requantization(tuple(map(Multiplier.of, factors)), 3, -128, 127)
    bound = np.array([60_000, 90_000])
    found = rescaling_of(requantization, -bound, bound, (1, 256))

    assert found is not None
    assert found.form == "linear"
    assert found.clamp is None


def test_channels_that_never_change_may_have_any_sum() -> None:
    requantization = Requantization((Multiplier(0, 0), Multiplier.of(0.01)), -128, -128, 127)
    low, high = np.array([-(2**31), -20_000]), np.array([2**31 - 1, 20_000])
    found = rescaling_of(requantization, low, high, (1, 256))

    assert found is not None
    assert found.form == "shared"
    assert as_instructions(np.array([-(2**31), 2**31 - 1]), 0, 1, found).tolist() == [-128] * 2


def test_sums_of_more_than_32_bits_have_no_form() -> None:
    requantization = Requantization((Multiplier.of(2.0**-20),), 0, -128, 127)
    assert rescaling_of(requantization, np.array([-(2**30)]), np.array([2**30]), (1,)) is None


def test_factors_above_one_keep_the_sums_in_32_bits() -> None:
    requantization = Requantization((Multiplier.of(2.0**10),), 0, -128, 127)
    assert rescaling_of(requantization, np.array([-(2**22)]), np.array([2**22]), (1,)) is None


@pytest.mark.parametrize("by", [-1, 1])
def test_constants_that_are_off_by_a_step_are_refused(
    by: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _Staircase._candidates

    def moved(
        self: _Staircase, rise: float, least: float, most: float, scale: int
    ) -> list[tuple[int, int]]:
        found = real(self, rise, least, most, scale)
        return [(offset, addend + by * 2**9) for offset, addend in found]

    monkeypatch.setattr(_Staircase, "_candidates", moved)
    layer = relu_layer(8, 8, 0)
    found = exact_constants(*layer, (1,))
    if found is not None:  # a shift so large that it does not matter
        constants, _ = found
        assert min(c.shift for c in constants) > 9
