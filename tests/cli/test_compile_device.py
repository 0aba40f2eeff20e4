"""``edgec compile`` for microcontrollers, from ONNX to what was proven on the core."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result

from tests.models import info, onnx_model, save

pytest.importorskip("ziglang", reason="needs edgec[mcu]")
pytest.importorskip("unicorn", reason="needs edgec[mcu]")
pytest.importorskip("tflite_micro", reason="needs edgec[mcu]")

Run = Callable[..., Result]


@pytest.fixture
def wide(tmp_path: Path) -> tuple[str, ...]:
    """A network whose first layers have the most to hold, with samples."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.3, (16, 3, 3, 3)),
        "w2": rng.normal(0, 0.1, (16, 16, 3, 3)),
        "w3": rng.normal(0, 0.2, (4, 16, 1, 1)),
    }
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1] * 4),
        onnx.helper.make_node("Relu", ["a"], ["b"], "first/relu"),
        onnx.helper.make_node(
            "Conv", ["b", "w2"], ["c"], "second", pads=[1] * 4, strides=[2, 2]
        ),
        onnx.helper.make_node("Relu", ["c"], ["d"], "second/relu"),
        onnx.helper.make_node("Conv", ["d", "w3"], ["e"], "third"),
        onnx.helper.make_node("GlobalAveragePool", ["e"], ["y"], "pool"),
    ]
    floats = {name: w.astype(np.float32) for name, w in weights.items()}
    model = onnx_model(nodes, [info("x", 1, 3, 24, 24)], [info("y", 1, 4, 1, 1)], floats)
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=rng.uniform(0, 1, (16, 3, 24, 24)).astype(np.float32))
    path = save(model, tmp_path, "wide.onnx")
    recipe = ("--recipe", "static_wi8_ai8", "--calibration", str(samples))
    return (str(path), "-t", "microcontroller", *recipe, "-o", "out")


def test_a_budget_that_only_bands_meet(edgec: Run, wide: tuple[str, ...]) -> None:
    whole = json.loads(edgec("compile", *wide, "--json").stdout)["artifacts"][0]["device"]
    assert whole["ram"]["total"] > 9216
    assert whole["repeated_macs"] == 0

    result = edgec("compile", *wide, "--max-ram", "6k")

    assert result.exit_code == 0, result.stderr
    assert "at a time: the arena takes" in result.stdout
    assert "every output bit equals that of tflite-micro" in result.stdout
    report = json.loads(Path("out/report.json").read_text())
    found = report["artifacts"][0]["device"]
    assert found["ram"]["total"] <= 6000
    assert found["repeated_macs"] > 0
    assert found["verification"]["exact"]
    assert found["verification"]["inputs"] > 1
    (folded,) = (r for r in report["ledger"] if r["pass"] == "fold-pads")
    assert folded["layers"] == [{"layer": "d", "kept": "pads what it reads itself"}]


def test_a_budget_that_nothing_meets(edgec: Run, wide: tuple[str, ...]) -> None:
    result = edgec("compile", *wide, "--max-ram", "1k", "--json")

    assert result.exit_code == 5
    report = json.loads(result.stdout)
    found = report["artifacts"][0]["device"]
    assert found["verification"]["exact"]
    (problem,) = report["error"]["diagnostics"]
    assert f"takes {found['ram']['total']:,} bytes of RAM" in problem["message"]
    assert "1,000 of --max-ram" in problem["message"]
    assert Path("out/wide.c").exists()
