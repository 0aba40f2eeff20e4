from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array
from edgec.passes.compensated_rounding import (
    Factor,
    Moments,
    compensated,
    descended,
    pulled,
    round_compensated,
)

LIMITS = (-7, 7)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def correlated(n: int, groups: int = 1) -> Array:
    x = numbers(groups, 4 * n, n) @ (numbers(groups, n, n, seed=1) + 2)
    return np.asarray(x.transpose(0, 2, 1) @ x / (4 * n))


def error(weight: Array, hessian: Array, q: Array, scale: Array) -> float:
    e = weight - q * scale[:, :, None]
    return float(np.einsum("gon,gnm,gom->", e, hessian, e))


@pytest.mark.parametrize("n", [1, 3, 20, 150])
def test_errors_make_up_for_each_other(n: int) -> None:
    weight, hessian = numbers(2, 5, n, seed=2), correlated(n, 2)
    scale = np.abs(weight).max(axis=2) / 7

    q = round_compensated(weight.copy(), Factor.of(hessian, 0.001), scale, LIMITS)

    nearest = np.rint(weight / scale[:, :, None])
    assert np.abs(q).max() <= 7
    np.testing.assert_array_equal(q, np.rint(q))
    mine, plain = (error(weight, hessian, found, scale) for found in (q, nearest))
    assert mine <= plain / (1 if n == 1 else 2)


def test_what_does_not_go_together_is_rounded_to_nearest() -> None:
    weight = numbers(1, 4, 6)
    scale = np.full((1, 4), 0.4)
    hessian = np.diag([5.0, 0, 1, 2, 0, 3])[None]

    q = round_compensated(weight.copy(), Factor.of(hessian, 0.01), scale, LIMITS)

    np.testing.assert_array_equal(q, np.rint(weight / 0.4))


def test_inputs_that_are_always_zero_keep_their_weights() -> None:
    weight, hessian = numbers(1, 4, 6), correlated(6)
    hessian[:, 2] = hessian[:, :, 2] = 0
    scale = np.full((1, 4), 0.4)

    q = round_compensated(weight.copy(), Factor.of(hessian, 0.01), scale, LIMITS)

    np.testing.assert_array_equal(q[:, :, 2], np.rint(weight[:, :, 2] / 0.4))


def to_odd(x: Array) -> Array:
    return np.asarray(2 * np.floor(x / 2) + 1)


def test_any_integers_may_be_what_is_rounded_to() -> None:
    weight, hessian = numbers(2, 5, 20, seed=2), correlated(20, 2)
    scale = np.abs(weight).max(axis=2) / 7

    q = compensated(weight.copy(), Factor.of(hessian, 0.001), scale, to_odd)

    assert (q % 2 == 1).all()
    mine, plain = (
        error(weight, hessian, found, scale)
        for found in (q, to_odd(weight / scale[:, :, None]))
    )
    assert mine < plain / 2


@pytest.mark.parametrize("compensate", [False, True])
def test_descent_makes_errors_smaller(compensate: bool) -> None:
    weight, hessian = numbers(2, 5, 20, seed=2), correlated(20, 2)
    scale = np.abs(weight).max(axis=2) / 7
    q = to_odd(weight / scale[:, :, None])
    if compensate:
        q = compensated(weight.copy(), Factor.of(hessian, 0.001), scale, to_odd)

    one, more = (descended(weight, q, hessian, scale, to_odd, k) for k in (1, 8))

    assert (one % 2 == 1).all()
    errors = [error(weight, hessian, found, scale) for found in (q, one, more)]
    assert errors[0] >= errors[1] >= errors[2]
    assert compensate or errors[2] < 0.6 * errors[0]
    again = descended(weight, more, hessian, scale, to_odd, 8)
    assert error(weight, hessian, again, scale) <= errors[2] * (1 + 1e-9)


def test_descent_leaves_inputs_alone_that_are_always_zero() -> None:
    weight, hessian = numbers(1, 4, 6), correlated(6)
    hessian[:, 2] = hessian[:, :, 2] = 0
    q = np.full((1, 4, 6), 3.0)

    found = descended(weight, q, hessian, np.full((1, 4), 0.4), np.rint, 3)

    np.testing.assert_array_equal(found[:, :, 2], 3)
    assert (found != q).any()


def test_factors_are_those_of_the_inverse() -> None:
    hessian = correlated(7, 3)

    factor = Factor.of(hessian, 0.0)

    for k, order in enumerate(factor.order):
        upper = factor.upper[k]
        ordered = hessian[k][np.ix_(order, order)]
        assert (np.diff(np.diag(ordered)) <= 0).all()
        np.testing.assert_allclose(np.tril(upper, -1), 0, atol=1e-12)
        np.testing.assert_allclose(upper.T @ upper @ ordered, np.eye(7), atol=1e-9)


def test_little_damping_pulls_to_least_squares_and_much_not_at_all() -> None:
    weight, hessian, target = numbers(1, 3, 5), correlated(5), numbers(1, 3, 5, seed=3)
    crossed = target @ hessian

    np.testing.assert_allclose(pulled(weight, hessian, crossed, 1e-9), target, atol=1e-5)
    np.testing.assert_allclose(pulled(weight, hessian, crossed, 1e9), weight, atol=1e-5)


class TestMoments:
    def test_know_the_error_of_any_weights(self) -> None:
        x = numbers(2, 30, 4).astype(np.float32) + np.float32(1)
        y = numbers(2, 30, 3, seed=1).astype(np.float32)
        seen = Moments.empty(2, 3, 4)
        seen.add(x[:, :10], y[:, :10])
        seen.add(x[:, 10:], y[:, 10:])
        weight, bias = numbers(2, 3, 4, seed=2), numbers(2, 3, seed=3)

        off = y - x @ weight.transpose(0, 2, 1)
        want = ((off - bias[:, None, :]) ** 2).mean(axis=1)
        np.testing.assert_allclose(seen.error(weight, bias), want, rtol=1e-4)
        np.testing.assert_allclose(seen.bias(weight), off.mean(axis=1), rtol=1e-3, atol=1e-5)
        assert (seen.error(weight, seen.bias(weight)) <= want).all()

        centred = x - x.mean(axis=1, keepdims=True)
        xx, yx = seen.centred()
        np.testing.assert_allclose(
            xx, centred.transpose(0, 2, 1) @ centred / 30, rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(
            yx, y.transpose(0, 2, 1) @ centred / 30, rtol=1e-3, atol=1e-5
        )
