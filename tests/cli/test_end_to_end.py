"""The commands on the real compiler, with the model that ships with edgec."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import Result

from edgec.demo import CALIBRATION, MODEL, TEST

Run = Callable[..., Result]


@pytest.fixture
def compiled(edgec: Run) -> Result:
    return edgec(
        *(
            "compile",
            str(MODEL),
            "-t",
            "tflite",
            "-t",
            "onnxruntime",
            "-o",
            "out",
            "--no-speed",
        ),
        *("--recipe", "static_wi8_ai8", "--calibration", str(CALIBRATION)),
        *("--eval", str(TEST), "--ranges", "minmax"),
    )


def test_compiles_profiles_and_gates(edgec: Run, compiled: Result, tmp_path: Path) -> None:
    assert compiled.exit_code == 0, compiled.output
    assert "PROBLEM" not in compiled.stdout
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"digits.tflite", "digits.onnx", "digits.golden.npz", "report.json"}
    budgets = ("--budget", "accuracy>=0.9", "--budget", "size_ratio<=0.5")
    assert edgec("gate", "out/report.json", *budgets).exit_code == 0
    timed = ("--budget", "latency_ms<=1000")
    assert edgec("gate", "out/report.json", *timed).exit_code == 4
    for name in ("digits.tflite", "digits.onnx"):
        profiled = edgec(
            *("profile", f"out/{name}", "--report", "out/report.json"),
            *("--inputs", "out/digits.golden.npz", "--num-runs", "3", "--min-secs", "0"),
        )
        assert profiled.exit_code == 0, profiled.output
    assert edgec("gate", "out/report.json", *timed, *budgets).exit_code == 0


def test_json_is_what_is_written(edgec: Run, tmp_path: Path) -> None:
    result = edgec(
        "compile", str(MODEL), "-t", "onnxruntime", "-o", "out", "--no-verify", "--json"
    )

    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes == (tmp_path / "out" / "report.json").read_bytes()
    assert json.loads(result.stdout)["options"]["verify"] is False


def test_a_broken_artifact_is_no_output(edgec: Run, tmp_path: Path) -> None:
    result = edgec(
        *("compile", str(MODEL), "-t", "tflite", "-o", "out", "--recipe", "static_wi8_ai8"),
        *("--calibration", str(CALIBRATION), "--ranges", "minmax", "--min-sqnr", "150"),
    )

    assert result.exit_code == 6
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_samples_is_wrong_usage(edgec: Run, tmp_path: Path) -> None:
    result = edgec(
        "compile", str(MODEL), "-t", "tflite", "-o", "out", "--recipe", "static_wi8_ai8"
    )

    assert result.exit_code == 2
    assert "--calibration" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_options_are_those_of_the_compiler() -> None:
    from edgec.budgets import TECHNIQUES
    from edgec.calibration import METHODS
    from edgec.cli.compile import command
    from edgec.compiler import CompileOptions
    from edgec.passes import RECIPES, SCHEME_WORDS
    from edgec.targets import TARGETS
    from edgec.targets.microcontroller.cores import core_names
    from edgec.targets.onnxruntime.devices import DEVICES
    from edgec.targets.tflite.devices import DEVICES as TFLITE_DEVICES

    choices = {
        p.name: list(p.type.choices) for p in command.params if hasattr(p.type, "choices")
    }
    defaults = {f.name: f.default for f in dataclasses.fields(CompileOptions)}

    assert choices["targets"] == [t.name for t in TARGETS]
    assert choices["recipe"] == [r.name for r in RECIPES]
    (scheme,) = (
        p for p in command.params if isinstance(p, click.Option) and p.name == "scheme"
    )
    told = scheme.help or ""
    assert all(word in told for word in SCHEME_WORDS)
    assert sorted(choices["ranges"]) == sorted(METHODS)
    cpus = [d.name for d in (*DEVICES, *TFLITE_DEVICES)]
    assert choices["device"] == ["auto", *cpus, *core_names()]
    assert choices["techniques"] == list(TECHNIQUES)
    for name in ("io_dtype", "io_layout", "label_offset", "max_float_error", "min_sqnr_db"):
        (option,) = (p for p in command.params if p.name == name)
        assert option.default == defaults[name], name


def test_calibrate_says_what_samples_show(edgec: Run, tmp_path: Path) -> None:
    args = ("calibrate", str(MODEL), "--calibration", str(CALIBRATION), "--eval", str(TEST))

    shown = edgec(*args)
    found = json.loads(edgec(*args, "--json").stdout)

    assert shown.exit_code == 0, shown.output
    assert "nothing looks wrong with the samples" in shown.stdout
    assert found["warnings"] == []
    assert found["file"] == MODEL.name
    assert all(t["layer"] in shown.stdout for t in found["tensors"] if len(t["layer"]) < 60)
    assert not list(tmp_path.iterdir())


def test_wrong_samples_are_said_first(edgec: Run, tmp_path: Path) -> None:
    with np.load(CALIBRATION) as stored:
        np.savez(tmp_path / "wrong.npz", **{k: 255 * v for k, v in stored.items()})
    given = ("--calibration", "wrong.npz", "--recipe", "static_wi8_ai8", "-o", "out")

    shown = edgec("calibrate", str(MODEL), "--calibration", "wrong.npz")
    compiled = edgec("compile", str(MODEL), "-t", "tflite", *given, "-q")

    assert "its inputs seem far too large" in shown.stdout.splitlines()[0]
    assert shown.stdout.splitlines()[0] in compiled.stdout.splitlines()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "scale" in [w["kind"] for w in report["calibration"]["report"]["warnings"]]


def test_wrong_samples_are_said_where_an_artifact_is_refused(
    edgec: Run, tmp_path: Path
) -> None:
    with np.load(CALIBRATION) as stored:
        np.savez(tmp_path / "wrong.npz", **{k: 255 * v for k, v in stored.items()})
    given = ("--calibration", "wrong.npz", "--recipe", "static_wi8_ai8", "-o", "out")

    result = edgec("compile", str(MODEL), "-t", "tflite", *given, "--min-sqnr", "150")

    assert result.exit_code == 6
    assert "the samples look wrong: its inputs seem far too large" in result.output


def test_calibrate_names_what_is_not_there(edgec: Run) -> None:
    result = edgec("calibrate", str(MODEL), "--calibration", "nothing.npz")

    assert result.exit_code == 2
    assert "cannot read nothing.npz: there is no such file" in result.output


DEBUG = ("debug", str(MODEL), "--calibration", str(CALIBRATION), "--effort", "fast")


def debugged(edgec: Run, *args: str) -> dict[str, Any]:
    result = edgec(*DEBUG, *args, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_debug_lists_the_worst_layers_first(edgec: Run, tmp_path: Path) -> None:
    shown = edgec(*DEBUG)

    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[0].split()[:4] == [
        "layer",
        "operator",
        "alone",
        "accumulated",
    ]
    for order in ("alone", "accumulated"):
        ratios = [la[order]["sqnr_db"] for la in debugged(edgec, "--order", order)["layers"]]
        assert ratios == sorted(ratios)
    layers = debugged(edgec, "--order", "model")["layers"]
    assert layers[0]["alone"] == layers[0]["accumulated"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["onnxruntime", "tflite"])
def test_what_bisect_keeps_in_float_is_enough_when_compiled(
    edgec: Run, tmp_path: Path, target: str
) -> None:
    before = debugged(edgec, "-t", target)["output"]["sqnr_db"]
    goal = str(before + 4)

    found = debugged(edgec, "-t", target, "--bisect", "--min-sqnr", goal)["bisect"]
    words = shlex.split(found["command"])
    result = edgec(*words[1:])

    assert 0 < len(found["keep_float"]) < found["layers"]
    assert result.exit_code == 0, result.output
    (artifact,) = json.loads((tmp_path / "out" / "report.json").read_text())["artifacts"]
    assert artifact["fidelity"]["sqnr_db"] == pytest.approx(found["after"]["sqnr_db"], abs=0.7)
    assert artifact["fidelity"]["sqnr_db"] > before + 3
    shown = edgec(*DEBUG, "-t", target, "--bisect", "--min-sqnr", goal)
    assert found["command"] in shown.stdout


def test_debug_says_what_stays_in_float(edgec: Run) -> None:
    first = debugged(edgec, "--order", "model")["layers"][0]["layer"].split(" + ")[0]

    found = debugged(edgec, "--keep-float", first)
    shown = edgec("debug", str(MODEL), "--calibration", str(CALIBRATION), "--keep-float", first)

    assert [d["where"].split(" + ")[0] for d in found["in_float"]] == [first]
    assert "stays in float: as asked for with --keep-float" in shown.stdout
    assert not [la for la in found["layers"] if la["layer"].startswith(first)]


def test_bisect_has_nothing_to_do_where_the_goal_holds(edgec: Run) -> None:
    found = debugged(edgec, "--bisect", "--min-agreement", "0.5")

    assert found["bisect"]["keep_float"] == []
    assert found["bisect"]["measured"] == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bisect"], "--bisect needs a goal: give --min-sqnr or --min-agreement"),
        (["--min-sqnr", "20"], "--min-sqnr and --min-agreement are goals of --bisect"),
        (["--keep-float", "nothing"], "--keep-float 'nothing' names no layer of the model"),
    ],
)
def test_debug_refuses_what_makes_no_sense(edgec: Run, args: list[str], message: str) -> None:
    result = edgec(*DEBUG, *args)

    assert result.exit_code == 2
    assert message in result.output
