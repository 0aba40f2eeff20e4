"""Mathematical functions in TFLite, from the smallest numbers to the largest."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edgec.ir import Array, Op
from edgec.ops import (
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Cosh,
    Erf,
    Neg,
    Round,
    Sign,
    Sinh,
    Tan,
)
from edgec.targets import Tflite
from tests.targets.graphs import one_op, ran

erf = np.vectorize(math.erf)


def computed(op: Op, x: Array) -> Array:
    graph, feeds = one_op(op, x)
    return ran(Tflite(), graph, feeds)[0]["y"]


def numbers(low: float, high: float) -> Array:
    """Numbers between two bounds, evenly spread and as small as they get."""
    tiny = 10.0 ** np.linspace(-30, 30, 601)
    found = np.concatenate([np.linspace(low, high, 2001), tiny, -tiny])
    return found[(found >= low) & (found <= high)].astype(np.float32)


FUNCTIONS: list[tuple[Op, Callable[[Array], Array], float, float]] = [
    (Acos(), np.arccos, -1, 1),
    (Acosh(), np.arccosh, 1, 1e30),
    (Asin(), np.arcsin, -1, 1),
    (Asinh(), np.arcsinh, -1e30, 1e30),
    (Atan(), np.arctan, -1e30, 1e30),
    (Atanh(), np.arctanh, -1, 1),
    (Cosh(), np.cosh, -89.4, 89.4),  # exp itself overflows at 88.7
    (Erf(), erf, -1e30, 1e30),
    (Sinh(), np.sinh, -89.4, 89.4),
    (Tan(), np.tan, -1.5, 1.5),
]


@pytest.mark.parametrize(
    ("op", "reference", "low", "high"),
    [pytest.param(*row, id=type(row[0]).__name__) for row in FUNCTIONS],
)
def test_functions_are_exact_to_the_last_digits(
    op: Op, reference: Callable[[Array], Array], low: float, high: float
) -> None:
    """The relative error is that of LiteRT's exp and log, which these are made of."""
    x = numbers(low, high)

    with np.errstate(divide="ignore"):
        want = reference(x.astype(np.float64))
    np.testing.assert_allclose(computed(op, x), want, rtol=5e-6, atol=1e-30)


@pytest.mark.parametrize("op", [Asinh(), Erf(), Sinh(), Atan()], ids=str)
def test_odd_functions_know_infinity(op: Op) -> None:
    x = np.array([-np.inf, np.inf, 0], np.float32)
    names: dict[str, Callable[[Array], Array]] = {
        "Asinh()": np.arcsinh, "Erf()": erf, "Sinh()": np.sinh, "Atan()": np.arctan
    }  # fmt: skip

    np.testing.assert_allclose(computed(op, x), names[str(op)](x), rtol=1e-6)


@pytest.mark.parametrize("op", [Acos(), Asin(), Acosh(), Atanh()], ids=str)
def test_outside_of_its_domain_a_function_is_not_a_number(op: Op) -> None:
    x = np.array([-2.0] if isinstance(op, Acosh) else [-2.0, 1.5], np.float32)

    assert np.isnan(computed(op, x)).all()


def test_halves_are_rounded_to_even() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388609.0], np.float32)

    np.testing.assert_array_equal(computed(Round(), x), np.round(x))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "float32"])
def test_signs_of_all_types(dtype: str) -> None:
    limits = np.finfo(dtype) if dtype == "float32" else np.iinfo(dtype)
    x = np.array([limits.min, -7, -1, 0, 1, 7, limits.max]).astype(dtype)

    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(computed(Sign(), x), np.sign(x))
        np.testing.assert_array_equal(computed(Abs(), x), np.abs(x))
        if dtype != "uint8":
            np.testing.assert_array_equal(computed(Neg(), x), -x)
