"""Models that burnt users of quantizers before: whole compilations of small ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler import CompileOptions, Result, compile_model
from edgec.ir import Array


def edge_case(tmp_path: Path, *nodes: onnx.NodeProto, **weights: Array) -> Result:
    """Compile a model of ``x [1, 4, 6, 6]`` to ``y`` for both targets, in int8."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(list(nodes), "g", ends, out, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path / "edge.onnx"
    onnx.save(model, path)
    x = np.random.default_rng(0).standard_normal((16, 4, 6, 6)).astype(np.float32)
    options = CompileOptions(("tflite", "onnxruntime"), "static_wi8_ai8", {"x": x})
    return compile_model(path, options)


def weight(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_layer_that_is_next_to_dead_still_loads(tmp_path: Path) -> None:
    # Its largest result on the samples is far below a step of its products, which XNNPACK
    # refuses to rescale.
    first = weight(4, 4, 1, 1)
    x = np.random.default_rng(0).standard_normal((16, 4, 6, 6)).astype(np.float32)
    largest = np.einsum("oc,nchw->nohw", first[:, :, 0, 0], x).max()
    found = edge_case(
        tmp_path,
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="dying"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"], name="after"),
        helper.make_node("Conv", ["x", "v"], ["e"], name="beside"),
        helper.make_node("Add", ["d", "e"], ["y"]),
        w=first,
        b=np.full(4, 1e-5 - largest, np.float32),
        v=weight(4, 4, 1, 1, seed=2),
    )

    assert all(a["fidelity"]["sqnr_db"] > 20 for a in found.report["artifacts"])


def test_an_average_in_ceil_mode_is_what_the_model_computes(tmp_path: Path) -> None:
    pool = helper.make_node(
        "AveragePool",
        ["x"],
        ["y"],
        kernel_shape=[2, 2],
        strides=[5, 5],
        ceil_mode=1,
        count_include_pad=1,
    )
    found = edge_case(tmp_path, pool)

    assert all(a["fidelity"]["sqnr_db"] > 30 for a in found.report["artifacts"])


def test_a_mask_and_what_reads_it_stay_in_float(tmp_path: Path) -> None:
    mask = np.zeros((1, 1, 6, 6), np.float32)
    mask[..., 3:] = -3.4e38
    found = edge_case(
        tmp_path,
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Add", ["c", "mask"], ["m"], name="mask"),
        helper.make_node("Softmax", ["m"], ["y"], name="softmax", axis=-1),
        w=weight(4, 4, 1, 1),
        mask=mask,
    )

    for artifact in found.report["artifacts"]:
        assert artifact["fidelity"]["sqnr_db"] > 25
        reasons = {d["where"]: d["message"] for d in artifact["diagnostics"]}
        assert "its data are masked" in reasons["mask"]
        assert "its data are masked" in reasons["softmax"]


def test_a_softmax_over_one_class_is_one(tmp_path: Path) -> None:
    found = edge_case(
        tmp_path,
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Softmax", ["c"], ["s"], name="softmax", axis=1),
        helper.make_node("Conv", ["s", "v"], ["d"], name="after"),
        helper.make_node("Conv", ["x", "v4"], ["e"], name="beside"),
        helper.make_node("Add", ["d", "e"], ["y"]),
        w=weight(1, 4, 1, 1),
        v=weight(2, 1, 1, 1, seed=2),
        v4=weight(2, 4, 1, 1, seed=3),
    )

    assert all(a["fidelity"]["sqnr_db"] > 25 for a in found.report["artifacts"])


def near_zero(tmp_path: Path, offset: float) -> Path:
    """Save ``y = sigmoid(conv(x) + offset)``: with -14, probabilities that are all rounding."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["y"], name="sigmoid"),
    ]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])]
    bias = np.full(4, offset, np.float32)
    weights: dict[str, Array] = {"w": weight(4, 4, 3, 3) / 10, "b": bias}
    tensors = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "g", ends, out, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def test_outputs_that_are_all_rounding_are_judged_by_their_own(tmp_path: Path) -> None:
    model = near_zero(tmp_path, -14)
    x = np.random.default_rng(0).standard_normal((8, 4, 6, 6)).astype(np.float32)
    options = CompileOptions(("tflite",), None, {"x": x})
    (artifact,) = compile_model(model, options).report["artifacts"]

    # Without that the limit of 1e-3 refuses it, although no number is off by more than 1e-6.
    assert artifact["fidelity"]["max_error"] < 1e-6
    assert artifact["fidelity"]["max_relative_error"] > 1e-3
