"""Models that came quantized: folded where kernels take their grids, right everywhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op, QuantParams
from edgec.ops import (
    Add,
    Concat,
    Conv,
    Dequantize,
    MatMul,
    MaxPool,
    Quantize,
    Sigmoid,
    Softmax,
    Split,
    quantize_array,
)
from edgec.targets import Tflite
from tests.targets.graphs import Net, ran, random

X_GRID = QuantParams((0.03125,), (4,))
Y_GRID = QuantParams((0.0625,), (-3,))
X = random(1, 2, 6, 6)


def grid(scale: float, zero: int = 0) -> QuantParams:
    return QuantParams((scale,), (zero,))


def pair(net: Net, name: str, x: str, params: QuantParams) -> str:
    net.add(f"{name}.q", Quantize(params), x)
    return net.add(name, Dequantize(params), f"{name}.q")


def constant(net: Net, name: str, array: Array, params: QuantParams,
             dtype: DType = DType.INT8) -> str:  # fmt: skip
    net.const(f"{name}.stored", quantize_array(array, params, dtype))
    return net.add(name, Dequantize(params, dtype), f"{name}.stored")


def one(op: Op, after: QuantParams, before: QuantParams = X_GRID) -> Graph:
    net = Net(x=X.shape)
    net.add("raw", op, pair(net, "x.real", "x", before))
    return net.graph(pair(net, "y", "raw", after))


def layer(weights: QuantParams, bias: QuantParams | None = None,
          w: Array | None = None) -> Graph:  # fmt: skip
    net = Net(x=X.shape)
    real = pair(net, "x.real", "x", X_GRID)
    array = random(3, 2, 3, 3, seed=1) / 2 if w is None else w
    operands = [real, constant(net, "w", array, weights)]
    if bias is not None:
        operands.append(constant(net, "b", random(3, seed=2), bias, DType.INT32))
    net.add("raw", Conv(), *operands)
    return net.graph(pair(net, "y", "raw", Y_GRID))


def check(graph: Graph, code: str, *, note: str = "") -> None:
    got, artifact, _ = ran(Tflite(), graph, {"x": X})
    want = evaluate(graph, {"x": X})["y"]
    op = graph.nodes[-1].op
    assert isinstance(op, Dequantize)
    assert np.abs(got["y"] - want).max() <= 1.001 * op.params.scale[0]
    assert code in artifact.operators
    assert artifact.operators["DEQUANTIZE"] == (2 if note else 1)
    assert [str(n) for n in artifact.notes] == ([note] if note else [])


PER_CHANNEL = QuantParams((0.03, 0.02, 0.025), (0, 0, 0), 0)
EQUAL = QuantParams((0.03, 0.03, 0.03), (0, 0, 0), 0)
PRODUCT = QuantParams(
    tuple(float(np.float32(0.03125) * np.float32(s)) for s in PER_CHANNEL.scale), (0, 0, 0), 0
)


@pytest.mark.parametrize(
    "graph",
    [
        layer(PER_CHANNEL),
        layer(PER_CHANNEL, PRODUCT),
        layer(grid(0.03), grid(float(np.float32(0.03125) * np.float32(0.03)))),
    ],
    ids=["no bias", "per channel", "per tensor"],
)
def test_a_layer_on_the_kernels_grids_is_folded(graph: Graph) -> None:
    check(graph, "CONV_2D")


WEIGHTS = "its weights are not symmetric int8 in [-127, 127], per output channel"
BIAS = "its bias is not int32 with the scale of input times weights"


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (layer(grid(0.03, zero=5)), WEIGHTS),
        (layer(grid(0.03), w=np.full((3, 2, 3, 3), -4.0, np.float32)), WEIGHTS),
        (layer(QuantParams((0.03, 0.02), (0, 0), 1)), WEIGHTS),
        (layer(PER_CHANNEL, grid(0.001)), BIAS),
        (layer(EQUAL, grid(float(np.float32(0.03125) * np.float32(0.03)))), BIAS),
    ],
    ids=["asymmetric", "-128", "wrong axis", "bias scale", "one bias scale"],
)
def test_a_layer_on_other_grids_is_computed_in_float(graph: Graph, why: str) -> None:
    check(graph, "CONV_2D", note=f"raw: Conv() is computed in float: {why}")


def test_moving_values_to_another_grid_is_computed_in_float() -> None:
    pool: Any = MaxPool((2, 2), (2, 2))
    why = "it changes the scale of what it only moves"

    check(one(pool, X_GRID), "MAX_POOL_2D")
    check(one(pool, Y_GRID), "MAX_POOL_2D",
          note=f"raw: {pool} is computed in float: {why}")  # fmt: skip


@pytest.mark.parametrize("op", [Softmax(), Sigmoid()])
def test_functions_on_other_grids_are_computed_in_float(op: Op) -> None:
    why = "its output is not on the grid that the kernel prescribes"
    code = "SOFTMAX" if isinstance(op, Softmax) else "LOGISTIC"

    check(one(op, grid(1 / 256, zero=-128)), code)
    check(
        one(op, grid(1 / 250, zero=-128)), code, note=f"raw: {op} is computed in float: {why}"
    )


def test_joining_two_grids_is_computed_in_float() -> None:
    net = Net(x=X.shape)
    a, b = pair(net, "a", "x", X_GRID), pair(net, "b", "x", Y_GRID)
    net.add("raw", Concat(1), a, b)
    graph = net.graph(pair(net, "y", "raw", X_GRID))

    got, artifact, _ = ran(Tflite(), graph, {"x": X})

    np.testing.assert_allclose(got["y"], evaluate(graph, {"x": X})["y"], atol=0.04)
    assert artifact.operators["DEQUANTIZE"] == 3
    assert len(artifact.notes) == 1


def test_a_value_that_is_an_output_before_it_is_quantized_stays_in_float() -> None:
    net = Net(x=X.shape)
    net.add("raw", Conv(), pair(net, "x.real", "x", X_GRID),
            constant(net, "w", random(3, 2, 3, 3, seed=1) / 2, PER_CHANNEL))  # fmt: skip
    graph = net.graph("raw", pair(net, "y", "raw", Y_GRID))

    got, _, _ = ran(Tflite(), graph, {"x": X})

    want = evaluate(graph, {"x": X})
    np.testing.assert_allclose(got["raw"], want["raw"], atol=1e-4)
    np.testing.assert_allclose(got["y"], want["y"], atol=1.001 * Y_GRID.scale[0])


def test_large_weights_that_are_returned_are_floats() -> None:
    net = Net(x=(2, 64))
    net.add("y", MatMul(), "x", constant(net, "w", random(64, 32), grid(0.05, 3)))
    graph = net.graph("w", "y")
    feeds = {"x": random(2, 64)}

    got, _, _ = ran(Tflite(), graph, feeds)

    want = evaluate(graph, feeds)
    np.testing.assert_array_equal(got["w"], want["w"])
    np.testing.assert_allclose(got["y"], want["y"], atol=1e-4)


def test_stored_constants_are_unpacked_once() -> None:
    net = Net(x=(2, 64), y=(2, 64))
    w = constant(net, "w", random(64, 32), grid(0.05, 3))
    net.add("a", MatMul(), "x", w)
    graph = net.graph("a", net.add("b", MatMul(), "y", w))
    feeds = {"x": random(2, 64), "y": random(2, 64, seed=1)}

    got, artifact, _ = ran(Tflite(), graph, feeds)

    for name, want in evaluate(graph, feeds).items():
        np.testing.assert_allclose(got[name], want, atol=1e-4)
    assert artifact.operators["DEQUANTIZE"] == 1


def test_large_constants_of_32_bits_are_floats() -> None:
    net = Net(x=(64, 32))
    w = constant(net, "w", random(64, 32), grid(1e-4), DType.INT32)
    graph = net.graph(net.add("y", Add(), "x", w))
    feeds = {"x": random(64, 32, seed=1)}

    got, artifact, _ = ran(Tflite(), graph, feeds)

    np.testing.assert_array_equal(got["y"], evaluate(graph, feeds)["y"])
    assert artifact.operators == {"ADD": 1}


def test_parts_of_which_one_is_read_as_it_is_stay_in_float() -> None:
    net = Net(x=X.shape)
    net.add("part", Split(3, (2, 4)), pair(net, "x.real", "x", X_GRID))
    graph = net.graph("part1", pair(net, "y", "part", X_GRID))

    got, _, _ = ran(Tflite(), graph, {"x": X})

    for name, want in evaluate(graph, {"x": X}).items():
        np.testing.assert_array_equal(got[name], want)
