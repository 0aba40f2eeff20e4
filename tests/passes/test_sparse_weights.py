from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array
from edgec.passes.compensated_rounding import damped
from edgec.passes.sparse_weights import Sparsity, fitted_to, mask_by_magnitude, pruned


def problem(groups: int = 2, outputs: int = 5, n: int = 36) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((groups, 6 * n, n)) @ (rng.standard_normal((groups, n, n)) + 0.5)
    return rng.standard_normal((groups, outputs, n)), x.transpose(0, 2, 1) @ x / (6 * n)


def error(weight: Array, hessian: Array, found: Array) -> float:
    off = weight - found
    return float(np.einsum("gon,gnm,gom->", off, damped(hessian, 0.01), off))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_so_many_weights_become_zero_and_the_others_make_up_for_it(share: float) -> None:
    weight, hessian = problem(n=150)
    sparsity = Sparsity(share)

    found = pruned(weight, hessian, sparsity, 1)

    assert (found == 0).mean() == pytest.approx(share, abs=0.01)
    quick = pruned(weight, hessian, sparsity, 1, fit=False)
    np.testing.assert_array_equal(quick == 0, found == 0)
    assert error(weight, hessian, found) <= error(weight, hessian, quick)
    plain = np.where(mask_by_magnitude(weight, sparsity, 1), weight, 0)
    assert (plain == 0).mean() == pytest.approx(share, abs=1e-9)
    fitted = fitted_to(weight, hessian, plain != 0)
    assert error(weight, hessian, found) < error(weight, hessian, fitted)
    assert error(weight, hessian, fitted) < 0.8 * error(weight, hessian, plain)


@pytest.mark.parametrize(("most", "of"), [(2, 4), (1, 4), (3, 5)])
@pytest.mark.parametrize("inner", [1, 9])
def test_patterns_hold_along_the_input_channels(most: int, of: int, inner: int) -> None:
    weight, hessian = problem(n=54)

    for found in (
        pruned(weight, hessian, Sparsity(pattern=(most, of)), inner),
        np.where(mask_by_magnitude(weight, Sparsity(pattern=(most, of)), inner), weight, 0),
    ):
        channels = 54 // inner
        along = found.reshape(2, 5, channels, inner)
        for k in range(0, channels, of):
            part = along[:, :, k : k + of]
            left = (part != 0).sum(axis=2)
            assert (left == min(most, part.shape[2])).all()


def test_weights_that_are_left_are_least_squares() -> None:
    weight, hessian = problem(1, 3, 12)
    kept = np.random.default_rng(1).random(weight.shape) < 0.5

    found = fitted_to(weight, hessian, kept)

    whole = damped(hessian, 0.01)[0]
    assert (found[~kept] == 0).all()
    for row in range(3):
        at = np.flatnonzero(kept[0, row])
        want = np.linalg.solve(whole[np.ix_(at, at)], whole[at] @ weight[0, row])
        np.testing.assert_allclose(found[0, row, at], want, rtol=1e-3, atol=1e-4)


def test_nothing_is_lost_where_nothing_has_to_go() -> None:
    weight, hessian = problem()

    np.testing.assert_allclose(pruned(weight, hessian, Sparsity(0.0), 1), weight, atol=1e-12)
    everything = pruned(weight, hessian, Sparsity(1.0), 1)
    assert (everything == 0).all()


def test_inputs_that_are_always_zero_need_no_weights() -> None:
    weight, hessian = problem(1, 4, 12)
    hessian[:, :6] = hessian[:, :, :6] = 0

    found = pruned(weight, hessian, Sparsity(0.5), 1)

    assert (found[:, :, :6] == 0).all()
    np.testing.assert_allclose(found[:, :, 6:], weight[:, :, 6:], atol=1e-9)


def test_sparsities_say_what_they_are() -> None:
    assert str(Sparsity(0.5)) == "50 %"
    assert str(Sparsity(pattern=(2, 4))) == "2:4"
