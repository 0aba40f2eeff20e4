"""The shipped example is small, as good as it says, and what its script writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped, unused-ignore]
import pytest

from edgec.demo import CALIBRATION, MODEL, TEST

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits"


def run_script(output: Path, *options: str) -> None:
    """Run the training script into `output`, which is made."""
    pytest.importorskip("sklearn")
    output.mkdir()
    command = [sys.executable, str(EXAMPLE / "train.py"), "--output", str(output), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rows(path: Path) -> set[bytes]:
    """Return the images of a file, each as its bytes."""
    with np.load(path) as data:
        return {image.tobytes() for image in data["image"]}


def test_model_is_valid_and_small() -> None:
    model = onnx.load(MODEL)

    onnx.checker.check_model(model, full_check=True)
    assert sum(path.stat().st_size for path in (MODEL, CALIBRATION, TEST)) < 150_000


def test_batch_normalisations_are_left_for_the_compiler() -> None:
    kinds = [node.op_type for node in onnx.load(MODEL).graph.node]

    assert kinds.count("BatchNormalization") == kinds.count("Conv") == 5
    assert {"Add", "Clip", "Identity", "Softmax"} < set(kinds)


def test_accuracy_is_what_the_readme_says() -> None:
    said = re.search(
        r"Accuracy: (\d+) of (\d+) test images", (EXAMPLE / "README.md").read_text()
    )
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    with np.load(TEST) as data:
        (probabilities,) = session.run(["probabilities"], {"image": data["image"]})
        right = probabilities.argmax(axis=1) == data["labels"]

    assert said is not None
    assert (int(right.sum()), right.size) == (int(said[1]), int(said[2]))
    assert right.mean() >= 0.98


def test_samples_have_the_types_of_the_model() -> None:
    with np.load(CALIBRATION) as calibration, np.load(TEST) as test:
        assert calibration.files == ["image"]
        assert test.files == ["image", "labels"]
        for image, count in ((calibration["image"], 128), (test["image"], 901)):
            assert (image.dtype, image.shape) == (np.float32, (count, 1, 8, 8))
            assert (image.min(), image.max()) == (0, 1)
        assert (test["labels"].dtype, test["labels"].shape) == (np.int64, (901,))
        assert set(test["labels"]) == set(range(10))


def test_no_calibration_sample_is_a_test_sample() -> None:
    assert len(rows(CALIBRATION)) == 128
    assert len(rows(TEST)) == 901
    assert rows(CALIBRATION).isdisjoint(rows(TEST))


def test_script_writes_the_same_bytes_each_time(tmp_path: Path) -> None:
    run_script(tmp_path / "first", "--epochs", "1")
    run_script(tmp_path / "second", "--epochs", "1")

    for name in (MODEL.name, CALIBRATION.name, TEST.name):
        first, second = tmp_path / "first" / name, tmp_path / "second" / name
        assert first.read_bytes() == second.read_bytes(), name


def test_script_writes_the_shipped_samples(tmp_path: Path) -> None:
    run_script(tmp_path / "again", "--epochs", "0")

    # Not by their bytes: another zlib may compress the same samples differently.
    for shipped in (CALIBRATION, TEST):
        with np.load(shipped) as want, np.load(tmp_path / "again" / shipped.name) as got:
            assert got.files == want.files
            for member in want.files:
                assert got[member].dtype == want[member].dtype
                np.testing.assert_array_equal(got[member], want[member])


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("EDGEC_SLOW") != "1",
    reason="set EDGEC_SLOW=1 on the kind of processor the model was trained on",
)
def test_training_again_gives_the_shipped_files(tmp_path: Path) -> None:
    run_script(tmp_path / "again")

    for shipped in (MODEL, CALIBRATION, TEST):
        assert (tmp_path / "again" / shipped.name).read_bytes() == shipped.read_bytes()
