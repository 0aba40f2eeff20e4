"""Activations that quantization already does: dropped, and not a bit changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Node, Op, QuantParams
from edgec.ops import (
    Activation,
    Add,
    Clip,
    Conv,
    Dequantize,
    FullyConnected,
    Quantize,
    Relu,
)
from edgec.targets.onnxruntime.absorb import AbsorbActivations
from tests.targets.graphs import Net, f32, quantized, random, tiny_cnn

BOUNDED = [Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1]


def absorbed(graph: Graph) -> Graph:
    return AbsorbActivations().run(graph)


def carrier(activation: Activation, params: QuantParams, dtype: DType) -> Graph:
    """Return an addition of zero with an activation, quantized: sums are exact."""
    net = Net(x=(1, 64))
    net.add("sum", Add(activation), "x", f32(0))
    net.add("q", Quantize(params, dtype), "sum")
    return net.graph(net.add("y", Dequantize(params, dtype), "q"))


def hard_values(params: QuantParams) -> Array:
    """Return numbers around the ends of the grid, the bounds of activations and halves."""
    scale = params.scale[0]
    ends = [(q - z) * scale for z in params.zero_point for q in (-128, 0, 127, 255)]
    points = [
        *ends,
        0,
        6,
        -1,
        1,
        0.5 * scale,
        -0.5 * scale,
        127.5 * scale,
        1e6,
        -1e6,
        3 * scale,
    ]
    near = [
        np.float32(p) * np.float32(1 + d) for p in points for d in (-1e-3, -1e-7, 1e-7, 1e-3)
    ]
    return np.resize(f32([*points, *near]), (1, 64))


@given(
    scale=st.one_of(
        st.floats(2**-10, 1, width=32),
        st.integers(200, 300).map(lambda n: float(np.float32(6 / (n + 0.5)))),
        st.integers(200, 300).map(lambda n: float(np.float32(6 / n))),
    ),
    zero=st.integers(0, 255),
    dtype=st.sampled_from([DType.INT8, DType.UINT8]),
    activation=st.sampled_from(BOUNDED),
)
def test_integers_are_the_same_bit_by_bit(scale: float, zero: int, dtype: DType,
                                          activation: Activation) -> None:  # fmt: skip
    params = QuantParams((scale,), (zero - 128 if dtype is DType.INT8 else zero,))
    graph = carrier(activation, params, dtype)
    x = hard_values(params)

    after = absorbed(graph)

    np.testing.assert_array_equal(
        evaluate(graph, {"x": x})["y"], evaluate(after, {"x": x})["y"]
    )
    limits = np.iinfo(dtype.numpy)  # type: ignore[type-var]
    low, high = activation.bounds
    ends = [(q - params.zero_point[0]) * scale for q in (limits.min, limits.max)]
    if low < ends[0] and high > ends[1]:
        assert after is not graph
    if low > ends[0] + scale or high < ends[1] - scale:
        assert after is graph


@pytest.mark.parametrize("steps", range(128, 255))
def test_a_bound_halfway_between_two_steps_is_rounded_as_the_runtime_does(steps: int) -> None:
    """The runtime divides in float32, where ``6 / scale`` may be a half and is not quite."""
    params = QuantParams((float(np.float32(6 / (steps + 0.5))),), (254 - steps,))
    graph = carrier(Activation.RELU6, params, DType.UINT8)
    x = np.linspace(5.9, 6.2, 64, dtype=np.float32).reshape(1, 64)
    after = absorbed(graph)

    np.testing.assert_array_equal(
        evaluate(graph, {"x": x})["y"], evaluate(after, {"x": x})["y"]
    )


def op_of(graph: Graph, name: str) -> Op:
    return next(n for n in graph.nodes if name in n.origin).op


@pytest.mark.parametrize("activation", [Activation.RELU, Activation.RELU6])
@pytest.mark.parametrize("kind", [Conv, FullyConnected])
def test_layers_lose_what_calibrated_ranges_clip(
    activation: Activation, kind: type[Conv | FullyConnected]
) -> None:
    conv = kind is Conv
    x = random(1, 2, 5, 5) * 9 if conv else random(1, 8) * 9
    net = Net(x=x.shape)
    w = random(3, 2, 3, 3, seed=1) if conv else random(3, 8, seed=1)
    net.add("y", kind(activation=activation), "x", w)
    graph = quantized(net.graph("y"), {"x": x})

    after = absorbed(graph)

    layer = op_of(after, "y")
    assert isinstance(layer, Conv | FullyConnected)
    assert layer.activation is Activation.NONE
    np.testing.assert_array_equal(
        evaluate(graph, {"x": x})["y"], evaluate(after, {"x": x})["y"]
    )


def standalone(op: Op, params: QuantParams) -> Graph:
    net = Net(x=(1, 64))
    net.add("act", op, "x")
    net.add("q", Quantize(params), "act")
    return net.graph(net.add("y", Dequantize(params), "q"))


@pytest.mark.parametrize(
    ("op", "scale"), [(Relu(), 0.1), (Clip(0.0, 6.0), 6 / 255), (Clip(high=9.0), 0.03)]
)
def test_an_operator_of_its_own_goes_too(op: Op, scale: float) -> None:
    graph = standalone(op, QuantParams((scale,), (-128,)))
    x = random(1, 64) * 30

    after = absorbed(graph)

    assert [type(n.op) for n in after.nodes] == [Quantize, Dequantize]
    np.testing.assert_array_equal(
        evaluate(graph, {"x": x})["y"], evaluate(after, {"x": x})["y"]
    )


def test_a_relu_stays_before_a_grid_with_negative_numbers() -> None:
    graph = standalone(Relu(), QuantParams((0.1,), (-100,)))

    assert absorbed(graph) is graph


def test_other_bounds_stay() -> None:
    graph = standalone(Clip(0.25, 3.0), QuantParams((0.1,), (-128,)))

    assert absorbed(graph) is graph


def test_an_activation_stays_where_something_reads_it_in_float() -> None:
    grid = QuantParams((0.1,), (-128,))
    net = Net(x=(1, 4))
    net.add("sum", Add(Activation.RELU), "x", f32(1))
    net.add("q", Quantize(grid), "sum")
    net.add("y", Dequantize(grid), "q")
    net.add("other", Clip(0.25, 3.0), "sum")

    for outputs in (("y", "other"), ("y", "sum", "other")):
        graph = net.graph(*outputs)
        assert absorbed(graph) is graph


@pytest.mark.parametrize("op", [Add(Activation.RELU), Relu()])
def test_an_activation_stays_that_is_an_output(op: Op) -> None:
    grid = QuantParams((0.1,), (-128,))
    net = Net(x=(1, 4))
    net.add("out", op, "x", *([f32(1)] if isinstance(op, Add) else []))
    net.add("q", Quantize(grid), "out")
    net.add("y", Dequantize(grid), "q")
    graph = net.graph("y", "out")

    assert absorbed(graph) is graph


def test_an_activation_stays_before_a_grid_per_channel() -> None:
    grid = QuantParams((0.1, 0.2), (-128, -128), 1)
    net = Net(x=(1, 2))
    net.add("sum", Add(Activation.RELU), "x", f32(1))
    net.add("q", Quantize(grid), "sum")
    graph = net.graph(net.add("y", Dequantize(grid), "q"))

    assert absorbed(graph) is graph


def test_is_idempotent() -> None:
    graph, feeds = tiny_cnn()
    once = absorbed(quantized(graph, feeds))

    assert absorbed(once) is once
    assert all(isinstance(n, Node) for n in once.nodes)
