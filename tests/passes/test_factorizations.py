"""Products of factors: exact where they can be, and fitted to what is read."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import Array
from edgec.passes.compensated_rounding import Moments
from edgec.passes.factor_form import Factors, Form, covariance_of
from edgec.passes.factorizations import LowRank, Separable, Spatial, Tucker, cut_energy

SHAPE = (12, 5, 3, 2)
FORMS = [Separable(SHAPE, 2), LowRank(SHAPE, 4), Spatial(SHAPE, 6), Tucker(SHAPE, 3, 7)]


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(n: int, seed: int = 1) -> Array:
    """Few directions matter, as of real images."""
    x = numbers(4 * n, n, seed=seed) * np.geomspace(1, 0.03, n)
    mixed = x @ np.linalg.qr(numbers(n, n, seed=seed + 1))[0]
    return np.asarray(mixed.T @ mixed / len(x))


def error(form: Form, factors: Factors, weight: Array, h: Array) -> float:
    off = form.dense(factors) - weight
    return float(np.einsum("on,nm,om->", off, h, off))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_is_fitted_to_what_is_read_has_less_error(form: Form) -> None:
    n = math.prod(SHAPE[1:])
    weight, h = numbers(12, n, seed=3), covariance(n)

    plain, aware = form.start(weight), form.fitted(weight, h)

    assert error(form, aware, weight, h) < 0.5 * error(form, plain, weight, h)
    eye = np.eye(n)
    assert error(form, plain, weight, eye) < error(form, aware, weight, eye)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_more_turns_are_never_worse(form: Form) -> None:
    n = math.prod(SHAPE[1:])
    weight, h = numbers(12, n, seed=3), covariance(n)
    errors = [error(form, form.fitted(weight, h, turns=t), weight, h) for t in range(5)]

    for before, now in itertools.pairwise(errors):
        assert now <= before * (1 + 1e-9)
    if not isinstance(form, LowRank):
        assert errors[3] < 0.99 * errors[0]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_drop_is_the_adjoint_of_lift(form: Form) -> None:
    blank = form.blank()
    first = numbers(*blank.first.shape)
    full = numbers(*form.lift(first).shape, seed=1)

    got = float((first * form.drop(full)).sum())
    assert got == pytest.approx(float((form.lift(first) * full).sum()))
    gram, h = covariance(len(full)), covariance(full.shape[1], seed=4)
    np.testing.assert_allclose(
        form.normal(gram, h)(first), form.drop(gram @ form.lift(first) @ h), atol=1e-9
    )


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_shapes_are_known_before_anything_is_fitted(form: Form) -> None:
    n = math.prod(SHAPE[1:])
    made, blank = form.start(numbers(12, n)), form.blank()

    assert made.first.shape == blank.first.shape
    assert made.last.shape == blank.last.shape


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_passes_between_is_of_one_size_and_the_product_stays(form: Form) -> None:
    n = math.prod(SHAPE[1:])
    weight, h = numbers(12, n, seed=3), covariance(n)
    made = form.fitted(weight, h)

    balanced = form.balanced(made, h)

    np.testing.assert_allclose(form.dense(balanced), form.dense(made), atol=1e-9)
    lifted = form.lift(balanced.first)
    energy = np.einsum("mn,mn->m", lifted @ h, lifted).reshape(form.units, -1).mean(axis=1)
    np.testing.assert_allclose(energy, 1)


shapes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=st.integers(0, 99))
def test_all_forms_are_exact_where_nothing_is_cut(
    shape: tuple[int, int, int, int], seed: int
) -> None:
    outputs, channels, kh, kw = shape
    n = channels * kh * kw
    weight, h = numbers(outputs, n, seed=seed), covariance(n, seed) + 0.1 * np.eye(n)
    full = min(outputs, n)
    forms: list[Form] = [
        LowRank(shape, full),
        Spatial(shape, min(outputs * kw, channels * kh)),
        Tucker(shape, min(channels, outputs * kh * kw), full),
        Separable(shape, min(outputs, kh * kw)),
    ]
    for form in forms:
        assert form.problem() is None
        for made in (form.start(weight), form.fitted(weight, h)):
            np.testing.assert_allclose(form.dense(made), weight, atol=2e-3)


def test_the_error_of_a_rank_is_the_sum_of_what_is_cut() -> None:
    weight, h = numbers(8, 20), covariance(20)
    curve = cut_energy(weight, h)

    assert len(curve) == 9
    for rank in range(1, 9):
        form = LowRank((8, 20), rank)
        got = error(form, form.fitted(weight, h), weight, h)
        assert got == pytest.approx(curve[rank], abs=1e-9)
    assert curve[0] == pytest.approx(np.einsum("on,nm,om->", weight, h, weight))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Separable((4, 5), 2), "without a kernel"),
        (Separable(SHAPE, 7), "a multiplier of 6 at most, not 7"),
        (LowRank(SHAPE, 13), "a rank of 12 at most, not 13"),
        (LowRank(SHAPE, 0), "not 0"),
        (Spatial((4, 5, 3), 2), "no convolution over images"),
        (Tucker(SHAPE, 6, 2), "an inner rank of 5 at most, not 6"),
    ],
    ids=str,
)
def test_forms_that_make_no_sense_say_so(form: Form, text: str) -> None:
    problem = form.problem()
    assert problem is not None
    assert text in problem


def test_what_few_patches_do_not_show_counts_a_little() -> None:
    few, many = Moments.empty(1, 0, 8), Moments.empty(1, 0, 8)
    x = numbers(1, 40, 8).astype(np.float32)
    few.add(x[:, :4], np.zeros((1, 4, 0), np.float32))
    many.add(x, np.zeros((1, 40, 0), np.float32))

    assert np.linalg.matrix_rank(few.centred()[0][0], tol=1e-4) == 3
    assert np.linalg.matrix_rank(covariance_of(few), tol=1e-4) == 8
    np.testing.assert_array_equal(covariance_of(many), many.centred()[0][0])
    # The directions that were seen come first; of the others the largest weights.
    weight = np.diag(np.arange(8.0, 0, -1))
    seen = covariance_of(few)
    made = LowRank((8, 8), 5).fitted(weight, seen)
    off = made.last @ made.first - weight
    assert np.einsum("on,nm,om->", off, few.centred()[0][0], off) < 0.1
