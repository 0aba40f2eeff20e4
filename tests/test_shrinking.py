"""``--target-…`` from the command line to the files, on artifacts that really ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgec.cli import main
from edgec.compiler import CompileOptions, Result, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import Diagnostic, NumericsError, OptionError, UnsupportedError
from edgec.numerics import Agreement
from edgec.proof import faults
from edgec.quantizing import Quantizing, quantizing

INT8 = "static_wi8_ai8"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))


def compiled(recipe: str | None = INT8, *targets: str, **more: Any) -> Result:
    options: dict[str, Any] = {"compare_speed": False, **more}
    if any(name.startswith("target_") for name in more):
        pruned = ("prune-channels",)  # factorisations take longer to measure
        options = {"channel_multiple": 4, "techniques": pruned, **options}
    return compile_model(
        MODEL,
        CompileOptions(targets or ("tflite",), recipe, CALIBRATION, effort="fast", **options),
    )


def artifact(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = result.report["artifacts"][0]
    return found


@pytest.mark.parametrize("recipe", [None, INT8])
@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_no_more_work_is_left_than_asked_for(recipe: str | None, target: str) -> None:
    whole = compiled(recipe, target)
    result = compiled(recipe, target, target_macs="0.75x", evaluation=TEST)
    made, told = artifact(result), artifact(result)["compression"]

    assert result.refused is None
    assert told["holds"]
    assert made["macs"] <= 0.75 * artifact(whole)["macs"]
    assert made["bytes"] < artifact(whole)["bytes"]
    assert 0 < told["nats"] < 0.5
    assert {c["technique"] for c in told["chosen"]} <= set(told["tried"])
    assert all(c["layer"] and c["option"] for c in told["chosen"])
    assert made["accuracy"] > 0.9


def test_by_default_all_is_tried_that_is_faster() -> None:
    """Factors of small convolutions pay in floats; in integers they would be slower."""
    floats, integers = (
        artifact(compiled(recipe, target_macs="0.75x", techniques=()))["compression"]
        for recipe in (None, INT8)
    )
    assert set(integers["tried"]) == {"prune-channels"}
    assert {"prune-channels", "factorize"} <= set(floats["tried"])
    assert floats["nats"] == min(floats["tried"].values())

    asked = compiled(target_macs="0.75x", techniques=("factorize-low-rank",))
    told = artifact(asked)["compression"]
    assert told["holds"]
    assert {c["technique"] for c in told["chosen"]} == {"factorize-low-rank"}


@pytest.mark.parametrize("goal", ["0.2x", "15kB"])
def test_a_size_is_that_of_the_file(goal: str) -> None:
    result = compiled(target_size=goal)
    told = artifact(result)["compression"]
    limit = 0.2 * result.report["model"]["bytes"] if goal.endswith("x") else 15e3

    assert told["holds"]
    assert artifact(result)["bytes"] == told["reached"] <= limit
    assert len(result.files["digits.tflite"]) <= limit


def test_ram_is_that_of_the_integers() -> None:
    whole = artifact(compiled())["peak_activation_bytes"]
    told = artifact(compiled(target_ram="0.8x"))["compression"]
    assert told["holds"]
    assert told["reached"] <= 0.8 * told["whole"]
    assert told["whole"] == pytest.approx(whole, rel=0.3)


def test_latency_is_measured() -> None:
    told = artifact(compiled(target_latency="1 s"))["compression"]
    assert told["holds"]
    assert 0 < told["reached"] < 1
    assert told["chosen"] == []

    far = compiled(target_latency="0.000001 ms", min_sqnr_db=-100)
    told = artifact(far)["compression"]
    assert not told["holds"]
    assert told["chosen"]
    assert isinstance(far.refused, UnsupportedError)


def test_a_goal_that_holds_by_itself_leaves_the_artifact_as_it_is() -> None:
    plain, result = compiled(), compiled(target_size="0.9x")
    assert result.files["digits.tflite"] == plain.files["digits.tflite"]
    assert artifact(result)["compression"]["chosen"] == []
    assert result.refused is None


def test_out_of_reach_the_nearest_is_written_and_said() -> None:
    result = compiled(target_macs="0.01x", min_sqnr_db=-100)
    assert isinstance(result.refused, UnsupportedError)
    assert "0.01x is the goal" in str(result.refused)
    told = artifact(result)["compression"]
    assert not told["holds"]
    assert 0.01 < told["reached"] / told["whole"] < 0.4


def test_structure_stays_where_more_is_lost_than_allowed() -> None:
    held = compiled(None, target_macs="0.1x", max_drop=0.5, min_sqnr_db=-100)
    told = artifact(held)["compression"]

    assert not told["holds"]
    assert told["drop_holds"]
    assert [t["drop"] > 0.5 for t in told["tries"]] == [True] * (len(told["tries"]) - 1) + [
        False
    ]
    assert len(told["tries"]) > 1
    assert told["tries"][0]["reached"] < told["reached"] == told["tries"][-1]["reached"]
    assert isinstance(held.refused, UnsupportedError)


def test_a_loss_that_no_try_keeps_within_the_limit_is_refused() -> None:
    Path("edgec_shrinking_metric.py").write_text(_METRIC)
    result = compiled(
        None, target_macs="0.5x", max_drop=0.5, evaluation=TEST,
        metric="edgec_shrinking_metric:untouched",
    )  # fmt: skip
    told = artifact(result)["compression"]
    assert not told["drop_holds"]
    assert told["loses"].startswith("1 of edgec_shrinking_metric:untouched")
    assert isinstance(result.refused, NumericsError)


_METRIC = """
import numpy as np

def untouched(outputs, labels, seen=[]):
    '''1 for the float model, 0 for whatever differs from it in a bit.'''
    (logits,) = outputs.values()
    seen.append(logits)
    return float(np.array_equal(logits, seen[0]))
"""


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = CompileOptions(
        ("tflite",), INT8, CALIBRATION, effort="fast", compare_speed=False,
        target_macs="0.7x", channel_multiple=4,
    )  # fmt: skip
    measured: list[int] = []

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "measure channels":
            measured.append(done)
            if done == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_model(MODEL, options, stop)
    (file,) = (tmp_path / "cache").glob("*.json")
    kept = json.loads(file.read_text())
    assert len(kept) == 5

    resumed = compile_model(MODEL, options)
    monkeypatch.setenv("EDGEC_CACHE", "")
    fresh = compile_model(MODEL, options)
    assert resumed.files["digits.tflite"] == fresh.files["digits.tflite"]
    assert artifact(resumed) == artifact(fresh)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"target_macs": "0.5x", "target_size": "0.5x"}, "there can be one goal"),
        ({"target_macs": "half"}, "says nothing"),
        ({"techniques": ("prune-channels",)}, "goes with one of"),
        ({"channel_multiple": 4}, "goes with one of"),
        ({"target_macs": "0.5x", "techniques": ("magic",)}, "no technique 'magic'"),
        ({"target_latency": "1 ms", "prove": False}, "--no-proof"),
    ],
)
def test_options_that_make_no_sense(change: dict[str, Any], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        compiled(**change)


def test_a_latency_needs_the_machine_it_is_about() -> None:
    with pytest.raises(OptionError, match="for another machine"):
        compiled(target_latency="0.9x", device="ethos-u55")


def test_a_float_artifact_computes_what_the_smaller_graph_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Agreement] = []

    def kept(agreement: Agreement, **more: Any) -> tuple[Diagnostic, ...]:
        seen.append(agreement)
        return faults(agreement, **more)

    monkeypatch.setattr("edgec.making.faults", kept)
    compiled(None, target_macs="0.6x")
    (agreement,) = seen
    assert agreement.max_relative_error < 1e-4

    compiled(None, target_macs="0.6x", max_float_error=1e-3)
    monkeypatch.setattr(
        "edgec.making.faults", lambda *_, **__: (Diagnostic("is far off", "output y"),)
    )
    with pytest.raises(NumericsError, match="what its own graph does"):
        compiled(None, target_macs="0.6x")


def test_samples_are_needed() -> None:
    with pytest.raises(OptionError, match="--target-macs needs samples"):
        compile_model(MODEL, CompileOptions(("tflite",), target_macs="0.5x"))


@pytest.mark.parametrize("technique", ["factorize-low-rank", "prune-channels"])
def test_too_few_samples_to_factorise_are_told(tmp_path: Path, technique: str) -> None:
    with np.load(CALIBRATION) as found:
        np.savez(tmp_path / "few.npz", **{name: a[:5] for name, a in found.items()})
    options = CompileOptions(
        ("tflite",), None, tmp_path / "few.npz", compare_speed=False,
        target_macs="0.01x", techniques=(technique,), channel_multiple=16, min_sqnr_db=-100,
    )  # fmt: skip

    made = artifact(compile_model(MODEL, options))

    assert not made["compression"]["holds"]
    told = [d for d in made["diagnostics"] if "too few to fit to" in d["message"]]
    assert [d["message"].split(": ")[1] for d in told] == (
        ["no layer is factorised"] if technique == "factorize-low-rank" else []
    )


def test_the_command_says_what_was_taken_out() -> None:
    command = [
        "compile", str(MODEL), "-t", "tflite", "--recipe", INT8, "--effort", "fast",
        "--calibration", str(CALIBRATION), "--target-macs", "0.7x", "--channel-multiple", "4",
        "-o", "out",
    ]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "of the multiply-accumulates" in done.output
    assert "(goal 0.7x); the outputs lose" in done.output
    assert "times as fast as with all of its structure" in done.output
    assert "prune-channels at " in done.output

    done = CliRunner().invoke(main, [*command, "--target-macs", "0.01x", "--min-sqnr", "-99"])
    assert done.exit_code == 5
    assert "PROBLEM" in done.output
    assert "0.01x is the goal: it is the least that was found" in done.output


def test_with_zeros_among_the_weights_a_float_artifact_is_held_to_its_own_graph() -> None:
    made = artifact(compiled(None, target_macs="0.8x", prune_weights="0.3"))
    assert made["compression"]["holds"]
    assert {"prune-channels"} == {c["technique"] for c in made["compression"]["chosen"]}


def test_a_share_of_the_size_is_told_of_the_file_itself() -> None:
    """int8 meets the goal alone: what is reached is measured, nothing else is tried."""
    told = artifact(compiled(target_size="0.9x"))["compression"]
    assert told["reached"] == artifact(compiled())["bytes"]
    assert told["reached"] < told["whole"]
    assert len(told["tries"]) == 1


def test_structure_comes_back_from_what_there_is_and_all_of_it_at_last() -> None:
    held = compiled(target_size="0.2x", max_drop=0.0, evaluation=TEST, min_sqnr_db=-100)
    told = artifact(held)["compression"]
    whole = artifact(compiled())["bytes"]

    asked = [t["asked"] for t in told["tries"]]
    assert max(asked) <= whole
    assert told["drop_holds"] or told["tries"][-1]["reached"] == pytest.approx(whole, rel=0.01)


def test_calibrations_of_tries_that_are_refused_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[int] = []
    reports: list[Any] = []

    def kept(*given: Any) -> Quantizing:
        found = quantizing(*given)
        held.append(len(given[3]))
        assert found.calibration is not None
        reports.append(found.calibration.report)
        return found

    monkeypatch.setattr("edgec.quantizing.quantizing", kept)
    result = compiled(target_macs="0.1x", max_drop=0.5, min_sqnr_db=-100)
    told = artifact(result)["compression"]

    assert len(told["tries"]) > 1
    assert told["tries"][-1]["reached"] == told["reached"]  # the others lose too much
    assert set(held) == {1}
    assert result.report["calibration"]["report"] == reports[-1].to_dict()
    assert reports[-1].to_dict() != reports[1].to_dict()  # of the first try


def test_a_goal_out_of_reach_is_not_called_met() -> None:
    options = ["--target-macs", "0.99x", "--channel-multiple", "64", "--technique"]
    command = [
        "compile", str(MODEL), "-t", "tflite", "--calibration", str(CALIBRATION),
        *options, "prune-channels", "--no-speed", "-o", "out",
    ]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 5, done.output
    assert "nothing could be taken out" in done.output
    assert "meets the goal" not in done.output
    assert "head/softmax: Softmax() needs all of them" in done.output
