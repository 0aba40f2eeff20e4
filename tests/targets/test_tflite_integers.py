"""Integer and bool types in TFLite: wrapped, truncated and compared as ONNX says.

The reference is numpy, because ONNX Runtime lacks several of these operators on small integers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.ir import Array, DType, Op
from edgec.ops import (
    Add,
    Cast,
    Clip,
    Div,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Max,
    Min,
    Mul,
    Relu,
    Sub,
    Where,
)
from edgec.targets import Tflite
from tests.targets.graphs import Net, one_op, ran

INTEGERS = ["int8", "uint8", "int16", "int32", "int64"]
NARROW = ["int8", "uint8", "int16", "int32"]


def integers(dtype: str, *shape: int, seed: int = 0) -> Array:
    """Numbers of the whole range, zero left out, both ends included."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    found = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    found[found == 0] = 1
    found.flat[0], found.flat[-1] = limits.min or 1, limits.max
    return found


def computed(op: Op, *arrays: Array) -> Array:
    """What LiteRT makes of two or more inputs of the model."""
    net = Net()
    for k, a in enumerate(arrays):
        made = Net(DType.of(a.dtype), **{f"i{k}": a.shape})
        net.values |= made.values
        net.inputs += made.inputs
    net.add("y", op, *(f"i{k}" for k in range(len(arrays))))
    feeds = {f"i{k}": a for k, a in enumerate(arrays)}
    return ran(Tflite(), net.graph("y"), feeds)[0]["y"]


def frozen(op: Op, *arrays: Array) -> Array:
    """What LiteRT makes of one input and constants."""
    graph, feeds = one_op(op, *arrays)
    return ran(Tflite(), graph, feeds)[0]["y"]


def quotient(a: Array, b: Array) -> Array:
    """Rounded towards zero; the one quotient that does not fit wraps around."""
    wide = np.abs(a.astype(np.int64)) // np.abs(b.astype(np.int64))
    return (wide * np.sign(a) * np.sign(b)).astype(a.dtype)


BINARY: list[tuple[Op, Callable[[Array, Array], Array], list[str]]] = [
    (Add(), np.add, INTEGERS),
    (Sub(), np.subtract, INTEGERS),
    (Mul(), np.multiply, INTEGERS),
    (Div(), quotient, NARROW[:3]),
    (Max(), np.maximum, INTEGERS),
    (Min(), np.minimum, INTEGERS),
    (Equal(), np.equal, INTEGERS),
    (Greater(), np.greater, INTEGERS),
    (GreaterOrEqual(), np.greater_equal, INTEGERS),
    (Less(), np.less, INTEGERS),
    (LessOrEqual(), np.less_equal, INTEGERS),
]


@pytest.mark.parametrize("run", [computed, frozen])
@pytest.mark.parametrize(
    ("op", "reference", "dtype"),
    [
        pytest.param(op, f, dtype, id=f"{type(op).__name__}-{dtype}")
        for op, f, dtypes in BINARY
        for dtype in dtypes
    ],
)
def test_functions_of_two_integers(
    op: Op, reference: Callable[[Array, Array], Array], dtype: str, run: Callable[..., Array]
) -> None:
    a, b = integers(dtype, 2, 3, 4), integers(dtype, 3, 1, seed=1)
    a[:, :, 1] = b[:, 0]  # so that some are equal

    with np.errstate(over="ignore"):
        want = reference(a, b)
    got = run(op, a, b)

    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_division_of_wider_integers_rounds_towards_zero() -> None:
    a, b = np.array([7, -7, 7, -7, 2**31 - 1], np.int32), np.array([2, 2, -2, -2, 3], np.int32)

    np.testing.assert_array_equal(computed(Div(), a, b), [3, -3, -3, 3, (2**31 - 1) // 3])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bounds_of_integers(dtype: str) -> None:
    x = integers(dtype, 3, 5)
    limits = np.iinfo(dtype)

    np.testing.assert_array_equal(frozen(Relu(), x), np.maximum(x, 0))
    np.testing.assert_array_equal(frozen(Clip(0, 6), x), np.clip(x, 0, 6))
    np.testing.assert_array_equal(frozen(Clip(high=5), x), np.minimum(x, 5))
    np.testing.assert_array_equal(frozen(Clip(limits.min, limits.max), x), x)
    np.testing.assert_array_equal(frozen(Clip(limits.max, 3), x), np.full_like(x, 3))


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool", "float32"])
def test_a_choice_between_values_of_any_type(dtype: str) -> None:
    a = integers("int8", 2, 3, 4).astype(dtype)
    b = integers("int8", 3, 1, seed=1).astype(dtype)
    condition = np.random.default_rng(2).integers(0, 2, (2, 3, 1)).astype(bool)

    np.testing.assert_array_equal(computed(Where(), condition, a, b), np.where(condition, a, b))


@pytest.mark.parametrize("after", [*INTEGERS, "bool", "float32"])
@pytest.mark.parametrize("before", [*INTEGERS, "bool", "float32"])
def test_casts_cut_off_fractions_and_wrap_around(before: str, after: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-100, 100, (3, 7)) if before == "float32" else integers("int32", 3, 7)
    x = x.astype(before)
    if (before, after) == ("float32", "uint8"):
        x = np.abs(x)  # the result is not defined where it does not fit
    x.flat[3] = 0
    x.flat[4] = 0.5 if before == "float32" else x.flat[4]

    np.testing.assert_array_equal(frozen(Cast(DType.of(np.dtype(after))), x), x.astype(after))
