"""Scores of artifacts on test samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scoring import Case, float_scores, score
from edgec.compiler import compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.options import CompileOptions


@pytest.fixture(scope="module")
def case() -> Case:
    with np.load(CALIBRATION) as arrays:
        ((name, calibration),) = arrays.items()
    with np.load(TEST) as arrays:
        test, labels = arrays[name][:40], arrays["labels"][:40]
    return Case("digits", MODEL, name, calibration, test, labels, "accuracy")


@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_an_artifact_is_scored_in_its_runtime(case: Case, target: str, tmp_path: Path) -> None:
    options = CompileOptions((target,), "static_wi8_ai8", {case.input: case.calibration})
    result = compile_model(case.model, options)
    result.save(tmp_path)
    (path,) = [p for p in tmp_path.iterdir() if p.suffix in (".tflite", ".onnx")]
    wanted = float_scores(case, tmp_path / "cache")
    found = score(path, case, wanted, tmp_path / "cache")
    assert found.right is not None
    assert found.right.mean() > 0.9
    assert found.agreed is not None
    assert found.agreed.mean() > 0.9
    assert 15 < found.worst_sqnr < 60
    # What is in the cache is taken as it is, and told apart by the contents of the file.
    kept = set((tmp_path / "cache").iterdir())
    assert score(path, case, wanted, tmp_path / "cache").worst_sqnr == found.worst_sqnr
    assert set((tmp_path / "cache").iterdir()) == kept


def test_the_model_itself_has_no_noise(case: Case, tmp_path: Path) -> None:
    wanted = float_scores(case, tmp_path)
    found = score(case.model, case, wanted, tmp_path)
    assert found.worst_sqnr > 100
    assert found.agreed is not None
    assert found.agreed.all()
    (name,) = wanted.outputs
    assert found.psnr(name) > 100
    assert found.count[name] == wanted.outputs[name][0].size


def test_peak_signal_is_one(case: Case, tmp_path: Path) -> None:
    wanted = float_scores(case, tmp_path)
    found = score(case.model, case, wanted, tmp_path)
    (name,) = wanted.outputs
    found.noise[name][:] = 0.01 * found.count[name]
    assert found.psnr(name) == pytest.approx(20)
