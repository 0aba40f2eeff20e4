"""``edgec check`` and ``edgec diff``, and what ``edgec inspect`` says of TFLite files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import numpy_helper

from edgec.demo import MODEL
from edgec.targets import Tflite
from tests.targets.graphs import quantized, tiny_cnn

Run = Callable[..., Result]

REFUSED = """
<ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
net (float[1, 4] x) => (float[1, 4] y) {
   a = Relu(x)
   [layer_two] b = acme.Odd(a)
   y = Relu(b)
}
"""


@pytest.fixture
def odd(tmp_path: Path) -> str:
    path = tmp_path / "odd.onnx"
    model = onnx.parser.parse_model(REFUSED)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("b", 1, [1, 4]))
    onnx.save(model, path)
    return path.name


@pytest.fixture
def int8(tmp_path: Path) -> str:
    path = tmp_path / "tiny.tflite"
    graph, feeds = tiny_cnn()
    path.write_bytes(Tflite(io_dtype="int8").compile(quantized(graph, feeds)).data)
    return path.name


# ---- check


@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_a_model_that_compiles_is_taken(edgec: Run, target: str) -> None:
    found = edgec("check", str(MODEL), "--target", target)

    assert found.exit_code == 0
    assert found.stdout.splitlines()[0] == f"{target} takes {MODEL.name}"


def test_every_layer_that_is_refused_is_named(edgec: Run, odd: str) -> None:
    found = edgec("check", odd)

    assert found.exit_code == 5
    assert found.stdout.splitlines() == [
        "tflite refuses odd.onnx: 1 problem",
        "  layer_two: untyped operator acme.Odd has no TFLite form (compile for onnxruntime, "
        "or replace the layer)",
    ]
    listed = json.loads(edgec("check", odd, "--json").stdout)
    assert [d["where"] for d in listed["refused"]] == ["layer_two"]
    assert edgec("check", odd, "--json").exit_code == 5


def test_what_the_runtime_itself_refuses_counts(edgec: Run, odd: str) -> None:
    found = edgec("check", odd, "--target", "onnxruntime")

    assert found.exit_code == 5
    assert "Odd" in found.stdout


def test_operators_that_fall_out_of_a_delegate_are_named(edgec: Run, int8: str) -> None:
    found = json.loads(edgec("check", int8, "--delegate", "xnnpack", "--json").stdout)

    said = found["delegates"]["xnnpack"]
    assert [(e["layer"], e["operator"]) for e in said["fallen"]] == [("classes", "SOFTMAX")]
    assert said["delegated"] == said["operators"] - 1


def test_layers_have_the_names_of_the_users_model(edgec: Run) -> None:
    found = json.loads(edgec("check", str(MODEL), "--delegate", "gpu", "--json").stdout)
    layers = {n.name for n in onnx.load(MODEL).graph.node}

    fallen = found["delegates"]["gpu"]["fallen"]
    assert fallen
    assert {e["layer"] for e in fallen} <= layers | {"image", "probabilities"}


def test_the_gpu_delegate_takes_no_integers(edgec: Run, int8: str) -> None:
    found = edgec("check", int8, "--delegate", "gpu")

    assert "gpu runs 0 of " in found.stdout
    assert "CONV_2D computes i8, not float" in found.stdout


@pytest.mark.skipif(importlib.util.find_spec("ethosu") is None, reason="needs ethos-u-vela")
def test_the_npu_compiler_is_asked(edgec: Run, int8: str, tmp_path: Path) -> None:
    found = json.loads(edgec("check", int8, "--delegate", "ethos-u", "--json").stdout)
    assert found["delegates"]["ethos-u"]["fallen"] == []

    graph, _ = tiny_cnn()
    (tmp_path / "float.tflite").write_bytes(Tflite().compile(graph).data)
    found = json.loads(edgec("check", "float.tflite", "--delegate", "ethos-u", "--json").stdout)
    said = found["delegates"]["ethos-u"]
    assert "CONV_2D" in {e["operator"] for e in said["fallen"]}
    assert all("Float32" in e["reason"] for e in said["fallen"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--delegate", "tpu"], "there is no delegate 'tpu'; known: xnnpack, gpu, ethos-u"),
        (["--target", "gpu"], "there is no target 'gpu'; known: tflite, onnxruntime"),
    ],
)
def test_wrong_names_are_usage_errors(edgec: Run, args: list[str], message: str) -> None:
    found = edgec("check", str(MODEL), *args)

    assert found.exit_code == 2
    assert message in found.stderr


def test_a_tflite_file_has_no_other_target(edgec: Run, int8: str) -> None:
    assert edgec("check", int8, "--target", "onnxruntime").exit_code == 2


# ---- diff


def changed(tmp_path: Path) -> str:
    """The demo model with another first weight, and one layer more."""
    model = onnx.load(MODEL)
    weight = max(model.graph.initializer, key=lambda t: len(t.dims))
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += 1
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    out = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if n == out else n for n in node.output]
    model.graph.node.append(onnx.helper.make_node("Abs", ["before"], [out], "added_layer"))
    onnx.save(model, tmp_path / "changed.onnx")
    return "changed.onnx"


def test_a_model_does_not_differ_from_itself(edgec: Run) -> None:
    found = edgec("diff", str(MODEL), str(MODEL))

    assert found.exit_code == 0
    assert found.stdout.splitlines()[-1] == "no operator differs"


def test_what_is_kept_unread_is_not_printed(edgec: Run, odd: str) -> None:
    model = onnx.load(odd)
    node = next(n for n in model.graph.node if n.op_type == "Odd")
    node.attribute.append(onnx.helper.make_attribute("how", 3))
    onnx.save(model, "other.onnx")

    found = json.loads(edgec("diff", odd, "other.onnx", "--json").stdout)

    assert [d["what"] for d in found["changed"]] == [["attributes"]]


def test_differences_are_named(edgec: Run, tmp_path: Path) -> None:
    found = json.loads(edgec("diff", str(MODEL), changed(tmp_path), "--json").stdout)

    assert [(u["name"], u["operator"]) for u in found["added"]] == [("added_layer", "Abs")]
    assert found["removed"] == []
    assert [c["what"] for c in found["changed"]] == [["constants"]]
    assert found["operators"] == {"Abs": [0, 1]}
    assert found["nodes"][1] == found["nodes"][0] + 1


def test_a_layer_with_another_name_is_still_the_same(edgec: Run, tmp_path: Path) -> None:
    model = onnx.load(MODEL)
    for node in model.graph.node:
        node.name = f"renamed/{node.name}"
    onnx.save(model, tmp_path / "renamed.onnx")

    found = json.loads(edgec("diff", str(MODEL), "renamed.onnx", "--json").stdout)
    assert (found["added"], found["removed"], found["changed"]) == ([], [], [])


def test_two_formats_compare_by_size(edgec: Run, int8: str) -> None:
    found = edgec("diff", str(MODEL), int8)

    assert "CONV_2D" in found.stdout
    assert "two formats" in found.stdout


def test_the_weights_of_tflite_files_are_compared(
    edgec: Run, int8: str, tmp_path: Path
) -> None:
    graph, feeds = tiny_cnn()
    twice = {k: np.asarray(2 * v) for k, v in feeds.items()}
    other = Tflite(io_dtype="int8").compile(quantized(graph, twice)).data
    (tmp_path / "other.tflite").write_bytes(other)

    found = json.loads(edgec("diff", int8, "other.tflite", "--json").stdout)
    assert {c["operator"] for c in found["changed"]} >= {"CONV_2D", "ADD"}
    assert found["operators"] == {}


# ---- inspect


def test_inspect_reads_tflite(edgec: Run, int8: str) -> None:
    found = edgec("inspect", int8)

    assert found.exit_code == 0
    first, second, *_, last = found.stdout.splitlines()
    assert first.startswith("tiny.tflite: ")
    assert second.startswith("  input image: i8[1,3,8,8], scale 0.0")
    assert last.startswith("XNNPACK runs ")
    listed = json.loads(edgec("inspect", int8, "--json").stdout)
    assert {"name": "CONV_2D", "version": 3, "dtype": "i8", "count": 2} in listed["operators"]


def test_a_damaged_tflite_file_is_one_error(edgec: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"\0\0\0\0TFL3")
    for args in (["inspect", "bad.tflite"], ["check", "bad.tflite"],
                 ["diff", "bad.tflite", str(MODEL)]):  # fmt: skip
        found = edgec(*args)
        assert found.exit_code == 1
        assert "bad.tflite is damaged" in found.stderr
