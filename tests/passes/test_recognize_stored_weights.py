from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, QuantParams
from edgec.ops import Cast, Dequantize, Gather, Mul, Quantize, Relu, Sub
from edgec.passes import RecognizeStoredWeights
from tests.targets.graphs import Net, f32

recognize = RecognizeStoredWeights()
W = np.random.default_rng(0).integers(-128, 128, (5, 4)).astype(np.int8)
ROWS, COLUMNS = f32(np.linspace(0.5, 1, 5)), f32(np.linspace(0.1, 2, 4))


def weights(net: Net, scale: Array, zero: Array | None = None, w: Array = W) -> str:
    net.add("real", Cast(DType.FLOAT32), w)
    if zero is not None:
        net.add("centred", Sub(), "real", zero)
    return net.add("w", Mul(), "real" if zero is None else "centred", scale)


def check(graph: Graph, **feeds: Array) -> Graph:
    """Rewrite, and compare every number."""
    after = recognize.run(graph)
    assert recognize.run(after) is after
    want, got = evaluate(graph, feeds), evaluate(after, feeds)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
    return after


def ops(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph.nodes]


@pytest.mark.parametrize(
    ("scale", "axis"),
    [(f32(0.5), None), (f32([0.5]), None), (COLUMNS, 1), (ROWS.reshape(5, 1), 0),
     (COLUMNS.reshape(1, 4), 1)],
)  # fmt: skip
@pytest.mark.parametrize("zero", [None, f32(3), f32([-128])])
def test_scaled_integers_are_dequantized(
    scale: Array, axis: int | None, zero: Array | None
) -> None:
    net = Net(x=(1,))
    after = check(net.graph(weights(net, scale, zero)), x=f32([0]))

    (node,) = after.nodes
    assert isinstance(node.op, Dequantize)
    assert node.op.params.axis == axis
    assert set(node.op.params.zero_point) == {0 if zero is None else int(zero.reshape(()))}
    assert node.origin == ("real", "w")


@pytest.mark.parametrize(
    ("scale", "zero"),
    [
        (f32(-0.5), None),
        (f32(0), None),
        (f32(np.inf), None),
        (f32(np.nan), None),
        (f32(np.outer(ROWS, COLUMNS)), None),
        (f32(0.5), f32(0.25)),
        (f32(0.5), f32(128)),
        (f32(0.5), f32(-129)),
        (f32(0.5), COLUMNS),
        (f32(np.ones((2, 1, 4))), None),
    ],
)
def test_keeps_what_no_grid_stands_for(scale: Array, zero: Array | None) -> None:
    net = Net(x=(1,))
    graph = net.graph(weights(net, scale, zero))

    assert recognize.run(graph) is graph


def test_keeps_integers_that_their_scales_repeat() -> None:
    net = Net(x=(1,))
    graph = net.graph(weights(net, ROWS.reshape(5, 1), w=W[:1]))

    assert recognize.run(graph) is graph


def test_keeps_other_types() -> None:
    net = Net(x=(1,))
    graph = net.graph(weights(net, f32(0.5), w=W.astype(np.int16)))

    assert recognize.run(graph) is graph


@pytest.mark.parametrize(
    "scale", [f32(0.5), COLUMNS, ROWS.reshape(5, 1)], ids=["one", "0", "1"]
)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
def test_rows_are_taken_from_the_integers(
    scale: Array, axis: int, shape: tuple[int, ...]
) -> None:
    net = Net(DType.INT64, i=shape)
    table = weights(net, scale, f32(7))
    graph = net.graph(net.add("y", Gather(axis), table, "i"))
    indices = np.random.default_rng(1).integers(-4, 4, shape)

    after = check(graph, i=indices)
    assert "Dequantize" not in ops(after)
    assert (
        next(n for n in after.nodes if isinstance(n.op, Gather)).inputs[0].type.dtype.value
        == "i8"
    )


def test_rows_that_nobody_can_count_are_taken_from_the_floats() -> None:
    net = Net(DType.INT64, i=("N",))
    net.add("w", Dequantize(QuantParams((0.5,), (3,))), W)
    graph = net.graph(net.add("y", Gather(), "w", "i"))

    assert recognize.run(graph) is graph


def test_a_table_that_is_read_as_a_whole_too_stays_dequantized() -> None:
    net = Net(DType.INT64, i=(2,))
    table = weights(net, f32(0.5))
    net.add("y", Gather(), table, "i")
    graph = net.graph("y", net.add("z", Relu(), table))

    assert "Dequantize" in ops(check(graph, i=np.array([1, 2])))


@pytest.mark.parametrize(("after", "is_left"), [((0.5, 3), True), ((0.5, 2), False)])
def test_rows_that_are_quantized_again_are_left_to_integers(
    after: tuple[float, int], is_left: bool
) -> None:
    net = Net(DType.INT64, i=(2,))
    net.add("w", Dequantize(QuantParams((0.5,), (3,))), W)
    net.add("rows", Gather(), "w", "i")
    scale, zero = after
    net.add("y", Quantize(QuantParams((scale,), (zero,))), "rows")
    feeds = {"i": np.array([1, 2])}

    assert ("Dequantize" in ops(check(net.graph("y"), **feeds))) == is_left
    assert "Dequantize" not in ops(check(net.graph("y", "rows"), **feeds))
