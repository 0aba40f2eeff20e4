"""The statistics that benchmarks judge by."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fidelity import (
    agrees,
    decibels,
    is_right,
    mean_difference,
    packed_share,
    sqnr_difference,
)
from edgec.ir import DType
from edgec.targets.tflite.model import Model, Operator, Tensor


def test_classes_that_tie_agree_and_the_first_is_judged() -> None:
    wanted = np.array([[0.1, 0.5, 0.2], [0.1, 0.5, 0.2], [0.5, 0.5, 0.1]])
    got = np.array([[0.1, 0.4, 0.4], [0.4, 0.1, 0.4], [0.0, 0.0, 0.4]])
    assert agrees(wanted, got).tolist() == [True, False, False]
    assert agrees(got, wanted).tolist() == [True, False, False]
    assert is_right(got, np.array([2, 0, 2])).tolist() == [False, True, True]


def test_decibels() -> None:
    assert decibels(1.0, 0.001) == pytest.approx(30)
    assert decibels(5.0, 0.0) == pytest.approx(200)


def test_the_same_artifact_differs_from_itself_by_nothing() -> None:
    right = np.arange(100) % 3 == 0
    found = mean_difference(right, right)
    assert (found.low, found.value, found.high) == (0, 0, 0)
    assert not found.is_worse
    assert not found.is_better


def test_the_bootstrap_is_paired() -> None:
    # One in ten samples is got right by one only; that the rest is mixed must not add noise.
    theirs = np.arange(1000) % 2 == 0
    ours = theirs | (np.arange(1000) % 10 == 1)
    found = mean_difference(ours, theirs)
    assert found.value == pytest.approx(10)
    # The standard deviation of a mean of 1,000 zeros and ones, one in ten: 0.95 points.
    assert found.low == pytest.approx(10 - 1.96 * 0.949, abs=0.3)
    assert found.high == pytest.approx(10 + 1.96 * 0.949, abs=0.3)
    assert found.is_better
    assert mean_difference(theirs, ours).is_worse


def test_a_difference_within_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, 200)) < 0.5
    found = mean_difference(ours, theirs)
    assert not found.is_worse
    assert not found.is_better


def test_half_the_noise_is_three_decibels() -> None:
    theirs = np.random.default_rng(0).uniform(1, 2, 500)
    found = sqnr_difference(theirs / 2, theirs)
    assert found.value == pytest.approx(3.01, abs=0.01)
    assert found.low == pytest.approx(3.01, abs=0.01)
    assert sqnr_difference(np.zeros(3), np.zeros(3)).value == 0
    assert sqnr_difference(np.zeros(3), np.ones(3)).is_better


def test_the_draws_are_the_same_every_time() -> None:
    ours, theirs = np.random.default_rng(1).random((2, 50))
    assert mean_difference(ours, theirs) == mean_difference(ours, theirs)
    assert mean_difference(ours, theirs) != mean_difference(ours, theirs, seed=1)


def test_share_of_weights_in_4_bits() -> None:
    def weight(dtype: DType, *shape: int) -> Tensor:
        return Tensor("w", dtype, shape, np.zeros(shape, dtype.numpy))

    tensors = [
        Tensor("x", DType.INT8, (1, 4)),
        weight(DType.INT4, 3, 10),
        weight(DType.INT8, 1, 10),
        weight(DType.INT8, 7, 100),
    ]
    model = Model("m", tensors)
    model.operators = [
        Operator("CONV_2D", (0, 1, -1), (0,)),
        Operator("FULLY_CONNECTED", (0, 2, -1), (0,)),
        Operator("FULLY_CONNECTED", (0, 1, -1), (0,)),  # shares the weights of the first
        Operator("DEPTHWISE_CONV_2D", (0, 3, -1), (0,)),  # has no kernel for 4 bits
        Operator("FULLY_CONNECTED", (0, 0, -1), (0,)),  # its weights are computed
    ]
    assert packed_share(model) == pytest.approx(0.75)
    assert packed_share(Model("empty")) == 0
