"""``--max-drop`` from the command line to the files, on artifacts that really ran."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgec.cli import main
from edgec.compiler import CompileOptions, Result, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import DataError, OptionError
from edgec.ir import Array
from edgec.precision import Drop, Loss

INT4 = "static_wi4_ai8"

_METRIC = """
import numpy as np

def fineness(outputs, labels):
    '''How many different numbers there are, up to 300: integers of 8 bits have 256.'''
    (logits,) = outputs.values()
    return float(min(300, np.unique(logits).size))

def first_only(outputs, labels, seen=[]):
    '''1 for the float model, 0 for whatever differs from it in a bit.'''
    (logits,) = outputs.values()
    seen.append(logits)
    return float(np.array_equal(logits, seen[0]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    Path("edgec_test_metric.py").write_text(_METRIC)


def compiled(limit: float, *targets: str, metric: str | None = None, **more: object) -> Result:
    options = CompileOptions(
        targets or ("tflite",), INT4, CALIBRATION, effort="fast", max_drop=limit,
        compare_speed=False, evaluation=TEST if metric else None,
        metric=None if metric is None else f"edgec_test_metric:{metric}", **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return compile_model(MODEL, options)


def test_layers_get_bits_until_the_metric_holds() -> None:
    result = compiled(10, metric="fineness")

    (artifact,) = result.report["artifacts"]
    search = artifact["search"]
    assert result.refused is None
    assert search["holds"]
    assert search["measure"] == "edgec_test_metric:fineness"
    assert artifact["metric"]["value"] == 300
    assert search["tries"][0]["drop"] > 10 >= search["drop"]
    assert search["tries"][0]["bytes"] < artifact["bytes"]
    assert {r["after"] for r in search["raised"]} & {"float16", "float32"}
    assert 0 < len(search["raised"]) < search["layers"]
    assert artifact["operators"]["DEQUANTIZE"] >= 1  # what is in integers ends before the end
    assert any(s["noise_db"]["int8"] is not None for s in search["sensitivities"])


def test_both_targets_have_a_search_of_their_own() -> None:
    options = CompileOptions(
        ("tflite", "onnxruntime"), "static_wi8_ai8", CALIBRATION, TEST, effort="fast",
        max_drop=0.5, compare_speed=False,
    )  # fmt: skip
    report = compile_model(MODEL, options).report
    for artifact in report["artifacts"]:
        assert artifact["search"]["holds"]
        lost = 100 * (report["evaluation"]["float"] - artifact["accuracy"])
        assert artifact["search"]["drop"] == pytest.approx(lost, abs=1e-3)
        assert artifact["search"]["measure"] == "accuracy"


def test_without_labels_classes_have_to_agree() -> None:
    (artifact,) = compiled(100).report["artifacts"]
    search = artifact["search"]
    agreement = artifact["fidelity"]["top1_agreement"]
    assert search["measure"] == "agreement"
    assert search["samples"] == artifact["fidelity"]["samples"]
    assert search["drop"] == pytest.approx(100 * (1 - agreement), abs=1e-3)


def test_the_same_search_gives_the_same_bytes_from_the_cache_and_without() -> None:
    files = [compiled(10, metric="fineness").files["digits.tflite"] for _ in range(2)]
    assert files[0] == files[1]


def test_the_command_exits_with_6_and_writes_the_best() -> None:
    line = (
        f"compile {MODEL} -t tflite --recipe {INT4} --calibration {CALIBRATION} --eval {TEST} "
        "--effort fast --no-speed --metric edgec_test_metric:first_only --max-drop 0.5 -o out"
    )
    done = CliRunner().invoke(main, line.split(), prog_name="edgec")

    assert done.exit_code == 6, done.output
    assert "PROBLEM  digits.tflite loses 1 of edgec_test_metric:first_only" in done.output
    assert "--max-drop does not hold" in done.output
    report = json.loads(Path("out/report.json").read_text())
    assert report["artifacts"][0]["search"]["holds"] is False
    assert Path("out/digits.tflite").stat().st_size == report["artifacts"][0]["bytes"]


def test_the_command_tells_what_it_cost() -> None:
    line = (
        f"compile {MODEL} -t tflite --recipe {INT4} --calibration {CALIBRATION} --eval {TEST} "
        "--effort fast --no-speed --metric edgec_test_metric:fineness --max-drop 10 -o out"
    )
    done = CliRunner().invoke(main, line.split(), prog_name="edgec")

    assert done.exit_code == 0, done.output
    search = json.loads(Path("out/report.json").read_text())["artifacts"][0]["search"]
    assert f"{len(search['raised'])} of {search['layers']} layers have more bits" in done.output
    assert "int4 → " in done.output or "int8 → " in done.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_drop": -1.0}, "0 or more"),
        ({"max_drop": float("nan")}, "0 or more"),
        ({"recipe": None}, "a recipe or one of"),
        ({"prove": False}, "--no-proof"),
        ({"metric": "edgec_test_metric:fineness"}, "give --eval"),
    ],
)
def test_options_that_make_no_sense(change: dict[str, object], message: str) -> None:
    given = {"recipe": INT4, "max_drop": 0.5, "calibration": CALIBRATION, **change}
    with pytest.raises(OptionError, match=message):
        compile_model(MODEL, CompileOptions(("tflite",), **given))  # type: ignore[arg-type]


def test_something_has_to_be_judged_by() -> None:
    options = CompileOptions(("tflite",), "fp16", max_drop=0.5)
    with pytest.raises(OptionError, match="needs something to judge by"):
        compile_model(MODEL, options)


def test_integers_at_the_ends_stay_there() -> None:
    result = compiled(0, metric="first_only", io_dtype="int8")
    (artifact,) = result.report["artifacts"]
    assert result.refused is not None
    assert len(artifact["search"]["tries"]) > 2
    assert [p["dtype"] for p in (*artifact["inputs"], *artifact["outputs"])] == ["int8", "int8"]


def test_weights_alone_can_be_raised_too() -> None:
    rng = np.random.default_rng(0)
    samples = {"image": rng.random((12, *_shape()), np.float32)}
    options = CompileOptions(
        ("onnxruntime",), "weight_only_wi4_afp32", samples, TEST, max_drop=0.0,
        metric="edgec_test_metric:fineness", compare_speed=False,
    )  # fmt: skip
    (artifact,) = compile_model(MODEL, options).report["artifacts"]
    assert artifact["search"]["holds"]


def _shape() -> tuple[int, ...]:
    with np.load(CALIBRATION) as found:
        return tuple(found[found.files[0]].shape[1:])


def test_few_samples_leave_much_uncertain() -> None:
    few = Loss.of(np.array([1.0] * 2 + [0.0] * 98))
    many = Loss.of(np.array([1.0] * 200 + [0.0] * 9800))
    assert few.value == many.value == pytest.approx(2)
    assert few.at_most is not None
    assert many.at_most is not None
    # Two of a hundred: the upper end of the normal interval is 2 + 1.645 * 1.4.
    assert few.at_most == pytest.approx(4.31, abs=0.02)
    assert many.at_most == pytest.approx(2.23, abs=0.01)
    # Nothing lost on so few samples proves little: the exact interval, "rule of three".
    for count, most in ((1, 95), (300, 0.99)):
        nothing = Loss.of(np.zeros(count))
        assert nothing.value == 0
        assert nothing.at_most == pytest.approx(most, abs=0.01)
    assert Loss.of(np.array([-1.0])).value == -100


@pytest.mark.parametrize("labels", [[0, 1, 2], [99] * 4, None])
def test_labels_that_are_wrong_are_an_error_of_the_data(labels: list[int] | None) -> None:
    samples: dict[str, Array] = {"image": np.zeros((4, *_shape()), np.float32)}
    if labels is not None:
        samples["labels"] = np.array(labels)
    options = CompileOptions(
        ("tflite",), INT4, CALIBRATION, samples, effort="fast", max_drop=0.5
    )  # fmt: skip
    with pytest.raises(DataError, match="label"):
        compile_model(MODEL, options)


def test_an_artifact_that_the_proof_refuses_loses_everything() -> None:
    # As the recipe says it does not reach that.
    (artifact,) = compiled(100, min_sqnr_db=50.0).report["artifacts"]
    tries = artifact["search"]["tries"]
    assert tries[0]["drop"] is None
    assert artifact["search"]["holds"]
    assert artifact["search"]["raised"]
    assert artifact["fidelity"]["sqnr_db"] >= 50


def test_rows_of_a_batch_count() -> None:
    (artifact,) = compiled(100, shapes={"image": (4, *_shape())}).report["artifacts"]
    assert artifact["search"]["samples"] == 4 * artifact["fidelity"]["samples"]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "fp16", "effort": "full"},
        {"recipe": None, "effort": "max"},
        {"recipe": "weight_only_wi8_afp32", "ranges": "mse"},
        {"recipe": "fp16", "percentile": 99.0},
    ],
)
def test_options_about_calibration_need_some(change: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="recipes that calibrate only"):
        compile_model(MODEL, CompileOptions(("tflite",), **change))  # type: ignore[arg-type]


def test_each_sample_with_another_class_is_one_that_is_lost() -> None:
    wants = [{"y": np.eye(4, dtype=np.float32)[[k % 4]]} for k in range(10)]
    got = iter([{"y": np.roll(want["y"], int(k < 3))} for k, want in enumerate(wants)])
    data: Any = SimpleNamespace(proof=lambda: iter([{}] * 10), calibration_count=30)
    original: Any = SimpleNamespace(wants=wants)
    runner: Any = SimpleNamespace(run=lambda feed: next(got))

    drop = Drop(original, data, None, CompileOptions(("tflite",), min_sqnr_db=-100))
    lost = drop.of(runner)

    assert lost.value == pytest.approx(30)
    assert lost == Loss.of(np.array([1.0] * 3 + [0.0] * 7))
    assert drop.samples == 10
