"""int16 activations with int8 weights, from the quantized graph to LiteRT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import OptionError
from edgec.evaluate import evaluate
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ir import Array, DType, Example, Graph, QuantParams
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    Clip,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Dequantize,
    Elu,
    FullyConnected,
    Gelu,
    GlobalAveragePool,
    HardSwish,
    Quantize,
    ReduceMean,
    Reshape,
    Resize,
    Sigmoid,
    Sub,
)
from edgec.passes import Pipeline, recipe_named, simplify
from edgec.passes.quantize import activation_params
from edgec.passes.scheme import scheme_wishes
from edgec.targets import Tflite
from edgec.targets.tflite.devices import ETHOS_U
from edgec.targets.tflite.schema import TYPES
from tests.passes.quantization import ratio
from tests.targets.graphs import Net, f32, one_op, quantized, ran, random, tiny_cnn
from tests.targets.test_tflite_conformance import INTEGER, step_of

TARGET = Tflite(recipe=recipe_named("static_wi8_ai16"))
SCHEME = TARGET.scheme()


def tensors(data: bytes) -> list[schema.TensorT]:
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    found: list[schema.TensorT] = file.subgraphs[0].tensors
    return found


def grids(graph: Graph) -> dict[str, tuple[QuantParams, DType]]:
    return {
        n.inputs[0].name: (n.op.params, n.op.dtype)
        for n in graph.nodes
        if isinstance(n.op, Quantize)
    }


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(-1.0, 2.0, 2 / 32767), (-3.0, 2.0, 3 / 32767), (0.0, 1.0, 1 / 32767), (0, 0, 1 / 65535)],
)
def test_grids_are_symmetric(low: float, high: float, scale: float) -> None:
    params = activation_params(low, high, DType.INT16)

    assert params.zero_point == (0,)
    assert params.scale == pytest.approx((scale,), rel=1e-6)


def test_an_interface_of_16_bits_is_not_slow() -> None:
    graph, feeds = tiny_cnn()
    slow = TARGET.compile(quantized(graph, feeds, scheme=SCHEME))
    quick = Tflite("int16").compile(quantized(graph, feeds))

    assert any("int16 activations run in LiteRT" in str(note) for note in slow.notes)
    assert quick.inputs[0].dtype is DType.INT16
    assert not quick.notes


def test_all_activations_have_sixteen_bits() -> None:
    graph, feeds = tiny_cnn()
    made = quantized(graph, feeds, scheme=SCHEME)
    artifact = TARGET.compile(made)

    assert {dtype for _, dtype in grids(made).values()} == {DType.INT16}
    assert to_onnx(made).opset_import[0].version == 21
    kinds = schema.TensorType
    real = [t for t in tensors(artifact.data) if t.quantization is not None]
    stored = [t for t in real if t.quantization.scale is not None]
    assert {t.type for t in stored} == {kinds.INT8, kinds.INT16, kinds.INT32}
    assert len([t for t in stored if t.type == kinds.INT32]) == 3  # one is not in the model
    assert {z for t in stored for z in t.quantization.zeroPoint} == {0}


def test_litert_computes_what_the_graph_says() -> None:
    graph, feeds = tiny_cnn()
    made = quantized(graph, feeds, scheme=SCHEME)
    got, artifact, _ = ran(TARGET, made, feeds)

    assert ratio(evaluate(made, feeds)["classes"], got["classes"]) > 70
    assert ratio(evaluate(graph, feeds)["classes"], got["classes"]) > 45
    assert "CAST" not in artifact.operators
    assert artifact.operators["DEQUANTIZE"] == artifact.operators["QUANTIZE"] == 1


TABLES = Gelu | Resize
"""Kernels that look functions up or weigh with 10 bits, whatever the width of their data."""


@pytest.mark.parametrize("example", INTEGER)
def test_an_example_stays_within_two_steps(example: Example) -> None:
    graph, feeds = one_op(example.op, *example.operands)
    made = quantized(graph, feeds, scheme=SCHEME)

    if isinstance(example.op, Elu):
        assert made.nodes == graph.nodes
        return
    got, artifact, _ = ran(TARGET, made, feeds)
    unit = max(step_of(made, value) for value in made.outputs)
    unit *= 32 if isinstance(example.op, TABLES) else 1
    for name, want in evaluate(made, feeds).items():
        assert np.abs(got[name] - want).max(initial=0) <= 2.001 * unit
    notes = [n.message for n in artifact.notes if "XNNPACK" not in n.message]
    if isinstance(example.op, AveragePool) and notes:
        assert "more elements at one place than at another" in notes[0]
    else:
        assert not notes
        assert artifact.operators.get("DEQUANTIZE", 0) <= len(graph.outputs)
        assert "CAST" not in artifact.operators


def test_the_user_is_told_that_xnnpack_does_not_run_it() -> None:
    graph, feeds = tiny_cnn()
    notes = {
        scheme.activation: TARGET.compile(quantized(graph, feeds, scheme=scheme)).notes
        for scheme in (SCHEME, Tflite().scheme())
    }

    assert notes[DType.INT8] == ()
    (note,) = notes[DType.INT16]
    assert note.message == (
        "int16 activations run in LiteRT's own kernels, not in XNNPACK: expect it to be slower "
        "than float on phones"
    )


def test_a_device_with_such_kernels_is_not_slow() -> None:
    graph, feeds = tiny_cnn()
    target = replace(TARGET, device=ETHOS_U[0])

    assert target.compile(quantized(graph, feeds, scheme=target.scheme())).notes == ()


def test_results_that_operators_prescribe_are_in_32768ths() -> None:
    graph, feeds = tiny_cnn()
    made = quantized(graph, feeds, scheme=SCHEME)

    assert grids(made)["classes.float"][0] == QuantParams((2.0**-15,), (0,))


@pytest.mark.parametrize("low", [-1.0, 0.0, -np.inf])
def test_clips_that_have_no_kernel_are_fused_or_computed(low: float) -> None:
    op = Clip(-1.0, 1.0) if low == -1 else Clip(low, 6.0) if low == 0 else Clip(0.0)
    x = 9 * random(1, 3, 4, 5)
    graph, feeds = one_op(op, x)
    got, artifact, _ = ran(TARGET, quantized(graph, feeds, scheme=SCHEME), feeds)

    np.testing.assert_allclose(got["y"], op_result(op, x), atol=2 * np.abs(x).max() / 32767)
    assert "CAST" not in artifact.operators
    assert artifact.operators["DEQUANTIZE"] == 1


def op_result(op: Clip, x: Array) -> Array:
    return np.asarray(np.clip(x, op.low, op.high))


def test_hard_swish_of_sixteen_bits_is_two_gates_and_a_product() -> None:
    x = np.linspace(-8, 8, 4096, dtype=np.float32).reshape(1, -1)
    graph, feeds = one_op(HardSwish(), x)
    got, artifact, _ = ran(TARGET, quantized(graph, feeds, scheme=SCHEME), feeds)

    assert artifact.operators == {"ADD": 1, "DEQUANTIZE": 1, "MUL": 2, "QUANTIZE": 1}
    np.testing.assert_allclose(got["y"], x * np.clip(x / 6 + 0.5, 0, 1), atol=1e-3)


def test_what_has_no_kernel_of_sixteen_bits_stays_in_float() -> None:
    net = Net(x=(1, 4))
    net.add("a", FullyConnected(), "x", random(4, 4))
    net.add("b", Elu(), "a")
    net.add("y", FullyConnected(), "b", random(4, 4, seed=1))
    graph, feeds = net.graph("y"), {"x": random(1, 4, seed=2)}

    for scheme, count in ((SCHEME, 2), (Tflite().scheme(), 1)):
        got, artifact, _ = ran(TARGET, quantized(graph, feeds, scheme=scheme), feeds)
        assert artifact.operators["DEQUANTIZE"] == count
        assert ratio(evaluate(graph, feeds)["y"], got["y"]) > 25


@pytest.mark.parametrize(
    "op",
    [GlobalAveragePool(), ReduceMean((2, 3), keepdims=True), AveragePool((257, 256))],
    ids=str,
)
def test_means_whose_sums_would_overflow_are_computed_in_float(
    op: GlobalAveragePool | ReduceMean | AveragePool,
) -> None:
    x = np.full((1, 1, 257, 256), 3.0, np.float32)
    graph, feeds = one_op(op, x)
    got, artifact, _ = ran(TARGET, quantized(graph, feeds, scheme=SCHEME), feeds)

    np.testing.assert_allclose(got["y"], 3.0, rtol=1e-4)
    assert "adds up 65536 elements at most" in artifact.notes[0].message


def test_a_sum_of_terms_of_very_different_size_is_right() -> None:
    net = Net(x=(1, 64))
    net.add("y", Add(Activation.RELU), "x", f32(1000 * random(1, 64, seed=1)))
    graph, feeds = net.graph("y"), {"x": random(1, 64)}
    got, artifact, _ = ran(TARGET, quantized(graph, feeds, scheme=SCHEME), feeds)

    assert ratio(evaluate(graph, feeds)["y"], got["y"]) > 80
    assert artifact.operators["ADD"] == 1


def test_a_bias_beyond_32_bits_raises_the_scale_of_its_weights() -> None:
    net = Net(x=(1, 1, 4, 4))
    w = f32([1e-6, 1.0]).reshape(2, 1, 1, 1)
    net.add("y", Conv(), "x", w, f32([100.0, 1.0]))
    graph, feeds = net.graph("y"), {"x": random(1, 1, 4, 4)}
    made = quantized(graph, feeds, scheme=SCHEME)
    got, artifact, _ = ran(TARGET, made, feeds)

    assert bias_type(artifact.data) is DType.INT32
    np.testing.assert_allclose(got["y"], evaluate(graph, feeds)["y"], atol=2 * 100 / 32767)


def test_the_recipe_is_proven_and_nearer_to_float() -> None:
    eight, sixteen = (
        compile_model(MODEL, CompileOptions(("tflite",), name, CALIBRATION, TEST))
        for name in ("static_wi8_ai8", "static_wi8_ai16")
    )

    ratios = [r.report["artifacts"][0]["fidelity"]["sqnr_db"] for r in (eight, sixteen)]
    assert ratios[1] > ratios[0] + 6
    assert sixteen.report["artifacts"][0]["accuracy"] > 0.97


def test_a_target_without_such_kernels_says_so() -> None:
    with pytest.raises(
        OptionError, match=r"onnxruntime has no kernels for recipe static_wi8_ai16: .* tflite"
    ):
        compile_model(
            MODEL.with_name("none.onnx"),
            CompileOptions(("onnxruntime",), "static_wi8_ai16", CALIBRATION),
        )


@pytest.mark.parametrize("words", ["int8", "asymmetric", "int8,per-tensor"])
def test_a_scheme_of_eight_bits_contradicts_the_recipe(words: str) -> None:
    options = CompileOptions(("tflite",), "static_wi8_ai16", CALIBRATION, scheme=words)

    with pytest.raises(OptionError, match="symmetric activations of 16 bits: leave int8 and"):
        compile_model(MODEL.with_name("none.onnx"), options)


def test_scales_may_be_powers_of_two() -> None:
    target = Tflite(recipe=TARGET.recipe, wishes=scheme_wishes("symmetric,power-of-two"))
    graph, feeds = tiny_cnn()
    made = quantized(graph, feeds, scheme=target.scheme())
    got, _, _ = ran(target, made, feeds)

    scales = [p.scale[0] for p, _ in grids(made).values()]
    assert all(np.log2(s) == np.round(np.log2(s)) for s in scales)
    assert ratio(evaluate(made, feeds)["classes"], got["classes"]) > 60


def test_versions_are_those_of_sixteen_bits() -> None:
    graph, feeds = tiny_cnn()
    artifact = TARGET.compile(quantized(graph, feeds, scheme=SCHEME))
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(artifact.data))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}

    assert {names[c.builtinCode]: c.version for c in file.operatorCodes} == {
        "ADD": 3, "CONV_2D": 8, "DEQUANTIZE": 3, "FULLY_CONNECTED": 12, "MAX_POOL_2D": 3,
        "MEAN": 3, "QUANTIZE": 2, "SOFTMAX": 3, "TRANSPOSE": 5,
    }  # fmt: skip


@pytest.mark.parametrize("op", [Add(), Sub()], ids=["add", "sub"])
def test_scales_that_happen_to_be_powers_of_two_are_nothing_special(op: Add | Sub) -> None:
    net = Net(a=(1, 64), b=(1, 64))
    for name, scale in (("a", 2.0**-14), ("b", 2.0**-13)):
        pair(net, name, scale)
    net.add("y", op, "a.real", "b.real")
    graph = net.graph(pair(net, "y", 2.0**-12))
    feeds = {"a": random(1, 64), "b": random(1, 64, seed=1)}
    got, artifact, _ = ran(Tflite(), graph, feeds)

    assert {"ADD", "SUB"} & set(artifact.operators)
    np.testing.assert_allclose(got["y.real"], evaluate(graph, feeds)["y.real"], atol=2.0**-11)


def pair(net: Net, name: str, scale: float, dtype: DType = DType.INT16, zero: int = 0) -> str:
    grid = QuantParams((scale,), (zero,))
    net.add(f"{name}.stored", Quantize(grid, dtype), name)
    return net.add(f"{name}.real", Dequantize(grid, dtype), f"{name}.stored")


@pytest.mark.parametrize(
    ("given", "weights", "why"),
    [
        (DType.INT8, DType.INT8, "operand 0 is i8, its output i16"),
        (DType.INT16, DType.INT4, "its weights are not symmetric int8"),
    ],
)
def test_mixtures_that_no_kernel_takes_are_computed_in_float(
    given: DType, weights: DType, why: str
) -> None:
    net = Net(x=(1, 4))
    pair(net, "x", 0.02 if given is DType.INT8 else 1e-4, given)
    w = np.array([[1, -2, 3, 4], [5, -6, 7, 0]]).astype(weights.numpy)
    net.add("w", Dequantize(QuantParams((0.5,), (0,)), weights), w)
    net.add("y", FullyConnected(), "x.real", "w")
    graph, feeds = net.graph(pair(net, "y", 1e-3)), {"x": random(1, 4)}
    got, artifact, _ = ran(Tflite(), graph, feeds)

    assert why in artifact.notes[0].message
    np.testing.assert_allclose(got["y.real"], evaluate(graph, feeds)["y.real"], atol=2e-3)


def test_a_mean_of_another_width_is_moved_to_the_grid_of_its_result() -> None:
    net = Net(x=(1, 1, 4, 4))
    pair(net, "x", 0.1, DType.INT8, 20)
    net.add("y", AveragePool((2, 2), (2, 2)), "x.real")
    graph, feeds = net.graph(pair(net, "y", 1e-4)), {"x": random(1, 1, 4, 4)}
    got, artifact, _ = ran(Tflite(), prepared(graph), feeds)

    assert artifact.operators["AVERAGE_POOL_2D"] == artifact.operators["DEQUANTIZE"] == 1
    np.testing.assert_allclose(got["y.real"], evaluate(graph, feeds)["y.real"], atol=2e-4)


def prepared(graph: Graph) -> Graph:
    return Pipeline((*TARGET.prepare(), *TARGET.finish())).run(graph)[0]


def test_integers_that_are_moved_as_such_keep_their_grid() -> None:
    net = Net(x=(1, 4))
    grid = QuantParams((1e-4,), (0,))
    net.add("q", Quantize(grid, DType.INT16), "x")
    net.add("flat", Reshape((2, 2)), "q")
    graph = net.graph(net.add("y", Dequantize(grid, DType.INT16), "flat"))
    feeds = {"x": random(1, 4)}
    got, artifact, _ = ran(Tflite(), prepared(graph), feeds)

    assert artifact.operators == {"DEQUANTIZE": 1, "QUANTIZE": 1, "RESHAPE": 1}
    np.testing.assert_array_equal(got["y"], evaluate(graph, feeds)["y"])


def test_a_model_that_came_so_comes_out_so(tmp_path: Path) -> None:
    net = Net(x=(1, 3, 6, 6))
    net.add("conv", Conv(activation=Activation.RELU), "x", random(4, 3, 3, 3), random(4))
    net.add("sum", Add(), "conv", random(4, 1, 1, seed=1))
    net.add("pool", AveragePool((2, 2), (2, 2)), "sum")
    net.add("y", Sigmoid(), "pool")
    feeds = {"x": random(1, 3, 6, 6)}
    made = quantized(net.graph("y"), feeds, scheme=SCHEME)
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(made).SerializeToString())
    back = prepared(simplify(load(path).graph)[0])
    want, artifact, _ = ran(TARGET, made, feeds)
    got, again, _ = ran(TARGET, back, feeds)

    assert again.operators == artifact.operators
    np.testing.assert_array_equal(got["y"], want["y"])


@pytest.mark.parametrize(("channels", "dtype"), [(516, DType.INT32), (517, DType.INT64)])
@pytest.mark.parametrize("kind", ["conv", "fc", "transposed"])
def test_sums_have_as_many_bits_as_they_need(kind: str, channels: int, dtype: DType) -> None:
    """516 products of the largest integers are just below 2^31."""
    net = Net(x=(1, channels) if kind == "fc" else (1, channels, 1, 1))
    w = {"fc": (2, channels), "conv": (2, channels, 1, 1), "transposed": (channels, 2, 1, 1)}
    ops = {"fc": FullyConnected(), "conv": Conv(), "transposed": ConvTranspose()}
    net.add("y", ops[kind], "x", np.ones(w[kind], np.float32))
    graph, feeds = net.graph("y"), {"x": np.ones(net.values["x"].type.ints, np.float32)}
    got, artifact, _ = ran(TARGET, quantized(graph, feeds, scheme=SCHEME), feeds)

    assert bias_type(artifact.data) is dtype
    np.testing.assert_allclose(got["y"], channels, rtol=1e-4)


@pytest.mark.parametrize("bias", [0.0, 100.0])
def test_a_large_bias_counts_among_the_sums(bias: float) -> None:
    net = Net(x=(1, 500))
    net.add("y", FullyConnected(), "x", np.ones((2, 500), np.float32), f32([bias, 0]))
    graph, feeds = net.graph("y"), {"x": np.ones((1, 500), np.float32)}
    got, artifact, _ = ran(TARGET, quantized(graph, feeds, scheme=SCHEME), feeds)

    assert bias_type(artifact.data) is (DType.INT64 if bias else DType.INT32)
    np.testing.assert_allclose(got["y"], [[bias + 500, 500]], atol=2 * (bias + 500) / 32767)


def test_depthwise_convolutions_have_no_kernel_of_32_bits() -> None:
    graph, feeds = one_op(DepthwiseConv(), random(1, 2, 4, 4), random(2, 1, 3, 3), random(2))
    artifact = TARGET.compile(quantized(graph, feeds, scheme=SCHEME))

    assert bias_type(artifact.data) is DType.INT64


def bias_type(data: bytes) -> DType:
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data)).subgraphs[0]
    (layer,) = (op for op in graph.operators if len(op.inputs) > 2)
    codes = {v: k for k, v in TYPES.items()}
    return codes[graph.tensors[layer.inputs[-1]].type]


@pytest.mark.parametrize(("bias", "code"), [(0.02, "QUANTIZE"), (1.0, "DEQUANTIZE")])
def test_a_bias_that_would_be_cut_off_is_not_put_on_the_grid(bias: float, code: str) -> None:
    net = Net(x=(1, 4))
    pair(net, "x", 1e-5)
    w = np.array([[1, -2, 3, 4], [5, -6, 7, 0]], np.int8)
    net.add("w", Dequantize(QuantParams((1e-6,), (0,))), w)
    net.add("y", FullyConnected(), "x.real", "w", f32([bias, 0]))
    graph, feeds = net.graph(pair(net, "y", 1e-4)), {"x": random(1, 4) / 10}
    got, artifact, _ = ran(Tflite(), prepared(graph), feeds)

    np.testing.assert_allclose(got["y.real"], evaluate(graph, feeds)["y.real"], atol=1.1e-4)
    assert artifact.operators[code] == (1 if code == "QUANTIZE" else 2)
