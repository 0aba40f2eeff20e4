from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op, QuantParams
from edgec.ops import (
    Clip,
    Concat,
    Dequantize,
    Gather,
    MaxPool,
    Pad,
    Quantize,
    Reshape,
    Resize,
    Split,
    Transpose,
    Trilu,
)
from edgec.passes import DequantizeMoves, Pipeline
from edgec.targets import Tflite
from tests.passes.properties import check_pass
from tests.targets.graphs import Net, ran, random

moves = DequantizeMoves()
GRID = QuantParams((0.03,), (-5,))
X = random(1, 2, 4, 6)


def around(op: Op, *others: Array, dtype: DType = DType.INT8) -> Graph:
    """Quantize, the operator on integers, dequantize."""
    net = Net(x=X.shape)
    net.add("stored", Quantize(GRID, dtype), "x")
    net.add("moved", op, "stored", *others)
    return net.graph(net.add("y", Dequantize(GRID, dtype), "moved"))


def names(graph: Graph) -> list[str]:
    return [str(n.op).split("(")[0] for n in graph.nodes]


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8])
@pytest.mark.parametrize(
    ("op", "others", "code"),
    [
        (Reshape((2, 24)), [], "RESHAPE"),
        (Transpose((0, 2, 3, 1)), [], "TRANSPOSE"),
        (MaxPool((2, 2), pad=(1, 1, 1, 1)), [], "MAX_POOL_2D"),
        (Gather(2), [np.array([2, 0, 3, 1])], "GATHER"),
        (Resize(scales=(2.0, 2.0), axes=(2, 3), coordinates="asymmetric", rounding="floor"),
         [], "RESIZE_NEAREST_NEIGHBOR"),
    ],
    ids=str,
)  # fmt: skip
def test_a_move_of_integers_becomes_one_of_real_numbers(
    op: Op, others: list[Array], code: str, dtype: DType
) -> None:
    grid = QuantParams((0.03,), (5 if dtype is DType.UINT8 else -5,))
    net = Net(x=X.shape)
    net.add("stored", Quantize(grid, dtype), "x")
    net.add("moved", op, "stored", *others)
    graph = net.graph(net.add("y", Dequantize(grid, dtype), "moved"))
    after = check_pass(moves, graph)

    want = ["Quantize", "Dequantize", type(op).__name__, "Quantize", "Dequantize"]
    assert names(after) == want
    assert [n.layer for n in after.nodes] == ["stored", "moved", "moved", "moved", "y"]
    np.testing.assert_array_equal(
        evaluate(after, {"x": X})["y"], evaluate(graph, {"x": X})["y"]
    )
    lowered, _ = Pipeline((*Tflite().prepare(), *Tflite().finish())).run(graph)
    got, artifact, _ = ran(Tflite(), lowered, {"x": X})
    np.testing.assert_allclose(got["y"], evaluate(graph, {"x": X})["y"], atol=1e-6)
    assert code in artifact.operators


def test_padding_with_the_zero_point_is_padding_with_zero() -> None:
    pads = (0, 0, 1, 1, 0, 0, 1, 1)
    after = check_pass(moves, around(Pad(pads, -5.0)))

    assert Pad(pads, 0.0) in [n.op for n in after.nodes]
    other = around(Pad(pads, 3.0))
    assert moves.run(other) is other


def test_every_part_of_a_split_is_moved() -> None:
    net = Net(x=X.shape)
    net.add("stored", Quantize(GRID), "x")
    net.add("part", Split(3, (2, 4)), "stored")
    net.add("a", Dequantize(GRID), "part")
    graph = net.graph("a", net.add("b", Dequantize(GRID), "part1"))
    after = check_pass(moves, graph)

    assert names(after).count("Quantize") == 3


def test_values_on_one_grid_are_joined_and_others_not() -> None:
    net = Net(x=X.shape)
    other = QuantParams((0.04,), (-5,))
    for name, grid in (("a", GRID), ("b", GRID), ("c", other)):
        net.add(name, Quantize(grid), "x")
    net.add("same", Concat(1), "a", "b")
    net.add("mixed", Concat(1), "a", "c")
    net.add("y", Dequantize(GRID), "same")
    graph = net.graph("y", "mixed")
    after = check_pass(moves, graph)

    assert [n.outputs[0].type.dtype.value for n in after.nodes if isinstance(n.op, Concat)] == [
        "f32",
        "i8",
    ]


@pytest.mark.parametrize(
    "op",
    [
        Clip(0.0, 5.0),
        Resize(scales=(2.0,), axes=(3,), mode="linear"),
        Resize(
            sizes=(3,), axes=(3,), coordinates="tf_crop_and_resize", roi=(0.5, 1.5), beyond=2.0
        ),
        Trilu(),
    ],
)
def test_what_makes_new_numbers_stays(op: Op) -> None:
    graph = around(op)
    assert moves.run(graph) is graph


def test_integers_with_several_scales_stay() -> None:
    several = QuantParams((0.03, 0.04), (0, 0), 1)
    net = Net(x=X.shape)
    net.add("stored", Quantize(several), "x")
    net.add("moved", Reshape((2, 2, 2, 6)), "stored")
    graph = net.graph(net.add("y", Dequantize(several), "moved"))
    assert moves.run(graph) is graph


def test_integers_without_a_grid_stay() -> None:
    net = Net(DType.INT8, x=X.shape)
    net.add("moved", Reshape((2, 24)), "x")
    graph = net.graph(net.add("y", Dequantize(GRID), "moved"))
    assert moves.run(graph) is graph


def test_moves_in_a_row_are_all_moved() -> None:
    net = Net(x=X.shape)
    net.add("stored", Quantize(GRID), "x")
    net.add("flat", Reshape((2, 24)), "stored")
    net.add("turned", Transpose((1, 0)), "flat")
    graph = net.graph(net.add("y", Dequantize(GRID), "turned"))
    after = check_pass(moves, graph)

    kinds = {n.op: n.output.type.dtype for n in after.nodes}
    assert kinds[Transpose((1, 0))] is DType.FLOAT32
    got, artifact, _ = ran(Tflite(), after, {"x": X})
    np.testing.assert_allclose(got["y"], evaluate(graph, {"x": X})["y"], atol=1e-6)
    assert artifact.operators["QUANTIZE"] == artifact.operators["DEQUANTIZE"] == 1
