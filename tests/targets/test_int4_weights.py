"""Weights of 4 bits, from the quantized graph to LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import OptionError
from edgec.evaluate import evaluate
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ir import DType, Graph, QuantParams
from edgec.numerics import relative_error
from edgec.ops import (
    Activation,
    Conv,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    Quantize,
    Reshape,
)
from edgec.passes import RECIPES, recipe_named
from edgec.targets import Tflite
from tests.targets.graphs import Net, f32, quantized, random

FOUR = recipe_named("static_wi4_ai8")


def net() -> Graph:
    n = Net(x=(1, 3, 9, 9))
    a = n.add("a", Conv(pad=(1, 1, 1, 1), activation=Activation.RELU), "x", random(5, 3, 3, 3),
              random(5))  # fmt: skip
    b = n.add("b", DepthwiseConv(), a, random(5, 1, 3, 3, seed=1), random(5, seed=2))
    c = n.add("c", Conv(stride=(2, 2)), b, random(3, 5, 1, 1, seed=3))
    d = n.add("d", Reshape((1, 48)), c)
    return n.graph(n.add("e", FullyConnected(), d, random(5, 48, seed=4), random(5, seed=5)))


def test_layers_with_such_kernels_have_four_bits() -> None:
    graph = net()
    feeds = {"x": random(1, 3, 9, 9, seed=9)}
    target = Tflite(recipe=FOUR)
    made = quantized(graph, feeds, scheme=target.scheme())
    stored = {
        n.inputs[0].name: (n.op.dtype, int(np.abs(a.astype(int)).max()))
        for n in made.nodes
        if isinstance(n.op, Dequantize) and (a := made.constant(n.inputs[0])) is not None
    }

    assert {k: v for k, v in stored.items() if ".1." in k} == {
        "a.1.quantized": (DType.INT4, 7),
        "b.1.quantized": (DType.INT8, 127),
        "c.1.quantized": (DType.INT4, 7),
        "e.1.quantized": (DType.INT4, 7),
    }
    assert to_onnx(made).opset_import[0].version == 21
    evaluate(made, feeds)


def test_litert_computes_what_the_graph_says() -> None:
    graph = net()
    feeds = {"x": random(1, 3, 9, 9, seed=9)}
    target = Tflite(recipe=FOUR)
    made = quantized(graph, feeds, scheme=target.scheme())
    artifact = target.compile(made)

    want = evaluate(made, feeds)
    got = target.load(artifact).run(feeds)
    assert relative_error(want, got) < 0.03  # three steps of the last grid
    assert not artifact.notes

    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(artifact.data))
    tensors = file.subgraphs[0].tensors
    packed = [t for t in tensors if t.type == schema.TensorType.INT4]
    sizes = [len(file.buffers[t.buffer].data) for t in packed]
    assert sizes == [(np.prod(t.shape) + 1) // 2 for t in packed]
    assert sorted(map(int, (np.prod(t.shape) for t in packed))) == [15, 135, 240]
    versions = {(c.builtinCode, c.version) for c in file.operatorCodes}
    assert (schema.BuiltinOperator.CONV_2D, 7) in versions


def test_nibbles_are_those_of_the_weights() -> None:
    n = Net(x=(1, 3))
    w = f32([[7, -7, 3], [0.7, 0.1, -0.2], [4, 5, -6]])
    graph = n.graph(n.add("y", FullyConnected(), "x", w, np.zeros(3, np.float32)))
    target = Tflite(recipe=FOUR)
    artifact = target.compile(quantized(graph, {"x": f32([[1, 2, 3]])}, scheme=target.scheme()))
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(artifact.data))
    (packed,) = (t for t in file.subgraphs[0].tensors if t.type == schema.TensorType.INT4)
    data = np.asarray(file.buffers[packed.buffer].data, np.uint8)
    halves = np.stack([data & 15, data >> 4], axis=1).reshape(-1)[:9].astype(int)

    signed = np.where(halves > 7, halves - 16, halves).reshape(3, 3)
    np.testing.assert_array_equal(signed, [[7, -7, 3], [7, 1, -2], [5, 6, -7]])


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT4])
def test_weights_of_the_least_integer_are_computed_in_float(dtype: DType) -> None:
    n = Net(x=(1, 4))
    grid = QuantParams((0.1,), (0,))
    x = n.add("q", Quantize(grid), "x")
    x = n.add("d", Dequantize(grid), x)
    least, _ = dtype.limits
    w = n.add("w", Dequantize(grid, dtype), np.full((3, 4), least).astype(dtype.numpy))
    y = n.add("y", FullyConnected(), x, w)
    y = n.add("yq", Quantize(grid), y)
    artifact = Tflite().compile(n.graph(n.add("yd", Dequantize(grid), y)))

    (note,) = artifact.notes
    assert "its weights are not symmetric" in note.message


def test_one_scale_for_the_weights_of_a_layer() -> None:
    options = CompileOptions(
        ("tflite", "onnxruntime"), "static_wi8_ai8", CALIBRATION, TEST, scheme="per-tensor"
    )
    result = compile_model(MODEL, options)
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(result.files["digits.tflite"]))

    for t in file.subgraphs[0].tensors:
        assert (
            t.quantization is None
            or t.quantization.scale is None
            or len(t.quantization.scale) == 1
        )
    assert all(a["accuracy"] > 0.97 for a in result.report["artifacts"])
    assert result.report["options"]["scheme"] == "per-tensor"
    for artifact in result.report["artifacts"]:
        assert "per-tensor" in artifact["settings"]["scheme"]


def test_a_recipe_of_four_bits_is_proven() -> None:
    eight, four = (
        compile_model(MODEL, CompileOptions(("tflite",), r.name, CALIBRATION, TEST))
        for r in RECIPES[:2]
    )

    assert four.report["artifacts"][0]["accuracy"] > 0.97
    assert len(four.files["digits.tflite"]) < 0.75 * len(eight.files["digits.tflite"])


def test_a_target_without_such_kernels_says_so() -> None:
    with pytest.raises(
        OptionError, match="onnxruntime has no kernels for recipe static_wi4_ai8"
    ):
        # Before the model is looked at: that may take long.
        compile_model(
            MODEL.with_name("none.onnx"),
            CompileOptions(("onnxruntime",), "static_wi4_ai8", CALIBRATION),
        )


def test_the_graph_of_four_bits_comes_back_from_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = quantized(net(), {"x": random(1, 3, 9, 9)}, scheme=Tflite(recipe=FOUR).scheme())
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(made).SerializeToString())
    back = load(path).graph

    packed, again = (
        {n.output.name: (n.op, g.constants[n.inputs[0].name]) for n in g.nodes
         if isinstance(n.op, Dequantize) and n.op.dtype is DType.INT4}
        for g in (made, back)
    )  # fmt: skip
    assert len(packed) == 3
    assert again == packed
