"""Models of other floats than float32: what is computed in which, and what the user is told."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler import CompileOptions, compile_model
from edgec.evaluate import evaluate, ort_session
from edgec.frontend import load
from edgec.frontend.floats import in_float32
from edgec.ir import ContainerType, DType, Graph, TensorType, verify
from edgec.ops import Add, Cast, Opaque, Relu
from edgec.passes import simplify
from tests.forms import FLOATS, in_floats, model_path
from tests.models import Sketch, info, onnx_model, save

F16, F32, F64, BF16 = DType.FLOAT16, DType.FLOAT32, DType.FLOAT64, DType.BFLOAT16


def layers(graph: Graph) -> list[str]:
    return [f"{n.output.name}: {n.output.type} = {n.op}" for n in graph.nodes]


def half() -> Sketch:
    return Sketch(2, 3, dtype=F16)


def test_inputs_and_outputs_keep_their_types() -> None:
    s = half()
    w = s.const(np.full(3, 0.5, np.float16))
    graph = s.graph(s.add(Relu(), s.add(Add(), s.x, w)))
    after = in_float32(graph, (F16,))
    verify(after)

    assert layers(after) == [
        "x.f32: f32[2,3] = Cast()",
        "v0: f32[2,3] = Add()",
        "v1.f32: f32[2,3] = Relu()",
        "v1: f16[2,3] = Cast(to=f16)",
    ]
    assert [n.origin for n in after.nodes] == [("n0",), ("n0",), ("n1",), ("n1",)]
    x = np.arange(6, dtype=np.float16).reshape(2, 3)
    np.testing.assert_array_equal(evaluate(after, {"x": x})["v1"], x + np.float16(0.5))


def test_inputs_and_outputs_may_become_float32_too() -> None:
    s = half()
    graph = s.graph(s.add(Relu(), s.x))
    after = in_float32(graph, (F16,), interface=True)
    verify(after)

    assert layers(after) == ["v0: f32[2,3] = Relu()"]
    assert (after.inputs[0].type.dtype, after.outputs[0].type.dtype) == (F32, F32)


def test_other_types_are_left_alone() -> None:
    s = half()
    graph = s.graph(s.add(Relu(), s.x))

    assert in_float32(graph, (F64, BF16)) is graph


def test_casts_in_between_go() -> None:
    s = half()
    graph = s.graph(s.add(Cast(F16), s.add(Relu(), s.add(Cast(F32), s.x))))
    after = in_float32(graph, (F16,), interface=True)
    verify(after)

    assert [str(n.op) for n in simplify(after)[0].nodes] == ["Relu()"]


def test_what_is_read_between_casts_and_after_them() -> None:
    """A value that is an output and is read further has both forms."""
    s = half()
    a = s.add(Relu(), s.x)
    graph = s.graph(a, s.add(Add(), a, a))
    after = in_float32(graph, (F16,))
    verify(after)

    assert [str(v.type) for v in after.outputs] == ["f16[2,3]", "f16[2,3]"]
    x = np.ones((2, 3), np.float16)
    assert evaluate(after, {"x": x})["v1"].max() == 2


def test_constants_beyond_float32_become_its_largest_number() -> None:
    s = Sketch(2, dtype=F64)
    graph = s.graph(s.add(Add(), s.x, s.const(np.array([-1e300, -np.inf]))))
    after = in_float32(graph, (F64,))
    (constant,) = after.constants.values()

    assert constant.array.tolist() == [-float(np.finfo(np.float32).max), -np.inf]


def opaque(op_type: str, *outputs: TensorType, **attributes: int) -> Opaque:
    node = onnx.NodeProto(op_type=op_type)
    node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return Opaque(op_type, "", 18, node.SerializeToString(), outputs)


def test_an_untyped_node_is_computed_in_float32_too() -> None:
    s = half()
    op = opaque("MeanVarianceNormalization", TensorType(F16, None))
    after = in_float32(s.graph(s.add(op, s.x)), (F16,), interface=True)
    verify(after)

    assert after.nodes[0].output.type.dtype is F32


def test_an_attribute_that_names_a_type_names_float32() -> None:
    s = half()
    like = opaque("RandomNormalLike", TensorType(F16, None), dtype=TensorProto.FLOAT16)
    y = s.add(Add(), s.add(like, s.add(Relu(), s.x)), s.x)
    after = in_float32(s.graph(y), (F16,), interface=True)
    verify(after)

    assert [str(n.op) for n in after.nodes] == ["Relu()", "RandomNormalLike", "Add()"]
    assert after.nodes[1].output.type.dtype is F32


def test_a_node_that_makes_a_sequence_stays_between_casts() -> None:
    s = half()
    sequence = ContainerType.of("seq", TensorType(F16, (2, 3)))
    made = s.add(opaque("SequenceConstruct", sequence), s.add(Relu(), s.x))
    position = s.const(np.array(0))
    y = s.add(opaque("SequenceAt", TensorType(F16, (2, 3))), made, position)
    after = in_float32(s.graph(s.add(Relu(), y)), (F16,), interface=True)
    verify(after)

    assert [str(n.op) for n in after.nodes][:3] == [
        "Relu()",
        "Cast(to=f16)",
        "SequenceConstruct",
    ]


def branches(code: int, dtype: np.dtype[np.generic]) -> onnx.ModelProto:
    """A condition in whose branches there are weights, constants and casts of one float."""
    w = numpy_helper.from_array(np.array([0.5, 1.5, 2.5]).astype(dtype), "w")
    two = numpy_helper.from_array(np.array(2).astype(dtype))
    times = [
        helper.make_node("Mul", ["r", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Cast", ["whole"], ["t"], to=code),
    ]
    plus = [
        helper.make_node("Constant", [], ["two"], value=two),
        helper.make_node("Add", ["r", "two"], ["e"]),
    ]
    result = info("t", 1, 3, dtype=code)
    then = helper.make_graph(times, "then", [], [result], [w])
    other = helper.make_graph(plus, "else", [], [info("e", 1, 3, dtype=code)])
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    inputs = [info("x", 1, 3, dtype=code), info("c", dtype=TensorProto.BOOL)]
    return onnx_model(nodes, inputs, [info("y", 1, 3, dtype=code)], opset=22)


@pytest.mark.parametrize("name", FLOATS)
def test_subgraphs_are_computed_in_float32_too(name: str, tmp_path: Path) -> None:
    code, dtype = FLOATS[name]
    graph = load(save(branches(code, dtype), tmp_path)).graph
    wide = in_float32(graph, (F16, F64), interface=True)
    verify(wide)

    assert [str(n.op) for n in wide.nodes] == ["Relu()", "If"]
    assert {v.type.dtype for v in wide.values()} == {F32, DType.BOOL}
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    for condition, want in ((True, [[0, 3, 7]]), (False, [[3, 4, 5]])):
        got = evaluate(wide, {"x": x, "c": np.array(condition)})["y"]
        np.testing.assert_array_equal(got, np.array(want, np.float32))


@pytest.mark.parametrize("name", FLOATS)
def test_models_with_subgraphs_compile_for_both_targets(name: str, tmp_path: Path) -> None:
    path = save(branches(*FLOATS[name]), tmp_path)
    result = compile_model(path, CompileOptions(("onnxruntime", "tflite")))

    assert [a["target"] for a in result.report["artifacts"]] == ["onnxruntime", "tflite"]


def test_a_bfloat16_model_is_computed_in_float32(tmp_path: Path) -> None:
    weight = np.array([0.5, 1.5, 2.5], ml_dtypes.bfloat16)
    code = TensorProto.BFLOAT16
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    model = onnx_model(
        [node], [info("x", 1, 3, dtype=code)], [info("y", 1, 3, dtype=code)], {"w": weight}
    )
    loaded = load(save(model, tmp_path))

    assert layers(loaded.graph) == ["y: f32[1,3] = Mul()"]
    assert loaded.graph.inputs[0].type.dtype is F32
    (note,) = loaded.notes
    assert "is a bfloat16 model: it is computed in float32" in note.message
    x = np.array([[2, 4, 6]], np.float32)
    np.testing.assert_array_equal(evaluate(loaded.graph, {"x": x})["y"], [[1, 6, 15]])


CASES = [
    ("resnet8_cifar10", "float16", "float16", "float32"),
    ("resnet8_cifar10", "bfloat16", "float32", "float32"),
    ("resnet8_cifar10", "float64", "float64", "float32"),  # ONNX Runtime lacks convolutions
    ("lenet_300_100_mnist", "float64", "float64", "float32"),
    ("ad01_fc_autoencoder", "float16", "float16", "float32"),
]


@pytest.mark.parametrize(("name", "floats", "ort", "lite"), CASES)
def test_a_real_model_of_other_floats_compiles_for_both_targets(
    name: str, floats: str, ort: str, lite: str, tmp_path: Path
) -> None:
    path = model_path(name)
    if not path.exists():
        pytest.skip(f"there is no {path}; set EDGEC_DATA")
    converted = save(in_floats(onnx.load(path), floats), tmp_path)

    report = compile_model(converted, CompileOptions(("onnxruntime", "tflite"))).report
    first, second = report["artifacts"]
    assert (first["inputs"][0]["dtype"], second["inputs"][0]["dtype"]) == (ort, lite)
    assert first["fidelity"]["max_relative_error"] < 1e-3
    assert second["fidelity"]["max_relative_error"] < 2e-3
    told = [d["message"] for d in second["diagnostics"] + report["diagnostics"]]
    said = f"is {floats} in the model and float32 in the file"
    assert any(said in text or "is a bfloat16 model" in text for text in told)


def test_what_cannot_run_in_float64_is_converted_without_a_proof_too(tmp_path: Path) -> None:
    path = model_path("resnet8_cifar10")
    if not path.exists():
        pytest.skip(f"there is no {path}; set EDGEC_DATA")
    converted = save(in_floats(onnx.load(path), "float64"), tmp_path)

    result = compile_model(converted, CompileOptions(("onnxruntime",), prove=False))
    ort_session(result.files["net.onnx"])
