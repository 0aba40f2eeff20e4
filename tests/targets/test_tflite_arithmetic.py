"""Powers, remainders, quotients and bits in TFLite, against numpy on the whole range of a type.

ONNX Runtime lacks several of these on signed integers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op
from edgec.ops import BitShift, BitwiseAnd, BitwiseNot, BitwiseOr, BitwiseXor, Div, Mod, Pow
from edgec.targets import Tflite
from tests.targets.graphs import Net, f32, one_op, ran, random

INTEGERS = ["int8", "uint8", "int16", "int32", "int64"]


def with_inputs(op: Op, *arrays: Array) -> Graph:
    net = Net()
    for k, a in enumerate(arrays):
        made = Net(DType.of(a.dtype), **{f"i{k}": a.shape})
        net.values |= made.values
        net.inputs += made.inputs
    return net.graph(net.add("y", op, *(f"i{k}" for k in range(len(arrays)))))


def computed(op: Op, *arrays: Array) -> Array:
    """What LiteRT makes of inputs of the model."""
    feeds = {f"i{k}": a for k, a in enumerate(arrays)}
    return ran(Tflite(), with_inputs(op, *arrays), feeds)[0]["y"]


def frozen(op: Op, *arrays: Array) -> Array:
    """What LiteRT makes of one input and constants."""
    graph, feeds = one_op(op, *arrays)
    return ran(Tflite(), graph, feeds)[0]["y"]


def numbers(dtype: str, *shape: int, seed: int = 0) -> Array:
    """Numbers of the whole range and small ones, no zero, no pair that overflows."""
    limits, rng = np.iinfo(dtype), np.random.default_rng(seed)
    found = rng.integers(limits.min + 1, limits.max, shape, dtype)
    small = rng.integers(max(limits.min, -9), 10, shape).astype(dtype)
    found = np.where(rng.integers(0, 2, shape) > 0, found, small)
    found[found == 0] = 3
    found.flat[0], found.flat[-1] = limits.max, max(limits.min + 1, 1)
    return found


def shifted(left: bool) -> Callable[[Array, Array], Array]:
    """Bits moved as ONNX says, one number at a time."""

    def one(x: int, by: int, width: int) -> int:
        if not 0 <= by < width:
            return -1 if x < 0 and not left else 0
        return (x << by) & (2**width - 1) if left else x >> by

    def run(x: Array, by: Array) -> Array:
        width = x.dtype.itemsize * 8
        pairs = np.broadcast(x, by)
        found = np.array([one(int(a), int(n), width) for a, n in pairs], object)
        unsigned = found.reshape(pairs.shape) & (2**width - 1)
        return np.asarray(unsigned.astype(f"u{width // 8}").view(x.dtype))

    return run


def quotient(a: Array, b: Array) -> Array:
    pairs = np.broadcast(a, b)
    found = [abs(int(p)) // abs(int(q)) * (1 if (p < 0) == (q < 0) else -1) for p, q in pairs]
    return np.array(found, a.dtype).reshape(pairs.shape)


CASES: list[tuple[str, Op, Callable[[Array, Array], Array]]] = [
    ("mod", Mod(), np.mod),
    ("fmod", Mod(fmod=True), np.fmod),
    ("div", Div(), quotient),
    ("and", BitwiseAnd(), np.bitwise_and),
    ("or", BitwiseOr(), np.bitwise_or),
    ("xor", BitwiseXor(), np.bitwise_xor),
]


@pytest.mark.parametrize("run", [computed, frozen])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(("op", "reference"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_functions_of_two_integers(
    op: Op, reference: Callable[[Array, Array], Array], dtype: str, run: Callable[..., Array]
) -> None:
    a, b = numbers(dtype, 20, 3, 4), numbers(dtype, 3, 1, seed=1)

    got = run(op, a, b)

    assert got.dtype == dtype
    np.testing.assert_array_equal(got, reference(a, b))
    np.testing.assert_array_equal(run(op, b, a), reference(b, a))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bits_that_are_not_there(dtype: str) -> None:
    x = numbers(dtype, 4, 5)

    np.testing.assert_array_equal(frozen(BitwiseNot(), x), ~x)


@pytest.mark.parametrize("run", [computed, frozen])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_bits_are_moved(dtype: str, left: bool, run: Callable[..., Array]) -> None:
    width = np.dtype(dtype).itemsize * 8
    x = numbers(dtype, 9, 1)
    by = np.array([*range(width), width, width + 5, 100]).astype(dtype)
    if dtype != "uint8":
        by[-1] = -1

    np.testing.assert_array_equal(run(BitShift(left), x, by), shifted(left)(x, by))


def test_remainders_of_floats() -> None:
    a, b = 10 * random(50), 3 * random(50, seed=1)
    a[:4], b[:4] = [-1e-9, 5, -5, 3], [1, np.inf, np.inf, 0]

    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(computed(Mod(fmod=True), a, b), np.fmod(a, b), rtol=1e-6)
        np.testing.assert_allclose(computed(Mod(), a, b)[4:], np.mod(a, b)[4:], rtol=1e-5)


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 2.5])
def test_powers_by_a_constant(exponent: float) -> None:
    x = np.abs(random(3, 4)) + np.float32(0.1)

    got = frozen(Pow(), x, f32(exponent))
    np.testing.assert_allclose(got, x**exponent, rtol=1e-5)
    np.testing.assert_allclose(frozen(Pow(), x, f32([[[exponent]]])), got[None], rtol=1e-5)


@pytest.mark.parametrize("base", ["int32", "int64", "float32"])
@pytest.mark.parametrize("exponent", [*INTEGERS, "float32"])
def test_powers_of_all_pairs_of_types(base: str, exponent: str) -> None:
    x = np.array([[-3, -1, 0, 1, 2, 5]]).T.astype(base)
    e = np.array([0, 1, 2, 3, 5, 8]).astype(exponent)
    want = x.astype(np.float64) ** e.astype(np.float64)

    got = computed(Pow(), x, e)
    assert got.dtype == base
    np.testing.assert_allclose(got, want)
    np.testing.assert_allclose(frozen(Pow(), x, e), want)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_powers_of_integers_that_are_large_or_negative(dtype: str) -> None:
    x = np.array([[-1, 1, 2, -2, 0]]).T.astype(dtype)
    e = np.array([-3, -2, -1, 0, 30, 62 if dtype == "int64" else 29, 101, 102]).astype(dtype)

    got = computed(Pow(), x, e)

    np.testing.assert_array_equal(got[0], (-1) ** np.abs(e))
    np.testing.assert_array_equal(got[1], np.ones(8))
    for row, base in ((2, 2), (3, -2)):
        np.testing.assert_array_equal(got[row, :6], [0, 0, 0, 1, base**30, base ** int(e[5])])
    np.testing.assert_array_equal(got[4, 3:], [1, 0, 0, 0, 0])


@pytest.mark.parametrize("exponent", [2, 3, 7, 20])
def test_constant_powers_of_integers_are_products(exponent: int) -> None:
    x = np.arange(-4, 5)
    graph, feeds = one_op(Pow(), x, np.array(exponent))

    got, artifact, _ = ran(Tflite(), graph, feeds)

    np.testing.assert_array_equal(got["y"], x**exponent)
    assert set(artifact.operators) == {"MUL"}


def test_a_square_is_what_onnxruntime_computes() -> None:
    graph, feeds = one_op(Pow(), random(1, 3, 4, 4), f32(2))

    got, artifact, _ = ran(Tflite(), graph, feeds)

    np.testing.assert_allclose(got["y"], evaluate(graph, feeds)["y"], rtol=1e-6)
    assert artifact.operators == {"MUL": 1}
