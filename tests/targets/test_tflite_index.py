"""Operators that pick, put and choose by index: computed indices, all element types, ties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op, TensorType, Value
from edgec.ops import (
    Add,
    Col2Im,
    DepthToSpace,
    EyeLike,
    Gather,
    GatherElements,
    GatherND,
    OneHot,
    ReverseSequence,
    ScatterElements,
    ScatterND,
    Shape,
    Size,
    SpaceToDepth,
    TensorScatter,
    TopK,
    Transpose,
    Trilu,
)
from edgec.targets import Tflite
from tests.targets.graphs import Net, one_op, quantized, ran, random

TYPES = [DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64]
INDEX = [DType.INT32, DType.INT64]


Arrays = Mapping[str, Array]


def assert_same(graph: Graph, feeds: Arrays, want: Arrays | None = None) -> None:
    got, _, _ = ran(Tflite(), graph, feeds)
    for name, array in (want or evaluate(graph, feeds)).items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-6)


def fed(op: Op, **arrays: Array) -> tuple[Graph, dict[str, Array]]:
    """Return a graph of one operator, all of whose operands are fed."""
    net = Net()
    net.inputs = tuple(
        Value(k, TensorType(DType.of(a.dtype), a.shape)) for k, a in arrays.items()
    )
    net.values = {v.name: v for v in net.inputs}
    net.add("y", op, *arrays)
    return net.graph(*(v.name for v in net.nodes[0].outputs)), arrays


def ints(*shape: int, below: int, dtype: DType = DType.INT64) -> Array:
    """Random indices, half of them counted from the end."""
    return np.random.default_rng(4).integers(-below, below, shape).astype(dtype.numpy)


X = random(2, 3, 4, 5)
PICKS = [
    (Gather(2), ints(2, 3, below=4)),
    (GatherElements(0), ints(4, 3, 4, 5, below=2)),
    (GatherElements(3), ints(2, 2, 1, 9, below=5)),
    (GatherElements(1), ints(2, 7, 4, 5, below=3)),
    (GatherND(), ints(6, 1, below=2)),
    (GatherND(), ints(2, 6, 4, below=2)),
    (GatherND(1), ints(2, 3, 2, below=3)),
    (GatherND(2), ints(2, 3, 7, 1, below=4)),
]


@pytest.mark.parametrize("wide", INDEX, ids=lambda t: t.value)
@pytest.mark.parametrize(("op", "indices"), PICKS, ids=[str(op) for op, _ in PICKS])
def test_picking_by_computed_indices(op: Op, indices: Array, wide: DType) -> None:
    known = one_op(op, X, indices)
    want = evaluate(*known)["y"]

    assert_same(*fed(op, x=X, i=indices.astype(wide.numpy)), {"y": want})
    assert_same(*known)


UNIQUE = np.array([[[[2], [0], [-1]], [[-1], [4], [1]]]])
TWICE = ints(2, 4, 2, 3, below=3)
TWICE[1, 3] = TWICE[1, 2]
REDUCTIONS = ("none", "add", "mul", "max", "min")
PUTS = [
    *((ScatterElements(1, r), TWICE, TWICE.shape) for r in REDUCTIONS),
    (ScatterElements(3), UNIQUE, UNIQUE.shape),
    *((ScatterND(r), np.array([[0, 1], [-1, 2], [0, -2]]), (3, 4, 5))
      for r in REDUCTIONS),
    (ScatterND(), np.array([[[0, 1, -1, 2]]]), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.value)
@pytest.mark.parametrize(("op", "indices", "shape"), PUTS, ids=[str(p[0]) for p in PUTS])
def test_putting_at_indices(
    op: Op, indices: Array, shape: tuple[int, ...], dtype: DType
) -> None:
    """Small numbers, so that no product overflows."""
    x = (3 * np.abs(X)).astype(dtype.numpy)
    updates = (3 * np.abs(random(*shape, seed=8))).astype(dtype.numpy)
    if dtype in (DType.UINT8, DType.INT8, DType.INT16):  # which ONNX Runtime cannot reduce
        wide = one_op(op, x.astype(np.int32), indices, updates.astype(np.int32))
        want = evaluate(*wide)["y"].astype(dtype.numpy)
    else:
        want = evaluate(*one_op(op, x, indices, updates))["y"]
    if dtype is DType.INT64 and getattr(op, "reduction", "") in ("mul", "max", "min"):
        assert Tflite().check(one_op(op, x, indices, updates)[0])
        return

    assert_same(*fed(op, x=x, i=indices, u=updates), {"y": want})
    assert_same(*one_op(op, x, indices, updates), {"y": want})


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_infinities_are_compared_like_other_numbers(reduction: str) -> None:
    x = np.array([-np.inf, np.inf, 1, 2], np.float32)
    updates = np.array([-np.inf, -np.inf, np.inf, np.inf, 5], np.float32)
    indices = np.array([0, 1, 0, 2, 2])

    assert_same(*fed(ScatterElements(reduction=reduction), x=x, i=indices, u=updates))
    for index in range(4):
        one = np.array([index])
        for update in (-np.inf, np.inf):
            u = np.array([update], np.float32)
            assert_same(*fed(ScatterElements(reduction=reduction), x=x, i=one, u=u))


def test_scattering_nothing_changes_nothing() -> None:
    assert_same(*one_op(ScatterND(), X, np.zeros((0, 2), np.int64), X[:0, 0]))


def test_rows_that_are_all_replaced_are_not_read() -> None:
    indices = np.array([[1], [0], [1]])
    graph, feeds = one_op(ScatterND(), X, indices, random(3, 3, 4, 5, seed=1))

    assert_same(graph, feeds)
    assert "CONCATENATION" not in Tflite().compile(graph).operators


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_cache_is_written_where_the_places_say(axis: int, circular: bool) -> None:
    op = TensorScatter(axis, circular)
    update = random(2, *(2 if a == axis else n for a, n in enumerate((3, 4, 5), 1)), seed=1)
    places = np.array([2, 0]) if circular else np.array([1, 0])
    want = X.copy()
    for batch, start in enumerate(places):
        table, new = (np.moveaxis(a[batch], axis - 1, 0) for a in (want, update))
        for i in range(2):
            table[(start + i) % len(table)] = new[i]

    assert_same(*fed(op, x=X, u=update, w=places), {"y": want})
    assert_same(*one_op(op, X, update, places), {"y": want})


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.value)
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_top_k_takes_the_lower_index_of_equals(axis: int, largest: bool, dtype: DType) -> None:
    x = np.random.default_rng(1).integers(0, 4, (5, 9, 6)).astype(dtype.numpy)
    if dtype is not DType.UINT8:
        x[2] = np.negative(x[2])
    limits: Any = np.finfo if dtype is DType.FLOAT32 else np.iinfo
    x[0, 0, 0], x[1, 1, 1] = limits(dtype.numpy).min, limits(dtype.numpy).max
    order = np.argsort(x if not largest else -x.astype(np.float64), axis, kind="stable")
    order = order.take(range(4), axis)
    want = {"y": np.take_along_axis(x, order, axis), "y1": order}

    assert_same(*one_op(TopK(4, axis, largest), x), want)


def test_top_k_of_an_image_works_along_its_channels() -> None:
    net = Net(x=(1, 4, 5, 6))
    net.add("turned", Transpose((0, 3, 1, 2)), "x")
    net.add("y", TopK(2, 1), "turned")
    graph = net.graph("y", "y1")

    assert_same(graph, {"x": random(1, 4, 5, 6)})
    assert Tflite().compile(graph).operators["TRANSPOSE"] == 2  # of the outputs


@pytest.mark.parametrize("dtype", [*TYPES, DType.BOOL], ids=lambda t: t.value)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_hot_of_any_type(axis: int, dtype: DType) -> None:
    indices = np.array([[0, 2, -1], [4, -4, -5]])
    for off, on in ((0, 1), (1, 0), (3, 7)):
        values = np.array([off, on]).astype(dtype.numpy)
        hot = indices[..., None] % 4 == np.arange(4)
        hot[1, ::2] = False  # beyond the depth, either way
        want = np.moveaxis(np.where(hot, values[1], values[0]), -1, axis)
        op = OneHot(4, axis, float(values[0]), float(values[1]), dtype)
        for kind in (np.int64, np.int32, np.int8, np.float32):
            assert_same(*one_op(op, indices.astype(kind)), {"y": want})


BLOCKED = [DType.INT16, DType.BOOL, DType.INT8, DType.INT64]
EVERY = [*TYPES, DType.BOOL]


@pytest.mark.parametrize("dtype", EVERY, ids=lambda t: t.value)
def test_triangles_blocks_and_sequences_of_any_type(dtype: DType) -> None:
    x = (9 * random(2, 8, 4, 6)).astype(dtype.numpy)
    depth = x.reshape(2, 2, 2, 2, 4, 6).transpose(0, 3, 4, 1, 5, 2).reshape(2, 2, 8, 12)
    space = x.reshape(2, 8, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(2, 32, 2, 3)
    lengths = np.array([8, 3])
    turned = x.copy()
    for i, n in enumerate(lengths):
        turned[i, :n] = x[i, :n][::-1]

    assert_same(*one_op(Trilu(1), x), {"y": np.triu(x, 1)})
    assert_same(*one_op(Trilu(-1, upper=False), x), {"y": np.tril(x, -1)})
    assert_same(*one_op(DepthToSpace(2), x), {"y": depth})
    assert_same(*one_op(SpaceToDepth(2), x), {"y": space})
    assert_same(*one_op(ReverseSequence(1, 0), x, lengths), {"y": turned})
    assert_same(*fed(ReverseSequence(1, 0), x=x, n=lengths), {"y": turned})


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.value)
def test_columns_of_any_type_are_added(dtype: DType) -> None:
    op = Col2Im((5, 5), (2, 3), (2, 1), (1, 2), (0, 1, 1, 0))
    x = np.arange(6 * 2 * 6, dtype=dtype.numpy).reshape(2, 6, 6) % 7
    want = evaluate(*one_op(op, x.astype(np.float32)))["y"].astype(dtype.numpy)

    assert_same(*one_op(op, x), {"y": want})


def test_shapes_as_outputs() -> None:
    net = Net(x=(2, 3, 4, 5))
    net.add("turned", Transpose((0, 2, 3, 1)), "x")
    for name, op in {"all": Shape(), "some": Shape(1, -1), "size": Size()}.items():
        net.add(name, op, "turned")

    assert_same(net.graph("all", "some", "size"), {"x": random(2, 3, 4, 5)})


def test_an_output_that_reads_no_input() -> None:
    assert_same(*one_op(EyeLike(1, DType.INT32), random(3, 4)))


MOVES = [
    (Gather(1), ints(2, below=4)),
    (GatherElements(1), ints(1, 2, 4, 4, below=4)),
    (GatherND(), ints(3, 2, below=1)),
    (Trilu(1),),
    (SpaceToDepth(2),),
    (DepthToSpace(2),),
    (DepthToSpace(2, column_first=True),),
]


@pytest.mark.parametrize("case", MOVES, ids=lambda case: str(case[0]))
def test_quantized_values_are_picked_as_integers(case: tuple[Op, Array]) -> None:
    op, *more = case
    net = Net(x=(1, 8, 4, 4))
    net.add("doubled", Add(), "x", "x")
    net.add("y", op, "doubled", *more)
    graph, feeds = net.graph("y"), {"x": random(1, 8, 4, 4)}
    made = quantized(graph, feeds)

    got, artifact, _ = ran(Tflite(io_dtype="int8"), made, feeds)

    assert not {"DEQUANTIZE", "QUANTIZE"} & artifact.operators.keys()
    step = made.producers[made.outputs[0]].op.params.scale[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(got["y"], evaluate(made, feeds)["y"], atol=1.01 * step)


def test_quantized_values_are_put_as_integers() -> None:
    net = Net(x=(1, 8, 4), u=(2, 8, 4))
    net.add("y", ScatterND(), "x", np.array([[0], [0]]), "u")
    graph = net.graph("y")
    feeds = {"x": random(1, 8, 4), "u": random(2, 8, 4, seed=1)}

    _, artifact, _ = ran(Tflite(io_dtype="int8"), quantized(graph, feeds), feeds)

    assert not {"DEQUANTIZE", "QUANTIZE"} & artifact.operators.keys()
