"""Reductions, places of extremes and running totals in TFLite, for all types and layouts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.ir import Array, DType, Op
from edgec.ops import (
    ArgMax,
    ArgMin,
    Conv,
    CumProd,
    CumSum,
    Dropout,
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
)
from edgec.targets import Tflite
from tests.targets.graphs import Net, one_op, ran, random

INTEGERS = ["int8", "uint8", "int16", "int32", "int64"]


def computed(op: Op, x: Array) -> Array:
    graph, feeds = one_op(op, x)
    return ran(Tflite(), graph, feeds)[0]["y"]


def behind_a_layer(op: Op, x: Array) -> tuple[Array, Array]:
    """What a layer gives, which is stored channels-last, and what becomes of that."""
    net = Net(x=x.shape)
    net.add("front", Conv(), "x", random(3, x.shape[1], 1, 1))
    net.add("y", op, "front")
    found = ran(Tflite(), net.graph("front", "y"), {"x": x})[0]
    return found["front"], found["y"]


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_places_of_extremes(dtype: str, keepdims: bool, last: bool) -> None:
    x = np.random.default_rng(0).integers(0, 3, (2, 5, 3)).astype(dtype)
    x.flat[4] = 100

    for axis in (0, 1, 2):
        for op, place in ((ArgMax, np.argmax), (ArgMin, np.argmin)):
            got = computed(op(axis, keepdims, last), x)
            want = place(np.flip(x, axis) if last else x, axis, keepdims=keepdims)
            assert got.dtype == np.int64
            np.testing.assert_array_equal(got, x.shape[axis] - 1 - want if last else want)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("keepdims", [False, True])
def test_places_in_images(axis: int, keepdims: bool) -> None:
    image, got = behind_a_layer(ArgMax(axis, keepdims), random(2, 3, 4, 5))

    np.testing.assert_array_equal(got, np.argmax(image, axis, keepdims=keepdims))


REDUCED: list[tuple[Callable[..., Op], Callable[..., Array], list[str]]] = [
    (ReduceMax, np.max, [*INTEGERS, "bool"]),
    (ReduceMin, np.min, [*INTEGERS, "bool"]),
    (ReduceSum, np.sum, ["int32", "int64"]),
    (ReduceProd, np.prod, ["int32", "int64"]),
    (ReduceL1, lambda x, a, **k: np.sum(np.abs(x), a, **k), ["int32", "int64"]),
    (ReduceSumSquare, lambda x, a, **k: np.sum(x * x, a, **k), ["int32", "int64"]),
    (ReduceMean, lambda x, a, **k: np.trunc(np.mean(x, a, **k)), ["int32", "int64"]),
]


@pytest.mark.parametrize(
    ("op", "reference", "dtype"),
    [
        pytest.param(op, f, dtype, id=f"{getattr(op, '__name__', '')}-{dtype}")
        for op, f, dtypes in REDUCED
        for dtype in dtypes
    ],
)
def test_reductions_of_integers_and_bools(
    op: Callable[..., Op], reference: Callable[..., Array], dtype: str
) -> None:
    x = np.random.default_rng(0).integers(-4, 5, (2, 3, 4)).astype(dtype)

    for axes in ((1,), (0, 2), (0, 1, 2)):
        for keepdims in (False, True):
            got = computed(op(axes, keepdims), x)
            want = reference(x, axes, keepdims=keepdims)
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, want.astype(dtype))


COMPOSED: list[tuple[Callable[..., Op], Callable[..., Array]]] = [
    (ReduceL2, lambda x, a, **k: np.sqrt(np.sum(x * x, a, **k))),
    (ReduceLogSum, lambda x, a, **k: np.log(np.sum(x, a, **k))),
    (ReduceLogSumExp, lambda x, a, **k: np.log(np.sum(np.exp(x), a, **k))),
    (ReduceProd, np.prod),
]


@pytest.mark.parametrize("axes", [(1,), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("op", "reference"), COMPOSED)
def test_composed_reductions_of_images(
    op: Callable[..., Op],
    reference: Callable[..., Array],
    axes: tuple[int, ...],
    keepdims: bool,
) -> None:
    image, got = behind_a_layer(op(axes, keepdims), random(2, 3, 4, 5))

    with np.errstate(invalid="ignore"):
        want = reference(image, axes, keepdims=keepdims)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_sums_of_exponentials_do_not_overflow() -> None:
    x = np.array([[1000, 999], [-1000, -1001], [np.inf, 1], [-np.inf, -np.inf]], np.float32)

    got = computed(ReduceLogSumExp((1,), keepdims=False), x)

    want = [1000 + np.log(1 + np.exp(-1)), -1000 + np.log(1 + np.exp(-1)), np.inf, -np.inf]
    np.testing.assert_allclose(got, want, rtol=1e-6)


EMPTY: list[tuple[Op, float]] = [
    (ReduceSum((1,)), 0), (ReduceL1((1,)), 0), (ReduceL2((1,)), 0), (ReduceProd((1,)), 1),
    (ReduceMax((1,)), -np.inf), (ReduceMin((1,)), np.inf), (ReduceLogSum((1,)), -np.inf),
    (ReduceLogSumExp((1,)), -np.inf), (ReduceSumSquare((1,)), 0),
]  # fmt: skip


@pytest.mark.parametrize(("op", "want"), EMPTY, ids=lambda v: str(v))
def test_reductions_of_nothing(op: Op, want: float) -> None:
    got = computed(op, np.zeros((2, 0, 4), np.float32))

    np.testing.assert_array_equal(got, np.full((2, 1, 4), want))


@pytest.mark.parametrize("op", [ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSumExp])
def test_a_reduction_along_no_axis_still_computes_its_function(op: Callable[..., Op]) -> None:
    x = np.array([-2.0, 3.0], np.float32)

    square = op is ReduceSumSquare
    want = x * x if square else x if op is ReduceLogSumExp else np.abs(x)
    np.testing.assert_allclose(computed(op(()), x), want, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_totals(dtype: str, exclusive: bool, reverse: bool) -> None:
    x = np.random.default_rng(0).integers(-3, 4, (2, 3, 7, 1)).astype(dtype)

    for axis in range(4):
        for op, total, unit in ((CumSum, np.cumsum, 0), (CumProd, np.cumprod, 1)):
            want = np.flip(x, axis) if reverse else x
            if exclusive:
                first = np.full_like(np.take(want, [0], axis), unit)
                rest = np.take(want, range(x.shape[axis] - 1), axis)
                want = np.concatenate([first, rest], axis)
            want = total(want, axis, dtype=x.dtype)
            want = np.flip(want, axis) if reverse else want
            np.testing.assert_allclose(computed(op(axis, exclusive, reverse), x), want)


@pytest.mark.parametrize("axis", [1, 3])
def test_running_totals_of_images(axis: int) -> None:
    image, got = behind_a_layer(CumProd(axis), random(1, 3, 4, 5))

    np.testing.assert_allclose(got, np.cumprod(image, axis), rtol=1e-5)


def test_a_mask_keeps_everything() -> None:
    graph, feeds = one_op(Dropout(), random(2, 3))
    found = ran(Tflite(), graph, feeds)[0]

    np.testing.assert_array_equal(found["y"], feeds["x"])
    np.testing.assert_array_equal(found["y1"], np.ones((2, 3), bool))
    assert DType.of(found["y1"].dtype) is DType.BOOL
