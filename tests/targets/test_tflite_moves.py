"""Operators that move elements: all element types, many axes, every direction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op
from edgec.ops import (
    Add,
    Concat,
    Conv,
    Expand,
    Gather,
    Identity,
    MirrorPad,
    Pad,
    ReduceSum,
    Relu,
    Reshape,
    Slice,
    Split,
    Tile,
    Transpose,
    WrapPad,
)
from edgec.targets import Tflite
from tests.targets.graphs import Net, one_op, quantized, ran, random

TYPES = [
    DType.FLOAT32,
    DType.INT8,
    DType.UINT8,
    DType.INT16,
    DType.INT32,
    DType.INT64,
    DType.BOOL,
]


def drawn(dtype: DType, *shape: int) -> Array:
    """Random elements from the whole range of a type."""
    rng = np.random.default_rng(3)
    if dtype is DType.FLOAT32:
        return random(*shape)
    if dtype is DType.BOOL:
        return rng.random(shape) > 0.5
    limits = np.iinfo(dtype.numpy)  # type: ignore[type-var]
    return rng.integers(limits.min, limits.max, shape, dtype.numpy, endpoint=True)


def assert_same(
    graph: Graph, feeds: Mapping[str, Array], want: Mapping[str, Array] | None = None
) -> None:
    """Nothing is computed, so nothing may differ; ONNX Runtime lacks some types of some."""
    got, _, _ = ran(Tflite(), graph, feeds)
    for name, array in (want or evaluate(graph, feeds)).items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


MOVING = [
    (Concat(1), lambda x: np.concatenate([x, x], 1)),
    (Expand((2, 3, 1, 1)), lambda x: np.broadcast_to(x, (2, 3, 4, 5))),
    (Identity(), lambda x: x),
    (MirrorPad((0, 1, 0, 2, 0, 0, 2, 0)), lambda x: padded(x, "reflect")),
    (MirrorPad((0, 1, 0, 2, 0, 0, 2, 0), "edge"), lambda x: padded(x, "edge")),
    (WrapPad((0, 1, 0, 2, 0, 0, 2, 0)), lambda x: padded(x, "wrap")),
    (Pad((0, 1, 0, 2, 0, 0, 2, 0), 1.0), lambda x: padded(x, "constant", constant_values=1)),
    (Pad((0, 1, 0, -2, 0, 0, -1, 0)), lambda x: shifted(x)),
    (Pad((0, 0, 0, -2, 0, 0, -1, 0)), lambda x: x[:, :, :-1, 2:]),
    (Reshape((3, 20)), lambda x: x.reshape(3, 20)),
    (Slice((1, -1), (9, -9), (3, 2), (2, -1)), lambda x: x[:, :, ::-1, 1::2]),
    (Slice((-9, 2), (3, 0), (1, 3), (1, -1)), lambda x: x[..., 2:0:-1]),
    (Split(3, (1, 4)), lambda x: np.split(x, [1], 3)),
    (Split(3, (0, 4, 1)), lambda x: np.split(x, [0, 4], 3)),
    (Split(1, (1, 1, 1)), lambda x: np.split(x, 3, 1)),
    (Tile((1, 2, 1, 3)), lambda x: np.tile(x, (1, 2, 1, 3))),
    (Transpose((3, 0, 2, 1)), lambda x: x.transpose(3, 0, 2, 1)),
]  # fmt: skip


def shifted(x: Array) -> Array:
    return np.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :, :-1, 2:]


def padded(x: Array, mode: str, **more: int) -> Array:
    return np.pad(x, ((0, 0), (1, 0), (0, 2), (2, 0)), mode, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.value)
@pytest.mark.parametrize(("op", "numpy"), MOVING, ids=[str(op) for op, _ in MOVING])
def test_every_type_is_moved(op: Op, numpy, dtype: DType) -> None:  # type: ignore[no-untyped-def]
    x = drawn(dtype, 1, 3, 4, 5)
    graph, feeds = one_op(op, x, *([x] if isinstance(op, Concat) else []))
    found = numpy(x)
    found = found if isinstance(found, list) else [found]

    assert_same(graph, feeds, dict(zip([v.name for v in graph.outputs], found, strict=True)))


SEVEN = (2, 3, 1, 2, 2, 3, 2)
DEEP = [
    Concat(3),
    Expand((2, 3, 4, 2, 2, 3, 2)),
    Gather(4),
    MirrorPad((0, 1, 0, 0, 0, 2, 0) * 2),
    MirrorPad((0, 1, 0, 0, 0, 2, 0) * 2, "edge"),
    Pad((1, 1, 0, 0, 0, 2, 0) * 2),
    Pad((1, 0, 2, 0, 1, 0, 1) * 2, 3.0),
    Reshape((4, -1)),
    Slice((1, -1), (9, -9), (3, 5), (1, -1)),
    Split(5, (2, 1)),
    Tile((1, 2, 3, 1, 1, 1, 2)),
    Transpose((6, 2, 4, 0, 1, 5, 3)),
]


@pytest.mark.parametrize(
    "dtype", [DType.FLOAT32, DType.INT64, DType.INT8], ids=lambda t: t.value
)
@pytest.mark.parametrize("op", DEEP, ids=str)
def test_seven_axes(op: Op, dtype: DType) -> None:
    more = {Concat: drawn(dtype, *SEVEN), Gather: np.array([[1, 0], [-1, 1]])}.get(type(op))

    assert_same(*one_op(op, drawn(dtype, *SEVEN), *([] if more is None else [more])))


MANY = [
    Concat(1),
    MirrorPad((0, 0, 1, 1, 0, 0, 2, 0)),
    MirrorPad((0, 0, 1, 1, 0, 0, 2, 0), "edge"),
    Slice((-1,), (-9,), (2,), (-1,)),
    Split(1, (1, 3)),
    Split(2, (2, 2)),
    Tile((1, 2, 1, 1)),
]


@pytest.mark.parametrize("op", MANY, ids=str)
def test_quantized_images_are_moved_as_integers(op: Op) -> None:
    graph, feeds = one_op(
        op, random(1, 4, 4, 4), *([random(1, 4, 4, 4)] * isinstance(op, Concat))
    )
    made = quantized(graph, feeds)

    got, artifact, _ = ran(Tflite(io_dtype="int8"), made, feeds)

    assert not {"DEQUANTIZE", "QUANTIZE"} & artifact.operators.keys()
    for name, array in evaluate(made, feeds).items():
        np.testing.assert_array_equal(got[name], array)


def test_a_split_of_which_one_part_is_used_in_float_is_computed_in_float() -> None:
    net = Net(x=(1, 4, 4, 4))
    net.add("y", Split(1, (1, 3)), "x")
    graph = quantized(net.graph("y", "y1"), {"x": random(1, 4, 4, 4)})
    mixed = type(graph)(graph.name, graph.inputs, (*graph.outputs, graph.nodes[2].outputs[0]),
                        graph.nodes, graph.constants)  # fmt: skip

    artifact = Tflite().compile(mixed)

    assert artifact.operators["DEQUANTIZE"] >= 1
    assert_same(mixed, {"x": random(1, 4, 4, 4)})


@pytest.mark.parametrize("wide", [DType.INT32, DType.INT64], ids=lambda t: t.value)
@pytest.mark.parametrize(("axis", "shape"), [(0, (2,)), (2, (2, 3)), (1, ())])
def test_indices_that_are_computed_may_be_negative(
    axis: int, shape: tuple[int, ...], wide: DType
) -> None:
    x = random(4, 4, 4)
    net = Net(wide, i=shape)
    net.add("y", Gather(axis), net.const("table", x).name, "i")
    indices = np.resize(np.array([-1, 2, -4], wide.numpy), shape)

    assert_same(net.graph("y"), {"i": indices})


def test_reflected_pads_fit_into_the_value() -> None:
    with pytest.raises(ValueError, match="4 elements to reflect, where 4 are"):
        one_op(MirrorPad((0, 4, 0, 0)), random(2, 4))
    with pytest.raises(ValueError, match="nothing to continue"):
        one_op(MirrorPad((0, 4, 0, 0), "edge"), random(2, 0))


EMPTY = [
    (Concat(0), [np.zeros((0, 3)), np.ones((2, 3))]),
    (Concat(0), [np.ones((2, 3)), np.zeros((0, 3))]),
    (Pad((1, 0, 1, 0), 2.0), [np.zeros((0, 3))]),
    (ReduceSum((0,)), [np.zeros((0, 3))]),
    (Relu(), [np.zeros((2, 0))]),
    (Reshape((0, 5)), [np.zeros((2, 0))]),
    (Transpose((1, 0)), [np.zeros((2, 0))]),
    (Slice((1,), (1,), (0,), (1,)), [np.ones((3, 2))]),
    (Gather(0), [np.ones((3, 2)), np.zeros(0, np.int64)]),
    (Tile((0, 2)), [np.ones((3, 2))]),
    (Conv(), [np.zeros((0, 3, 4, 4)), np.ones((2, 3, 1, 1))]),
    (Transpose(()), [np.array(2.0)]),
    (Reshape((1, 1)), [np.array(2.0)]),
    (Expand((2, 3)), [np.array(2.0)]),
    (Tile(()), [np.array(2.0)]),
    (Add(), [np.array(2.0), np.array(3.0)]),
]


@pytest.mark.parametrize(("op", "arrays"), EMPTY, ids=[str(op) for op, _ in EMPTY])
def test_empty_values_and_scalars(op: Op, arrays: list[Array]) -> None:
    operands = [a if a.dtype == np.int64 else a.astype(np.float32) for a in arrays]

    assert_same(*one_op(op, *operands))


def test_starts_far_outside_are_the_nearest_element() -> None:
    """As the standard and ONNX Runtime have it; Python's slices are empty here."""
    for cut in (Slice((-9,), (-20,), (0,), (-1,)), Slice((9,), (-20,), (0,), (-2,))):
        graph, feeds = one_op(cut, random(3, 2))

        assert graph.outputs[0].type.ints == evaluate(graph, feeds)["y"].shape != (0, 2)
        assert_same(graph, feeds)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_an_axis_that_is_gone_leaves_the_order_of_the_others(axis: int) -> None:
    net = Net(x=(1, 3, 4, 5))
    net.add("front", Conv(), "x", random(2, 3, 1, 1, seed=1))
    graph = net.graph(net.add("y", Gather(axis), "front", np.array(0)))
    x = {"x": random(1, 3, 4, 5)}

    got, _, _ = ran(Tflite(), graph, x)
    np.testing.assert_allclose(got["y"], evaluate(graph, x)["y"], rtol=1e-5, atol=1e-5)
