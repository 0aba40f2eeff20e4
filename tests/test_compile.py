"""From a model to proven files: the whole of ``edgec compile``."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import edgec
from edgec.compiler import CompileOptions, Result, compile_model
from edgec.debugging import DebugOptions, debug_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import DataError, NumericsError, OptionError
from edgec.passes import lossless
from edgec.recovery import _duration
from edgec.targets import OnnxRuntime, Tflite
from edgec.targets.onnxruntime.devices import this_device
from edgec.targets.tflite.run import interpreter
from edgec.verdict import SENTENCE

BOTH = ("tflite", "onnxruntime")
INT8 = "static_wi8_ai8"


@pytest.fixture(scope="module")
def result() -> Result:
    return compile_model(MODEL, CompileOptions(BOTH, INT8, CALIBRATION, TEST))


def test_writes_one_file_a_target_with_golden_data_and_report(result: Result) -> None:
    names = ["digits.golden.npz", "digits.onnx", "digits.tflite", "report.json"]

    assert sorted(result.files) == names
    assert json.loads(result.files["report.json"]) == result.report


def test_int8_keeps_the_accuracy_of_float(result: Result) -> None:
    reference = result.report["evaluation"]["float"]

    assert reference == pytest.approx(887 / 901)
    for artifact in result.report["artifacts"]:
        assert artifact["accuracy"] >= reference - 0.005
        assert artifact["agreement"] >= 0.99
        assert artifact["fidelity"]["sqnr_db"] > 30


def test_float_artifacts_match_to_rounding() -> None:
    report = compile_model(MODEL, CompileOptions(BOTH, calibration=CALIBRATION)).report

    for artifact in report["artifacts"]:
        assert artifact["fidelity"]["max_relative_error"] < 1e-5
        assert not artifact["quantized"]


def test_holds_the_last_quarter_of_the_samples_out(result: Result) -> None:
    assert result.report["calibration"]["samples"] == 96
    assert result.report["calibration"]["held_out"] == 32
    assert {a["fidelity"]["samples"] for a in result.report["artifacts"]} == {32}


@pytest.mark.parametrize(
    ("count", "calibrated", "held"),
    [(7, 7, 0), (8, 6, 2), (11, 9, 2), (300, 236, 64)],
)
def test_split(count: int, calibrated: int, held: int) -> None:
    x = np.random.default_rng(0).random((count, 1, 8, 8)).astype(np.float32)
    options = CompileOptions(("tflite",), INT8, {"image": x}, min_sqnr_db=-99)
    report = compile_model(MODEL, options).report

    found = report["calibration"]
    assert (found["samples"], found["held_out"]) == (calibrated, held)
    assert report["artifacts"][0]["fidelity"]["samples"] == (held or count)
    said = any("none is held out" in d["message"] for d in report["diagnostics"])
    assert said == (held == 0)


def test_held_out_samples_do_not_change_the_ranges() -> None:
    with np.load(CALIBRATION) as arrays:
        x = arrays["image"].copy()
    options = CompileOptions(("tflite",), INT8, {"image": x})
    before = compile_model(MODEL, options).files["digits.tflite"]
    x[96:] *= 3
    after = compile_model(MODEL, options).files["digits.tflite"]

    assert before == after


def test_report_describes_the_files(result: Result) -> None:
    report = result.report
    assert report["model"]["sha256"] == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    for artifact in report["artifacts"]:
        data = result.files[artifact["file"]]
        assert artifact["bytes"] == len(data)
        assert artifact["sha256"] == hashlib.sha256(data).hexdigest()
        assert artifact["sha256"] == report["digests"][artifact["file"]]
        assert artifact["macs"] == 314_944
        assert [p["name"] for p in artifact["inputs"]] == ["image"]
        assert [p["name"] for p in artifact["outputs"]] == ["probabilities"]
    golden = result.files[report["golden"]]
    assert report["digests"][report["golden"]] == hashlib.sha256(golden).hexdigest()


def test_ledger_has_a_line_for_every_pass(result: Result) -> None:
    lines = [(line["target"], line["pass"]) for line in result.report["ledger"]]

    tflite, runtime = Tflite(), OnnxRuntime()
    assert lines == [
        *(("", p.name) for p in lossless()),
        *(("tflite", p.name) for p in tflite.prepare()),
        ("tflite", "quantize"),
        ("tflite", "refine-ranges"),
        ("tflite", "round-weights"),
        *(("tflite", p.name) for p in tflite.finish()),
        ("tflite", "remove-constant-channels"),
        *(("onnxruntime", p.name) for p in runtime.prepare()),
        ("onnxruntime", "quantize"),
        ("onnxruntime", "refine-ranges"),
        ("onnxruntime", "round-weights"),
        *(("onnxruntime", p.name) for p in runtime.finish()),
    ]
    by_name = {line["pass"]: line for line in result.report["ledger"]}
    assert by_name["fold-batchnorm"]["nodes"] == [19, 14]
    assert all(line["verified"] for line in by_name.values() if line["promise"] != "lossy")
    assert len(result.report["run"]["seconds"]["passes"]) == len(lines)
    assert by_name["refine-ranges"]["layers"]
    rounded = by_name["round-weights"]["layers"]
    assert len(rounded) == 6
    assert all(x["sqnr_db"][1] >= x["sqnr_db"][0] for x in rounded)


def test_a_fast_compilation_finds_ranges_only() -> None:
    options = CompileOptions(
        ("tflite",), "static_wi8_ai8", calibration=CALIBRATION, effort="fast", prove=False
    )
    report = compile_model(MODEL, options).report

    assert report["options"]["effort"] == "fast"
    assert "round-weights" not in [line["pass"] for line in report["ledger"]]
    with pytest.raises(
        OptionError, match="there is no effort 'none'; known: fast, default, full, max"
    ):
        compile_model(MODEL, replace(options, effort="none"))


def test_ranges_that_the_user_chose_stay() -> None:
    options = CompileOptions(
        ("tflite",), "static_wi8_ai8", calibration=CALIBRATION, effort="full", prove=False
    )
    given = compile_model(MODEL, replace(options, ranges="entropy")).report
    passes = [line["pass"] for line in given["ledger"]]
    assert "refine-ranges" not in passes
    assert "round-weights" in passes


def test_the_greatest_effort_says_how_long_it_takes_before_it_starts() -> None:
    told: list[tuple[str, int, int]] = []
    options = CompileOptions(
        ("tflite",), "static_wi4_ai8", calibration=CALIBRATION, effort="max", prove=False
    )
    report = compile_model(MODEL, options, lambda *line: told.append(line)).report

    passes = [line["pass"] for line in report["ledger"]]
    assert passes.index("round-weights") + 1 == passes.index("optimize-rounding")
    stages = [stage for stage, _, _ in told]
    (sentence,) = (stage for stage, _, total in told if total == SENTENCE)
    assert re.fullmatch(
        r"tflite, max: about \d+ (s|min) for 6 layers on this machine", sentence
    )
    assert stages.index(sentence) < stages.index("calibrate")
    told.clear()
    often = replace(options, calibration=CALIBRATION, max_drop=100.0, prove=True)
    compile_model(MODEL, often, lambda *line: told.append(line))
    assert any(
        s.endswith("machine, for every try") for s, _, total in told if total == SENTENCE
    )
    told.clear()
    debug_model(MODEL, options, DebugOptions(), lambda *line: told.append(line))
    assert any("max: about" in s for s, _, total in told if total == SENTENCE)
    told.clear()
    compile_model(MODEL, replace(options, effort="full"), lambda *line: told.append(line))
    assert not [stage for stage, _, total in told if total == SENTENCE]


def test_a_quantized_model_is_trained_last_and_by_every_effort() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[recover]'")
    options = CompileOptions(
        ("tflite",), "static_wi4_ai8", calibration=CALIBRATION, recover=4, prove=False
    )
    for effort in ("fast", "default"):
        report = compile_model(MODEL, replace(options, effort=effort)).report
        (line,) = (line for line in report["ledger"] if line["pass"] == "recover")
        (layer,) = line["layers"]
        assert layer["nats"][1] <= layer["nats"][0]
        assert report["options"]["recover"] == 4
        after = report["ledger"][report["ledger"].index(line) + 1 :]
        assert not {"round-weights", "quantize"} & {line["pass"] for line in after}


def test_training_needs_samples_steps_and_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    options = CompileOptions(("tflite",), recover=4)
    with pytest.raises(OptionError, match="--recover goes with recipes that calibrate only"):
        compile_model(MODEL, options)
    options = replace(options, recipe="static_wi8_ai8", calibration=CALIBRATION)
    with pytest.raises(OptionError, match="--recover is 0 steps, but must be 1 or more"):
        compile_model(MODEL, replace(options, recover=0))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OptionError, match=r"pip install 'edgec\[recover\]'"):
        compile_model(MODEL, options)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "10 s"),
        (44, "40 s"),
        (89, "90 s"),
        (91, "2 min"),
        (3540, "59 min"),
        (3600, "1 h 0 min"),
        (7739, "2 h 0 min"),
        (7801, "2 h 10 min"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert _duration(seconds) == words


def test_no_verify_is_on_the_record() -> None:
    options = CompileOptions(("tflite",), calibration=CALIBRATION, verify=False)
    report = compile_model(MODEL, options).report

    assert report["options"]["verify"] is False
    assert not any(line["verified"] for line in report["ledger"])


def test_without_proof_nothing_runs_and_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*args: object, **settings: object) -> None:
        raise AssertionError("a runtime was started")

    for place in ("edgec.original.ort_session", "edgec.targets.tflite.run.interpreter"):
        monkeypatch.setattr(place, never)
    options = CompileOptions(("tflite", "onnxruntime"), prove=False)
    result = compile_model(MODEL, options)

    assert sorted(result.files) == ["digits.onnx", "digits.tflite", "report.json"]
    assert [a["fidelity"] for a in result.report["artifacts"]] == [None, None]
    assert result.report["golden"] is None
    assert sorted(result.report["digests"]) == ["digits.onnx", "digits.tflite"]
    with pytest.raises(OptionError, match="--eval runs the artifacts"):
        compile_model(MODEL, replace(options, evaluation=TEST))


def test_golden_data_replay_in_both_runtimes(result: Result) -> None:
    with np.load(io.BytesIO(result.files["digits.golden.npz"])) as golden:
        made: Any = interpreter(result.files["digits.tflite"])
        made.set_tensor(made.get_input_details()[0]["index"], golden["tflite/input/image"])
        made.invoke()
        got = made.get_tensor(made.get_output_details()[0]["index"])
        np.testing.assert_array_equal(got, golden["tflite/output/probabilities"])
        session = ort.InferenceSession(MODEL.read_bytes(), providers=["CPUExecutionProvider"])
        (want,) = session.run(None, {"image": golden["input/image"]})
        np.testing.assert_allclose(want, golden["output/probabilities"], atol=1e-6)


_CHILD = """
import hashlib, json, sys
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
options = CompileOptions(("tflite", "onnxruntime"), "static_wi8_ai8", CALIBRATION, TEST)
result = compile_model(MODEL, options)
report = {k: v for k, v in result.report.items() if k != "run"}
files = {k: v for k, v in result.files.items() if k != "report.json"}
digests = {k: hashlib.sha256(v).hexdigest() for k, v in files.items()}
print(json.dumps([digests, report]))
"""


def test_same_input_gives_the_same_bytes_for_any_thread_count(result: Result) -> None:
    want = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in result.files.items()
        if name != "report.json"
    }
    for seed, threads in (("1", "1"), ("2", "2")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        env["OPENBLAS_NUM_THREADS"] = threads
        command = [sys.executable, "-c", _CHILD]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        digests, report = json.loads(done.stdout)
        assert digests == want
        assert report == {k: v for k, v in result.report.items() if k != "run"}


def test_a_kept_layer_stays_float() -> None:
    options = CompileOptions(("tflite",), INT8, CALIBRATION, keep_float=("block2/conv_a",))
    artifact = compile_model(MODEL, options).report["artifacts"][0]

    assert artifact["operators"]["DEQUANTIZE"] == 2
    reasons = [d for d in artifact["diagnostics"] if "--keep-float" in d["message"]]
    assert [d["where"].split(" + ")[0] for d in reasons] == ["block2/conv_a"]


def test_an_unknown_layer_to_keep_is_refused_with_the_nearest_name() -> None:
    options = CompileOptions(("tflite",), INT8, CALIBRATION, keep_float=("block2/conv_c",))

    with pytest.raises(OptionError, match="did you mean 'block2/conv_"):
        compile_model(MODEL, options)


@pytest.mark.parametrize("io_dtype", ["int8", "uint8"])
def test_integer_interface(io_dtype: str) -> None:
    options = CompileOptions(
        ("tflite",), INT8, CALIBRATION, TEST, io_dtype=io_dtype, io_layout="nhwc"
    )
    result = compile_model(MODEL, options)
    (artifact,) = result.report["artifacts"]

    assert artifact["inputs"][0]["dtype"] == io_dtype
    assert artifact["inputs"][0]["shape"] == [1, 8, 8, 1]
    assert artifact["outputs"][0]["scale"] == 1 / 256
    assert artifact["outputs"][0]["zero_point"] == {"int8": -128, "uint8": 0}[io_dtype]
    assert artifact["accuracy"] >= 0.98
    assert "TRANSPOSE" not in artifact["operators"]


def test_transposes_are_counted_with_the_layers_that_insist_on_them(tmp_path: Path) -> None:
    """A convolution over three channels reads them last; the caller gives them first."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y) {
           [first] y = Conv(x, w)
        }
    """)
    weight = np.ones((3, 3, 1, 1), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path)

    keep, nhwc = (
        compile_model(path, CompileOptions(("tflite",), io_layout=layout)).report["artifacts"][
            0
        ]
        for layout in ("keep", "nhwc")
    )

    assert keep["transposes"] == ["first", "y"]
    assert keep["operators"]["TRANSPOSE"] == 2
    assert nhwc["transposes"] == []


def test_a_worse_artifact_than_allowed_is_no_output() -> None:
    options = CompileOptions(BOTH, INT8, CALIBRATION, min_sqnr_db=100)

    with pytest.raises(NumericsError) as caught:
        compile_model(MODEL, options)

    assert [d.where for d in caught.value.diagnostics] == ["tflite", "onnxruntime"]
    assert "less than 100" in caught.value.diagnostics[0].message


def test_a_metric_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def wrong(outputs, labels):\n    p = outputs['probabilities']\n"
    (tmp_path / "judge.py").write_text(
        code + "    return float((p.argmax(1) != labels).mean())\n"
    )
    monkeypatch.chdir(tmp_path)
    options = CompileOptions(("tflite",), None, CALIBRATION, TEST, metric="judge:wrong")
    report = compile_model(MODEL, options).report

    assert report["evaluation"]["float"] == pytest.approx(14 / 901)
    assert report["artifacts"][0]["metric"]["value"] == pytest.approx(14 / 901)
    assert report["artifacts"][0]["accuracy"] is None


def test_label_offset_is_added() -> None:
    with np.load(TEST) as arrays:
        moved = {"image": arrays["image"], "labels": arrays["labels"] - 1}
    options = CompileOptions(("tflite",), None, CALIBRATION, moved, label_offset=1)

    found = compile_model(MODEL, options).report["evaluation"]["float"]
    assert found == pytest.approx(887 / 901)


def test_labels_that_are_no_classes_are_refused() -> None:
    options = CompileOptions(("tflite",), None, CALIBRATION, TEST, label_offset=1)

    with pytest.raises(DataError, match=r"labels go from 1 to 10, but .* classes 0 to 9"):
        compile_model(MODEL, options)


def test_report_names_the_device_an_artifact_is_for() -> None:
    options = CompileOptions(("onnxruntime",), INT8, CALIBRATION, device="arm64")
    (artifact,) = compile_model(MODEL, options).report["artifacts"]

    assert artifact["settings"]["device"] == "arm64"
    if this_device().name != "arm64":
        assert any("made for arm64" in d["message"] for d in artifact["diagnostics"])


def test_a_metric_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_number.py").write_text("def f(outputs, labels):\n    return float('nan')\n")
    monkeypatch.chdir(tmp_path)
    options = CompileOptions(("tflite",), None, CALIBRATION, TEST, metric="no_number:f")

    with pytest.raises(OptionError, match="no number to judge by"):
        compile_model(MODEL, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CompileOptions(()), "no target"),
        (CompileOptions(("arduino",)), "there is no target 'arduino'"),
        (CompileOptions(("tflite",), "int3"), "there is no recipe 'int3'"),
        (CompileOptions(("tflite",), INT8), "needs samples"),
        (CompileOptions(("tflite",), INT8, CALIBRATION, ranges="best"), "no range method"),
        (CompileOptions(("tflite",), INT8, CALIBRATION, ranges="mse", percentile=99.0), "only"),
        (
            CompileOptions(
                ("tflite",), INT8, CALIBRATION, ranges="percentile", percentile=200.0
            ),
            "at most 100",
        ),
        (CompileOptions(("tflite",), io_dtype="int3"), "there is no io dtype 'int3'"),
        (CompileOptions(("tflite",), io_layout="nchw"), "there is no io layout 'nchw'"),
        (CompileOptions(("tflite",), min_sqnr_db=float("nan")), "min_sqnr_db must be a number"),
        (CompileOptions(("tflite",), shapes={"image": ("N", 1, 8, 8)}), "fixed shape"),
        (CompileOptions(("onnxruntime",), device="pdp-11"), "device 'pdp-11' is not known"),
        (CompileOptions(("tflite",), evaluation=TEST, metric="nomodule:f"), "nomodule"),
        (CompileOptions(("tflite",), metric="nomodule:f"), "nomodule"),
        (CompileOptions(("tflite",), evaluation=TEST, metric="json"), "module:function"),
        (CompileOptions(("tflite",), evaluation=TEST, metric="json:nothing"), "no function"),
    ],
)
def test_options_that_make_no_sense(options: CompileOptions, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        compile_model(MODEL, options)


def test_evaluation_needs_labels() -> None:
    options = CompileOptions(("tflite",), calibration=CALIBRATION, evaluation=CALIBRATION)

    with pytest.raises(DataError, match="no 'labels'"):
        compile_model(MODEL, options)


def test_public_functions_do_what_their_examples_say() -> None:
    import doctest

    found = doctest.testmod(edgec)

    assert found.attempted > 0
    assert found.failed == 0
