"""Quantization: on which grids, and how close to float."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.calibration import Calibration, calibrate
from edgec.errors import InternalError
from edgec.evaluate import evaluate
from edgec.ir import DType, Graph
from edgec.numerics import sqnr
from edgec.ops import (
    Add,
    AveragePool,
    Conv,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    MatMul,
)
from edgec.passes import QuantizeGraph, Scheme
from edgec.passes.quantization_plan import plan
from edgec.passes.quantize import activation_params
from tests.golden.compare import matches
from tests.passes.quantization import (
    INT8,
    REDUCED,
    SCHEMES,
    X,
    dequantized,
    grids,
    layer,
    ratio,
    reasons,
)
from tests.targets.graphs import Feeds, Net, f32, quantized, random, tiny_cnn


@pytest.mark.parametrize(("name", "scheme"), [("int8", INT8), ("uint8_7bit", REDUCED)])
def test_a_small_network_becomes_this(name: str, scheme: Scheme) -> None:
    graph, feeds = tiny_cnn()

    text = str(quantized(graph, feeds, scheme=scheme)).replace("QuantParams", "")

    short = "\n".join(line if len(line) < 400 else _short(line) for line in text.splitlines())
    assert matches(f"quantize_{name}.txt", _rounded(short) + "\n")


def _short(line: str) -> str:
    return line[:200] + " ... " + line[-100:]


def _rounded(text: str) -> str:
    """Return scales with 4 digits: kernels may round the last ones otherwise."""
    import re

    return re.sub(r"\d+\.\d+(e-\d+)?", lambda m: f"{float(m[0]):.4g}", text)


class TestWeights:
    @SCHEMES
    def test_are_symmetric_int8_with_one_scale_a_channel(self, scheme: Scheme) -> None:
        graph, feeds = tiny_cnn()
        made = quantized(graph, feeds, scheme=scheme)

        for name in ("conv1", "conv2", "scores"):
            weight, op = dequantized(made, layer(made, name))[0]
            assert weight.dtype == np.int8
            assert op.params.axis == 0
            assert set(op.params.zero_point) == {0}
            assert len(op.params.scale) == len(weight)
            peaks = np.abs(weight.astype(int)).reshape(len(weight), -1).max(axis=1)
            assert set(peaks) == {scheme.weight_max}

    def test_are_rounded_to_the_nearest_step(self) -> None:
        w = random(3, 2, 3, 3, seed=4)
        net = Net(x=X.shape)
        net.add("y", Conv(), "x", w)
        made = quantized(net.graph("y"), {"x": X})

        weight, op = dequantized(made, layer(made, "y"))[0]
        scale = np.array(op.params.scale).reshape(-1, 1, 1, 1)
        assert np.abs(weight * scale - w).max() <= (scale / 2).max() * (1 + 1e-6)
        np.testing.assert_allclose(
            scale.ravel(), np.abs(w).reshape(3, -1).max(1) / 127, rtol=1e-6
        )

    def test_of_two_layers_may_be_shared(self) -> None:
        net = Net(x=(1, 3, 4, 4))
        w = net.const("w", random(3, 3, 1, 1)).name
        net.add("a", Conv(), "x", w)
        net.add("y", Conv(), "a", w)
        feeds = {"x": random(1, 3, 4, 4)}
        made = quantized(net.graph("y"), feeds)

        (first, _), (second, _) = (dequantized(made, layer(made, n))[0] for n in ("a", "y"))
        np.testing.assert_array_equal(first, second)
        assert "w" not in made.constants
        want, got = evaluate(net.graph("y"), feeds)["y"], evaluate(made, feeds)["y"]
        assert ratio(want, got) > 30


class TestBiases:
    @SCHEMES
    def test_have_exactly_the_scale_of_the_product(self, scheme: Scheme) -> None:
        graph, feeds = tiny_cnn()
        made = quantized(graph, feeds, scheme=scheme)

        for name in ("conv1", "scores"):
            node = layer(made, name)
            (_, weight), (bias, op) = dequantized(made, node)
            source = made.producers[node.inputs[0]].op
            assert isinstance(source, Dequantize)
            x_scale = np.float32(source.params.scale[0])
            want = [float(x_scale * np.float32(s)) for s in weight.params.scale]
            assert list(op.params.scale) == want
            assert set(op.params.zero_point) == {0}
            assert bias.dtype == np.int32
            assert op.params.axis == 0

    @given(
        weights=st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
        shrink=st.integers(0, 140),
        biases=st.lists(st.floats(-1e4, 1e4).map(np.float32), min_size=3, max_size=3),
        x_max=st.floats(2.0**-20, 2.0**20),
    )
    def test_fit_into_31_bits_whatever_the_weights(
        self, weights: list[float], shrink: int, biases: list[float], x_max: float
    ) -> None:
        w = (f32(weights).astype(np.float64) * 2.0**-shrink).astype(np.float32).reshape(3, 1)
        b = f32(biases)
        net = Net(x=(1, 1))
        net.add("y", FullyConnected(), "x", w, b)
        feeds = {"x": f32([[x_max]])}
        made = quantized(net.graph("y"), feeds)

        (_, weight), (bias, op) = dequantized(made, layer(made, "y"))
        assert np.abs(bias.astype(np.int64)).max() <= 2**30 * (1 + 1e-6)
        # The bias is right within half a step of its own grid.
        scale = np.array(op.params.scale)
        assert (np.abs(bias * scale - b) <= scale / 2 + np.abs(b) * 1e-6).all()
        # Kernels multiply by s_x s_w / s_y as a 31-bit number: something must be left of it.
        y_scale = grids(made)["y"].scale[0]
        x_scale = grids(made)["x"].scale[0]
        multiplier = x_scale * np.array(weight.params.scale) / y_scale
        assert (multiplier >= 2.0**-31 * (1 - 1e-6)).all()
        got = evaluate(made, feeds)["y"]
        want = evaluate(net.graph("y"), feeds)["y"]
        assert np.isfinite(got).all()
        step = x_scale * np.abs(w.ravel()) + x_max * np.array(weight.params.scale) + y_scale
        assert (np.abs(got - want) <= step + np.abs(want) * 1e-5).all()


class TestActivationParams:
    @given(
        low=st.floats(-(2.0**60), 0, width=32),
        high=st.floats(0, 2.0**60, width=32),
        dtype=st.sampled_from([DType.INT8, DType.UINT8]),
    )
    def test_zero_is_a_step_and_the_range_is_covered(self, low: float, high: float,
                                                     dtype: DType) -> None:  # fmt: skip
        params = activation_params(low, high, dtype)

        (scale,), (zero,) = params.scale, params.zero_point
        limits = np.iinfo(dtype.numpy)  # type: ignore[type-var]
        assert limits.min <= zero <= limits.max  # so that (zero - zero) * scale == 0
        assert scale == float(np.float32(scale))
        # The zero point is rounded: either end may lose half a step.
        assert (limits.min - zero) * scale <= low + 0.501 * scale
        assert (limits.max - zero) * scale >= high - 0.501 * scale
        if high - low > 1e-30:
            assert scale <= (high - low) / 255 * (1 + 1e-6)

    @pytest.mark.parametrize(
        ("low", "high", "zero"),
        [(0, 6, -128), (-6, 0, 127), (-2, 1, 42), (0, 0, -128), (-0.0, 1e-44, -128)],
    )
    def test_ends(self, low: float, high: float, zero: int) -> None:
        params = activation_params(low, high, DType.INT8)

        assert params.zero_point == (zero,)
        if high - low < 1e-40:
            assert params.scale == (float(np.float32(1 / 255)),)


class TestInterface:
    @SCHEMES
    def test_names_and_types_stay(self, scheme: Scheme) -> None:
        graph, feeds = tiny_cnn()
        made = quantized(graph, feeds, scheme=scheme)

        assert (made.inputs, made.outputs) == (graph.inputs, graph.outputs)

    def test_an_input_may_be_an_output(self) -> None:
        net = Net(x=X.shape)
        net.add("y", Conv(), "x", random(2, 2, 1, 1))
        graph = net.graph("x", "y")
        made = quantized(graph, {"x": X})

        assert made.outputs == graph.outputs
        np.testing.assert_array_equal(evaluate(made, {"x": X})["x"], X)

    def test_every_node_knows_its_layer(self) -> None:
        graph, feeds = tiny_cnn()
        made = quantized(graph, feeds)

        names = {o for n in made.nodes for o in n.origin}
        assert names == {n.output.name for n in graph.nodes}


class TestAlreadyQuantized:
    def test_is_left_alone(self) -> None:
        graph, feeds = tiny_cnn()
        once = quantized(graph, feeds)

        assert quantized(once, feeds) is once
        assert plan(once).nodes == {}
        assert plan(once).measured == ()

    def test_is_said(self) -> None:
        graph, feeds = tiny_cnn()

        found = reasons(quantized(graph, feeds))

        assert found[0] == (
            "conv1: Conv(pad=(1, 1, 1, 1), activation=relu) stays in float: the model "
            "quantizes it already"
        )
        assert len(found) == len(graph.nodes)

    def test_the_rest_of_a_half_quantized_model_is_quantized(self) -> None:
        graph, feeds = tiny_cnn()
        half = quantized(graph, feeds, keep_float=("scores", "classes"))

        made = quantized(half, feeds)

        assert dequantized(made, layer(made, "scores"))
        for name in ("conv1", "conv2"):
            (a, _), (b, _) = (dequantized(g, layer(g, name))[0] for g in (half, made))
            np.testing.assert_array_equal(a, b)
        want = evaluate(graph, feeds)["classes"]
        np.testing.assert_allclose(evaluate(made, feeds)["classes"], want, atol=0.05)


@SCHEMES
@pytest.mark.parametrize("seed", range(4))
def test_a_layer_is_as_close_to_float_as_theory_says(scheme: Scheme, seed: int) -> None:
    """Sum the noise of three uniform roundings: of x, of w, and of y."""
    x, w = random(1, 16, 12, 12, seed=seed), random(8, 16, 3, 3, seed=seed + 10)
    net = Net(x=x.shape)
    net.add("y", Conv(), "x", w, random(8, seed=seed + 20))
    graph = net.graph("y")
    made = quantized(graph, {"x": x}, scheme=scheme)
    found = grids(made)
    _, op = dequantized(made, layer(made, "y"))[0]

    want, got = evaluate(graph, {"x": x})["y"], evaluate(made, {"x": x})["y"]

    terms = w[0].size
    noise = terms * (
        float((w**2).mean()) * found["x"].scale[0] ** 2
        + float((x**2).mean()) * float(np.mean(np.square(op.params.scale)))
    ) / 12 + found["y"].scale[0] ** 2 / 12  # fmt: skip
    expected = sqnr(float((want**2).mean()), noise)
    assert abs(ratio(want, got) - expected) < 1.5


def depth_of_network(kind: str) -> tuple[Graph, Feeds]:
    net = Net(x=(1, 4, 8, 8))
    net.add("a", DepthwiseConv(pad=(1, 1, 1, 1)), "x", random(4, 1, 3, 3, seed=1))
    net.add("b", MatMul(), "a", "x")
    net.add("c", AveragePool((2, 2), (2, 2)), "b")
    return net.graph(net.add(kind, Add(), "c", random(4, 1, 1, seed=2))), {
        "x": random(1, 4, 8, 8)
    }


@SCHEMES
def test_other_operators_stay_close_too(scheme: Scheme) -> None:
    graph, feeds = depth_of_network("y")
    made = quantized(graph, feeds, scheme=scheme)

    assert ratio(evaluate(graph, feeds)["y"], evaluate(made, feeds)["y"]) > 28


def test_a_missing_range_is_our_fault() -> None:
    graph, _ = tiny_cnn()
    nothing = Calibration(MappingProxyType({}), "none", 0)

    with pytest.raises(InternalError, match="was not calibrated"):
        QuantizeGraph(nothing).run(graph)


def test_layers_that_share_weights_go_on_to_share_them() -> None:
    net = Net(x=(1, 2, 4, 4))
    net.const("w", random(3, 2, 1, 1, seed=1))
    net.add("a", Conv(), "x", "w")
    net.add("b", Conv(pad=(1, 1, 1, 1)), "x", "w")
    made = quantized(net.graph("a", "b"), {"x": random(1, 2, 4, 4)})

    stored = {n.inputs[1] for n in made.nodes if isinstance(n.op, Conv)}
    sources = {made.producers[v].inputs[0] for v in stored}
    assert (len(stored), len(sources)) == (2, 1)
    assert len(made.constants) == 1


class TestMixedPrecision:
    def test_whole_layers_have_weights_of_8_bits_where_others_are_packed(self) -> None:
        graph, feeds = tiny_cnn()
        scheme = Scheme(packed=(Conv, FullyConnected))
        made = quantized(graph, feeds, scheme=scheme, whole=("conv2",))

        found = {n: dequantized(made, layer(made, n))[0][0].dtype for n in ("conv1", "conv2")}
        assert found == {"conv1": DType.INT4.numpy, "conv2": np.int8}

    def test_spared_layers_stay_in_float(self) -> None:
        graph, feeds = tiny_cnn()
        made = quantized(graph, feeds, spared=("conv2",))

        kept = layer(made, "conv2")
        assert made.constant(kept.inputs[1]) is not None
        assert plan(graph, spared=("conv2",)).reasons == ()


def test_ranges_that_are_not_needed_change_nothing() -> None:
    graph, feeds = tiny_cnn()
    needed = calibrate(graph, plan(graph).measured, [feeds])
    every = calibrate(graph, plan(graph).computed, [feeds])
    # The pool only moves what it reads.
    more = {**every.ranges, "pool": (-9.0, 9.0)}
    assert set(needed.ranges) < set(more)

    known = replace(every, ranges=MappingProxyType(more))
    assert str(QuantizeGraph(known).run(graph)) == str(QuantizeGraph(needed).run(graph))
