"""``edgec sensitivity``: what each way to make a model smaller would cost and save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgec.cli import main
from edgec.compiler import CompileOptions
from edgec.demo import CALIBRATION, MODEL
from edgec.errors import OptionError
from edgec.sensitivity import sensitivity_report

INT8 = "static_wi8_ai8"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def measured(**more: Any) -> dict[str, Any]:
    options = {"recipe": INT8, "channel_multiple": 8, "techniques": ("prune-channels",), **more}
    return sensitivity_report(
        MODEL, CompileOptions(("tflite",), calibration=CALIBRATION, **options)
    )


def test_each_place_tells_what_it_costs_and_saves() -> None:
    found = measured()
    pruned = [r for r in found["rows"] if r["technique"] == "prune-channels"]
    integers = [r for r in found["rows"] if r["technique"] == "quantize"]
    by_layer: dict[str, list[dict[str, Any]]] = {}
    for row in pruned:
        by_layer.setdefault(row["layer"], []).append(row)

    assert found["macs"] > 300_000
    assert len(by_layer) == 3
    assert len(integers) == 9
    for rows in by_layer.values():
        saved = [r["macs"] for r in rows]
        assert saved == sorted(saved)
        assert saved[0] > 0
        assert rows[-1]["nats"] >= rows[0]["nats"] >= 0
    conv = next(
        r for r in pruned if r["option"] == "16 of 32 channels" and "conv_a" in r["layer"]
    )
    # half of the rows of one layer and half of the columns of the next, 32 x 32 x 3 x 3 each
    assert conv["bytes"] == 4 * (2 * 16 * 32 * 9 + 16)
    assert 0 < conv["seconds"] < found["seconds"]
    (head,) = (r for r in integers if "head/matmul" in r["layer"])
    assert head["bytes"] == 3 * (10 * 32 + 10)
    assert all(0 <= r["nats"] < 0.01 for r in integers)


def test_what_was_measured_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measured()
    monkeypatch.setattr("edgec.passes.divergence.Divergence.of", _refuse)
    assert measured() == first
    for file in cache.glob("*.json"):
        known = json.loads(file.read_text())
        file.write_text(json.dumps(dict(list(known.items())[:2])))
    with pytest.raises(AssertionError, match="measured again"):
        measured()


def test_integers_of_other_ranges_are_measured_anew() -> None:
    """The samples are the same, what was calibrated on them is not."""
    first, other = (
        [r["nats"] for r in measured(**more)["rows"] if r["technique"] == "quantize"]
        for more in ({}, {"percentile": 90.0})
    )
    assert len(first) == len(other)
    assert max(other) > 5 * max(first)


def test_other_samples_are_measured_anew(tmp_path: Path) -> None:
    first = measured(recipe=None)
    with np.load(CALIBRATION) as found:
        (name, images) = next((n, a.copy()) for n, a in found.items())
    images[0] *= 3  # which judges nothing, but layers are fitted to it
    np.savez(tmp_path / "other.npz", **{name: images})
    options = CompileOptions(
        ("tflite",), None, tmp_path / "other.npz",
        channel_multiple=8, techniques=("prune-channels",),
    )  # fmt: skip

    assert sensitivity_report(MODEL, options)["rows"] != first["rows"]


def _refuse(*arguments: object) -> None:
    raise AssertionError("measured again")


def test_one_target_and_samples_are_needed() -> None:
    with pytest.raises(OptionError, match="one target"):
        sensitivity_report(
            MODEL, CompileOptions(("tflite", "onnxruntime"), calibration=CALIBRATION)
        )
    with pytest.raises(OptionError, match="--calibration"):
        sensitivity_report(MODEL, CompileOptions(("tflite",)))


def test_the_command_prints_a_line_for_each_place_or_all_as_json() -> None:
    command = ["sensitivity", str(MODEL), "--calibration", str(CALIBRATION)]
    command += ["--technique", "prune-channels"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if "prune-channels" in line]
    assert len(lines) == 3
    assert all(line.count(" %") == 3 for line in lines)
    assert "predicted for tflite, not measured" in done.output

    more = CliRunner().invoke(main, [*command, "--options", "2"])
    assert len([ln for ln in more.output.splitlines() if "prune-channels" in ln]) == 5

    rows = json.loads(CliRunner().invoke(main, [*command, "--json"]).output)["rows"]
    assert len(rows) == 7
