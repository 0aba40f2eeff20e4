from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op
from edgec.ops import ConvInteger, MatMul, MatMulInteger
from edgec.passes import DecomposeIntegerProducts
from tests.targets.graphs import Net

decompose = DecomposeIntegerProducts()


def u8(*shape: int, seed: int = 0, low: int = 0, high: int = 256) -> Array:
    return np.asarray(np.random.default_rng(seed).integers(low, high, shape), np.uint8)


def same(graph: Graph, **feeds: Array) -> list[str]:
    """Decompose, compare every integer and return the kinds of the nodes."""
    after = decompose.run(graph)
    want, got = evaluate(graph, feeds), evaluate(after, feeds)

    np.testing.assert_array_equal(want["y"], got["y"])
    assert decompose.run(after) is after
    return [type(n.op).__name__ for n in after.nodes]


def product(op: Op, x: Array, *rest: Array | None) -> Graph:
    net = Net(DType.UINT8, x=x.shape)
    return net.graph(net.add("y", op, "x", *rest))


def test_a_product_of_matrices() -> None:
    a, b = u8(3, 5), u8(5, 4, seed=1)

    assert same(product(MatMulInteger(), a, b), x=a) == ["Cast", "Cast", "MatMul", "Cast"]


ZEROS = [
    (np.array(9, np.uint8), np.array(7, np.uint8)),
    (None, np.arange(4, dtype=np.uint8)),
    (np.array([9], np.uint8), np.array([7], np.uint8)),
]


@pytest.mark.parametrize("zeros", ZEROS)
def test_zero_points_are_taken_off(zeros: tuple[Array | None, Array]) -> None:
    a, b = u8(2, 3, 5), u8(5, 4, seed=1)

    assert "Sub" in same(product(MatMulInteger(), a, b, *zeros), x=a)


def test_a_zero_point_a_row() -> None:
    """ONNX Runtime has none, so numpy is asked."""
    a, b, zero = u8(3, 5), u8(5, 4, seed=1), np.array([1, 2, 200], np.uint8)
    after = decompose.run(product(MatMulInteger(), a, b, zero))

    want = (a.astype(np.int64) - zero[:, None]) @ b.astype(np.int64)
    np.testing.assert_array_equal(evaluate(after, {"x": a})["y"], want)


def parts(length: int, largest: int) -> int:
    """In how many parts a product over `length` elements is computed."""
    a = np.full((1, length), 255, np.uint8)
    b = np.full((length, 2), largest, np.uint8)
    return same(product(MatMulInteger(), a, b), x=a).count("MatMul")


def test_long_sums_are_cut_where_floats_would_round() -> None:
    """``258 * 255 * 255`` is the last below ``2 ** 24``."""
    assert [parts(length, 255) for length in (258, 259, 517, 1000)] == [1, 2, 3, 4]
    assert parts(1000, 64) == 1


def test_computed_weights_are_taken_for_the_largest() -> None:
    net = Net(DType.UINT8, x=(2, 300), w=(300, 2))
    graph = net.graph(net.add("y", MatMulInteger(), "x", "w"))

    kinds = same(graph, x=u8(2, 300, low=250), w=u8(300, 2, low=250))
    assert kinds.count("MatMul") == 2


CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], bool]] = [
    ({}, (1, 3, 5, 6), (4, 3, 3, 2), True),
    (
        {"stride": (2, 1), "pad": (1, 0, 2, 1), "dilation": (1, 2)},
        (1, 3, 5, 6),
        (4, 3, 3, 2),
        True,
    ),
    ({"groups": 2}, (1, 4, 5, 6), (4, 2, 3, 2), False),
]


@pytest.mark.parametrize(("fields", "x", "w", "zeros"), CONVOLUTIONS)
def test_convolutions(fields: dict[str, Any], x: tuple[int, ...], w: tuple[int, ...],
                      zeros: bool) -> None:  # fmt: skip
    given = (np.array(12, np.uint8), np.array(7, np.uint8)) if zeros else ()
    image = u8(*x)

    kinds = same(product(ConvInteger(**fields), image, u8(*w, seed=1), *given), x=image)
    assert ("GroupedConv" if fields.get("groups") else "Conv") in kinds


def test_a_zero_point_an_output_channel() -> None:
    """ONNX Runtime has none, so the same with one zero point is asked, channel by channel."""
    x, w, zero = u8(1, 2, 4, 4), u8(3, 2, 2, 2, seed=1), np.array([1, 2, 200], np.uint8)
    after = decompose.run(product(ConvInteger(), x, w, None, zero))

    for k in range(3):
        want = evaluate(product(ConvInteger(), x, w, None, zero[k : k + 1]), {"x": x})["y"][
            :, k
        ]
        np.testing.assert_array_equal(evaluate(after, {"x": x})["y"][:, k], want)


def test_many_channels_are_added_up_in_parts() -> None:
    x = np.full((1, 40, 4, 4), 255, np.uint8)
    graph = product(ConvInteger(), x, np.full((2, 40, 3, 3), 255, np.uint8))

    assert same(graph, x=x).count("Conv") == 2


@pytest.mark.parametrize(("x", "w", "groups"), [
    ((1, 80, 4, 4), (2, 40, 3, 3), 2),  # groups are not cut
    ((1, 1, 20, 20), (1, 1, 17, 17), 1),  # neither is one channel
])  # fmt: skip
def test_what_cannot_be_cut_stays(x: tuple[int, ...], w: tuple[int, ...], groups: int) -> None:
    graph = product(ConvInteger(groups=groups), u8(*x), np.full(w, 255, np.uint8))

    assert decompose.run(graph) is graph


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 5), (5, 4)), ((5,), (2, 5, 4)), ((2, 3, 5), (5,)), ((5,), (5,)),
     ((2, 1, 3, 5), (4, 5, 2))],
    ids=str,
)  # fmt: skip
def test_wide_integers_are_multiplied_pair_by_pair(
    dtype: type, a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    x: Array = rng.integers(-(2**14), 2**14, a).astype(dtype)
    y: Array = rng.integers(-(2**14), 2**14, b).astype(dtype)
    net = Net(DType.of(np.dtype(dtype)), x=a)
    graph = net.graph(net.add("y", MatMul(), "x", y))

    assert same(graph, x=x)[-3:] == ["Mul", "ReduceSum", "Reshape"]


def test_keeps_products_of_floats_and_of_too_many_pairs() -> None:
    net = Net(DType.INT32, x=(3, 5))
    graph = net.graph(net.add("y", MatMul(), "x", np.ones((5, 4), np.int32)))
    assert DecomposeIntegerProducts(59).run(graph) is graph
    assert DecomposeIntegerProducts(60).run(graph) is not graph
    net = Net(x=(3, 5))
    floats = net.graph(net.add("y", MatMul(), "x", np.ones((5, 4), np.float32)))
    assert decompose.run(floats) is floats
