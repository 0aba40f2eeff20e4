"""Sequences, optionals and maps: ONNX Runtime artifacts carry them, everything else refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.compiler import CompileOptions, compile_model
from edgec.errors import OptionError, UnsupportedError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Graph, verify
from edgec.numerics import arrays_of, relative_error
from edgec.passes import Pipeline, lossless
from tests.models import info, onnx_model, save

F32, I64 = TensorProto.FLOAT, TensorProto.INT64
ROW = np.array([[1.0, -2.0, 3.0]], np.float32)


def sequence(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, F32, [1, 3])


def same(path: Path, **feeds: Any) -> Graph:
    """Load, simplify, and compare with ONNX Runtime on the file."""
    want = OnnxSession(ort_session(str(path), optimize=False)).run(feeds)
    graph, _ = Pipeline(lossless()).run(load(path).graph)
    verify(graph)
    assert relative_error(want, evaluate(graph, feeds)) == 0
    return graph


def test_a_sequence_goes_in_and_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("SequenceInsert", ["s", "r"], ["y"]),
    ]
    model = onnx_model(nodes, [sequence("s"), info("x", 1, 3)], [sequence("y")])

    graph = same(save(model, tmp_path), s=[ROW, ROW + 1], x=ROW)
    assert [str(v.type) for v in graph.inputs] == ["seq(f32[1,3])", "f32[1,3]"]
    assert [str(v.type) for v in graph.outputs] == ["seq(f32[1,3])"]
    assert [str(node.op) for node in graph.nodes] == ["Relu()", "SequenceInsert"]


def test_a_sequence_inside_of_a_model_has_the_type_of_its_elements(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    graph = same(save(onnx_model(nodes, [info("x", 1, 3)], ["y"]), tmp_path), x=ROW)

    assert str(graph.nodes[0].output.type) == "seq(f32[1,3])"


def test_a_sequence_of_constants_stays_while_what_is_read_of_it_is_folded(
    tmp_path: Path,
) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["a", "b"], ["s"]),
        helper.make_node("SequenceAt", ["s", "one"], ["k"]),
        helper.make_node("Add", ["x", "k"], ["y"]),
    ]
    arrays = {"a": ROW, "b": ROW + 1, "one": np.array(1)}
    kept = onnx_model(nodes, [info("x", 1, 3)], ["y", sequence("s")], arrays)

    folded = same(save(onnx_model(nodes, [info("x", 1, 3)], ["y"], arrays), tmp_path), x=ROW)
    assert [str(node.op) for node in folded.nodes] == ["Add()"]
    graph = same(save(kept, tmp_path), x=ROW)
    assert [str(node.op) for node in graph.nodes] == ["SequenceConstruct", "Add()"]


@pytest.mark.parametrize("given", [ROW, None], ids=["given", "left out"])
def test_an_optional_goes_in(given: object, tmp_path: Path) -> None:
    tensor = helper.make_tensor_type_proto(F32, [1, 3])
    optional = helper.make_value_info("o", helper.make_optional_type_proto(tensor))
    node = helper.make_node("OptionalHasElement", ["o"], ["y"])
    out = helper.make_tensor_value_info("y", TensorProto.BOOL, [])
    graph = same(save(onnx_model([node], [optional], [out]), tmp_path), o=given)

    assert str(graph.inputs[0].type) == "optional(f32[1,3])"


def classifier() -> onnx.ModelProto:
    """Scores by class, as scikit-learn's exporter writes them."""
    zip_map = helper.make_node(
        "ZipMap", ["p"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[3, 5, 8]
    )
    scores = helper.make_map_type_proto(I64, helper.make_tensor_type_proto(F32, []))
    out = helper.make_value_info("y", helper.make_sequence_type_proto(scores))
    nodes = [helper.make_node("Softmax", ["x"], ["p"]), zip_map]
    model = onnx_model(nodes, [info("x", 1, 3)], [out])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


def test_a_map_goes_out(tmp_path: Path) -> None:
    graph = same(save(classifier(), tmp_path), x=ROW)

    assert str(graph.outputs[0].type) == "seq(map(i64, f32[]))"


def test_compiles_and_proves_what_returns_a_sequence(tmp_path: Path) -> None:
    result = compile_model(
        save(classifier(), tmp_path),
        CompileOptions(("onnxruntime",), calibration={"x": np.concatenate([ROW, -ROW])}),
    )

    (artifact,) = result.report["artifacts"]
    assert artifact["outputs"][0]["dtype"] == "seq(map(i64, f32[]))"
    assert artifact["fidelity"]["max_error"] < 1e-6


def test_compiles_what_takes_a_sequence(tmp_path: Path) -> None:
    node = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)
    path = save(onnx_model([node], [sequence("s")], ["y"]), tmp_path)

    result = compile_model(path, CompileOptions(("onnxruntime",)))
    assert result.report["artifacts"][0]["inputs"][0]["dtype"] == "seq(f32[1,3])"
    with pytest.raises(OptionError, match="samples can be given for tensors only"):
        compile_model(path, CompileOptions(("onnxruntime",), calibration={"s": ROW}))
    with pytest.raises(UnsupportedError, match="tflite takes and returns tensors only"):
        compile_model(path, CompileOptions(("tflite",)))
    with pytest.raises(OptionError, match="--shape s: the input is no tensor"):
        load(path, {"s": (1, 3)})


def test_what_is_in_containers_is_compared_by_name() -> None:
    one, two = {"s": [ROW]}, {"s": [ROW, ROW]}

    assert list(arrays_of(two)) == ["s.length", "s[0]", "s[1]"]
    assert list(arrays_of({"m": {3: 0.5}, "none": None})) == ["m.keys", "m.values", "none"]
    assert relative_error(one, two) == relative_error(two, one) == np.inf  # type: ignore[arg-type]
    assert relative_error({"m": {3: 0.5}}, {"m": {4: 0.5}}) == np.inf  # type: ignore[dict-item]
