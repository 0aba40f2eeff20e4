from __future__ import annotations

import math

import numpy as np
import pytest

from edgec.ir import Array
from edgec.numerics import EXACT_DB, Agreement, relative_error, sqnr

INF, NAN = math.inf, math.nan


def a(*values: float) -> dict[str, Array]:
    return {"y": np.array(values, np.float32)}


@pytest.mark.parametrize(
    ("signal", "noise", "want"),
    [
        (1.0, 0.01, 20.0),
        (1.0, 1.0, 0.0),
        (1.0, 0.0, EXACT_DB),
        (0.0, 0.0, EXACT_DB),
        (0.0, 1.0, -EXACT_DB),
        (1.0, INF, -EXACT_DB),
        (1.0, NAN, -EXACT_DB),
        (1.0, 1e-300, EXACT_DB),
        (1e-300, 1.0, -EXACT_DB),
    ],
)
def test_signal_to_noise(signal: float, noise: float, want: float) -> None:
    assert sqnr(signal, noise) == pytest.approx(want)


@pytest.mark.parametrize(
    ("want", "got", "error"),
    [
        (a(1, -2), a(1, -2), 0.0),
        (a(1, -2), a(1, -1.5), 0.25),
        (a(1, -2), a(0, -2), 0.5),
        (a(0, 0), a(0, 0), 0.0),
        (a(0, 0), a(0, 1e-9), 1e-9),
        (a(1, 2), a(1, NAN), INF),
        (a(1, NAN), a(1, 2), INF),
        (a(1, NAN), a(1, NAN), 0.0),
        (a(2, NAN), a(1, NAN), 0.5),
        (a(1, INF), a(1, INF), 0.0),
        (a(2, INF), a(1, INF), 0.5),
        (a(1, INF), a(1, -INF), INF),
        (a(1, INF), a(1, 2), INF),
        (a(1, 2), a(1, INF), INF),
        (a(1, 2), a(1), INF),
        ({"y": np.array([True])}, {"y": np.array([True])}, 0.0),
        ({"y": np.array([True])}, {"y": np.array([False])}, INF),
        ({"y": np.array(["a"], object)}, {"y": np.array(["a"], object)}, 0.0),
        ({"y": np.array([100, 4])}, {"y": np.array([99, 4])}, 0.01),
        ({"y": np.zeros((0, 3))}, {"y": np.zeros((0, 3))}, 0.0),
    ],
)
def test_relative_error(want: dict[str, Array], got: dict[str, Array], error: float) -> None:
    assert relative_error(want, got) == pytest.approx(error)


def test_the_worst_output_counts() -> None:
    want = {"a": np.array([1.0]), "b": np.array([100.0])}

    assert relative_error(
        want, {"a": np.array([1.1]), "b": np.array([101.0])}
    ) == pytest.approx(0.1)
    assert relative_error(
        want, {"a": np.array([1.0]), "b": np.array([101.0])}
    ) == pytest.approx(0.01)


def agreement(*pairs: tuple[Array, Array]) -> Agreement:
    found = Agreement()
    for want, got in pairs:
        found.add({"y": want}, {"y": got})
    return found


def row(*values: float) -> Array:
    return np.array([values], np.float32)


def test_energies_are_summed_before_the_ratio() -> None:
    found = agreement((row(3, 4), row(3, 4)), (row(0, 5), row(0, 4)))

    assert found.samples == 2
    assert found.sqnr_db == pytest.approx(10 * math.log10(50 / 1))
    assert found.max_error == 1
    assert found.max_relative_error == pytest.approx(1 / 5)


def test_the_worst_output_is_reported() -> None:
    found = Agreement()
    found.add({"a": row(1, 2), "b": row(1, 2)}, {"a": row(1, 2), "b": row(1, 1)})

    assert found.sqnr_db == pytest.approx(10 * math.log10(5))


def test_without_outputs_there_is_no_noise() -> None:
    assert (Agreement().sqnr_db, Agreement().max_error, Agreement().top1) == (
        EXACT_DB,
        0.0,
        None,
    )


def test_rows_agree_on_their_largest_class() -> None:
    found = agreement((row(1, 2, 0), row(1, 3, 0)), (row(1, 2, 0), row(3, 2, 0)))

    assert found.top1 == 0.5


def test_ties_agree() -> None:
    assert agreement((row(1, 2), row(2, 2))).top1 == 1.0


def test_top1_needs_classes() -> None:
    assert agreement((row(1), row(1))).top1 is None
    assert agreement((np.zeros((1, 2, 3)), np.zeros((1, 2, 3)))).top1 is None
    assert agreement((np.zeros((1, 2), np.int64), np.zeros((1, 2), np.int64))).top1 is None


def test_several_rows_are_judged_one_by_one() -> None:
    want = np.array([[1, 2], [2, 1], [1, 2]], np.float32)

    assert agreement((want, want[:, ::-1])).top1 == 0.0
    assert agreement((want, want[[0, 0, 0]])).top1 == pytest.approx(2 / 3)


def test_numbers_that_are_not_finite_are_named() -> None:
    assert agreement((row(1, 2), row(1, NAN))).not_finite() == ("y",)
    assert agreement((row(1, 2), row(1, INF))).not_finite() == ("y",)
    assert agreement((row(1, 2), row(1, 2))).not_finite() == ()


def test_outputs_that_never_vary_are_named() -> None:
    assert agreement((row(1, 2), row(5, 5)), (row(1, 2), row(5, 5))).constant() == ("y",)
    assert agreement((row(1, 2), row(5, 5)), (row(1, 2), row(5, 6))).constant() == ()
    assert agreement((row(1, 1), row(5, 5))).constant() == ()


def test_empty_outputs_count_for_nothing() -> None:
    assert agreement((np.zeros((0, 3)), np.zeros((0, 3)))).sqnr_db == EXACT_DB


def test_a_float16_output_is_not_held_to_digits_that_it_has_lost() -> None:
    agreement, single = Agreement(), Agreement()
    zero, tiny = np.zeros((1, 3), np.float16), np.full((1, 3), 1e-12, np.float32)
    agreement.add({"y": zero}, {"y": tiny})
    single.add({"y": zero.astype(np.float32)}, {"y": tiny})

    assert agreement.max_relative_error < 1e-6
    assert single.max_relative_error > 1
