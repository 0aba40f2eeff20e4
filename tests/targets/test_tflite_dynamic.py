"""Results as long as the data say: found when the model runs, and only as outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op, TensorType, Value
from edgec.ops import (
    Compress,
    ConstantOfShape,
    NonMaxSuppression,
    NonZero,
    Opaque,
    Range,
    Reshape,
    Unique,
)
from edgec.targets import Tflite
from tests.targets.graphs import Net, ran

TYPES = [DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64]
EVERY = [*TYPES, DType.BOOL]


def drawn(high: int, *shape: int, low: int = 0) -> Array:
    return np.random.default_rng(5).integers(low, high, shape)


def fed(op: Op, *arrays: Array) -> tuple[Graph, dict[str, Array]]:
    """Return a graph of one operator, all of whose operands are fed."""
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    net = Net()
    types = {k: TensorType(DType.of(a.dtype), a.shape) for k, a in feeds.items()}
    net.inputs = tuple(Value(k, t) for k, t in types.items())
    net.values = {v.name: v for v in net.inputs}
    net.add("y", op, *feeds)
    return net.graph(*(v.name for v in net.nodes[0].outputs)), feeds


def assert_same(
    graph: Graph, feeds: Mapping[str, Array], want: Mapping[str, Array] | None = None
) -> None:
    got, artifact, _ = ran(Tflite(), graph, feeds)
    for port in artifact.outputs:
        array = (want or evaluate(graph, feeds))[port.name]
        assert got[port.name].dtype == array.dtype
        np.testing.assert_array_equal(got[port.name], array)
        pairs = zip(port.shape, array.shape, strict=True)
        assert all(isinstance(a, str) or a == b for a, b in pairs)


@pytest.mark.parametrize("dtype", EVERY, ids=lambda t: t.value)
@pytest.mark.parametrize("shape", [(), (6,), (2, 3, 4)])
def test_positions_of_what_is_not_zero(shape: tuple[int, ...], dtype: DType) -> None:
    low = 0 if dtype in (DType.UINT8, DType.BOOL) else -1
    x = np.asarray(drawn(2, *shape, low=low), dtype.numpy)
    want = np.array(np.nonzero(np.atleast_1d(x)), np.int64)

    assert_same(*fed(NonZero(), x), {"y": want})
    assert_same(*fed(NonZero(), np.zeros_like(x)), {"y": want[:, :0]})


@pytest.mark.parametrize("dtype", EVERY, ids=lambda t: t.value)
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_what_a_condition_keeps(axis: int | None, dtype: DType) -> None:
    x = drawn(2, 2, 3, 4).astype(dtype.numpy)
    condition = np.array([True, False, True][: 2 if axis == 0 else 3])
    want = np.compress(condition, x, axis)
    graph, feeds = fed(Compress(axis), x, condition)

    assert_same(graph, feeds, {"y": want})
    net = Net(dtype, x=x.shape)
    net.add("y", Compress(axis), "x", condition)
    assert_same(net.graph("y"), {"x": x}, {"y": want})
    assert net.values["y"].type.is_static


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.value)
@pytest.mark.parametrize(
    "numbers", [(1, 9, 3), (9, 1, -2), (5, 5, 1), (6, 2, 1), (2, 6, -1), (0, 6, 2)]
)
def test_ranges(numbers: tuple[int, int, int], dtype: DType) -> None:
    if dtype is DType.UINT8 and min(numbers) < 0:
        return
    arrays = [np.array(n, dtype.numpy) for n in numbers]

    assert_same(*fed(Range(), *arrays), {"y": np.arange(*numbers).astype(dtype.numpy)})


@pytest.mark.parametrize("dtype", EVERY, ids=lambda t: t.value)
@pytest.mark.parametrize("shape", [(2, 3), (4,), (0, 2)])
def test_constants_of_a_computed_shape(shape: tuple[int, ...], dtype: DType) -> None:
    want = np.full(shape, 1, dtype.numpy)

    assert_same(*fed(ConstantOfShape(1, dtype), np.array(shape)), {"y": want})


@pytest.mark.parametrize("dtype", EVERY, ids=lambda t: t.value)
@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_distinct_values(axis: int | None, ascending: bool, dtype: DType) -> None:
    x = drawn(2, 4, 5, 3)
    x[2], x[:, 3], x[..., 2] = x[0], x[:, 1], x[..., 0]
    op = Unique(axis, ascending)
    want = evaluate(*fed(op, x))

    want["y"] = want["y"].astype(dtype.numpy)
    assert_same(*fed(op, x.astype(dtype.numpy)), want)


def boxes(count: int, centers: bool, seed: int) -> Array:
    """Boxes that overlap a lot, some twice, flipped, empty or less than that."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, 1, (2, count, 4)).astype(np.float32)
    if centers:
        found[..., 2:] *= 0.8
        found[:, 3, 2] = 0
        found[:, 8:10, 2:] *= -1
        found[:, 10:12, 3] *= -1
        found[:, 12], found[:, 13] = found[:, 8], found[:, 10]
    else:
        found[:, 3, 2:] = found[:, 3, :2]
        found[:, 7, 2] = found[:, 7, 0]
    found[:, 5] = found[:, 4]
    return found


@pytest.mark.parametrize("centers", [False, True])
@pytest.mark.parametrize(("most", "overlap", "least"), [
    (3, 0.3, None), (40, 0.0, 0.3), (7, 0.5, 0.25), (2, 0.9, 2.0), (0, 0.5, None),
])  # fmt: skip
@pytest.mark.parametrize("seed", range(4))
def test_overlapping_boxes(
    most: int, overlap: float, least: float | None, centers: bool, seed: int
) -> None:
    """With scores that are equal more often than not."""
    scores = np.random.default_rng(seed).integers(0, 5, (2, 3, 30)) / np.float32(4)
    op = NonMaxSuppression(most, overlap, least, centers)

    assert_same(*fed(op, boxes(30, centers, seed), scores.astype(np.float32)))


def test_a_box_that_overlaps_by_just_the_threshold_stays() -> None:
    corners = np.array([[[0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 1.5]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.7]]], np.float32)
    op = NonMaxSuppression(3, 0.5)

    graph, feeds = fed(op, corners, scores)
    assert len(evaluate(graph, feeds)["y"]) == 2
    assert_same(graph, feeds)


def test_results_of_unknown_length_are_outputs_only() -> None:
    net = Net(x=(2, 3))
    net.add("held", NonZero(), "x")
    net.add("typed", Reshape((-1,)), "held")
    opaque = next(Opaque.examples(np.random.default_rng(0))).op
    net.add("untyped", opaque, "held")

    said = [str(d) for d in Tflite().check(net.graph("typed", "untyped"))]

    rule = (
        "What a layer reads is as long as the model says, whatever the data, but %held of "
        "NonZero() is i64[2,?] (make that an output, and compute what follows after the model)"
    )
    assert said == [f"typed: Reshape(): {rule}", f"untyped: {opaque}: {rule}"]
