"""A batch that is left open, and what it costs to leave it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks.models import DATA
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import OptionError
from edgec.evaluate import OnnxSession, ort_session
from edgec.gate import Budget, check
from edgec.numerics import relative_error
from edgec.profiling import profile_file
from tests.models import info, onnx_model, save

OPEN = {"image": ("N", 1, 8, 8)}
ORT = ("onnxruntime",)


def images(count: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    rng = np.random.default_rng(3)
    return {"image": rng.random((count, 1, 8, 8), dtype=np.float32)}


def test_an_artifact_keeps_its_batch_open() -> None:
    result = compile_model(MODEL, CompileOptions(ORT, shapes=OPEN))
    artifact = OnnxSession(ort_session(result.files["digits.onnx"]))
    original = OnnxSession(ort_session(str(MODEL)))

    assert result.report["artifacts"][0]["inputs"][0]["shape"] == ["N", 1, 8, 8]
    assert result.report["artifacts"][0]["macs"] == compiled_macs()
    for count in (1, 7):
        want, got = original.run(images(count)), artifact.run(images(count))
        assert relative_error(want, got) < 1e-5


def compiled_macs() -> int:
    macs: int = compile_model(MODEL, CompileOptions(ORT)).report["artifacts"][0]["macs"]
    return macs


def test_a_quantized_artifact_keeps_its_batch_open(tmp_path: Path) -> None:
    options = CompileOptions(ORT, "static_wi8_ai8", CALIBRATION, TEST, shapes=OPEN)
    result = compile_model(MODEL, options)
    result.save(tmp_path)

    (found,) = result.report["artifacts"]
    assert found["inputs"][0]["shape"] == ["N", 1, 8, 8]
    assert found["accuracy"] > 0.9
    artifact = OnnxSession(ort_session(result.files["digits.onnx"]))
    assert artifact.run(images(5))["probabilities"].shape == (5, 10)
    with np.load(io.BytesIO(result.files["digits.golden.npz"])) as golden:
        assert golden["input/image"].shape == (1, 1, 8, 8)
    profile = profile_file(
        tmp_path / "digits.onnx", runs=1, min_seconds=0, inputs=tmp_path / "digits.golden.npz"
    )
    assert profile.runs == 1
    report = json.loads((tmp_path / "report.json").read_text())
    budgets = [Budget.parse(text) for text in ("accuracy>=0.9", "size_bytes<100000")]
    assert check(report, budgets).exit_code == 0


@pytest.mark.parametrize("targets", [("tflite",), ("onnxruntime", "tflite")])
def test_a_target_with_fixed_shapes_refuses_an_open_batch(targets: tuple[str, ...]) -> None:
    with pytest.raises(OptionError, match="but tflite files have a fixed shape"):
        compile_model(MODEL, CompileOptions(targets, shapes=OPEN))


def test_only_the_batch_can_stay_open(tmp_path: Path) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    path = save(onnx_model([relu], [info("x", "N", "L")], [info("y", "N", "L")]), tmp_path)

    with pytest.raises(OptionError, match="but only its batch, axis 0, can stay open"):
        compile_model(path, CompileOptions(ORT, shapes={"x": ("N", "L")}))


def frozen() -> onnx.ModelProto:
    """A model that claims to take any batch, but was exported with one of 1 inside."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    arrays = {"shape": np.array([1, 12], np.int64)}
    return onnx_model([node], [info("x", "N", 3, 4)], [info("y", "N", 12)], arrays)


def test_a_batch_that_the_model_itself_fixes_cannot_stay_open(tmp_path: Path) -> None:
    path = save(frozen(), tmp_path)

    with pytest.raises(OptionError, match="the model itself runs with a batch of one only"):
        compile_model(path, CompileOptions(ORT, shapes={"x": ("N", 3, 4)}))


RESNET = DATA / "models/cifar10/resnet20_cifar10.onnx"


@pytest.mark.skipif(not RESNET.exists(), reason="the model is not at hand; set EDGEC_DATA")
def test_a_real_model_is_as_small_with_an_open_batch_as_with_a_fixed_one() -> None:
    shapes = {"input": ("N", 3, 32, 32)}
    opened = compile_model(RESNET, CompileOptions(ORT, shapes=shapes)).report
    fixed = compile_model(RESNET, CompileOptions(ORT)).report

    assert opened["artifacts"][0]["nodes"] == fixed["artifacts"][0]["nodes"]
    assert opened["artifacts"][0]["macs"] == fixed["artifacts"][0]["macs"]
