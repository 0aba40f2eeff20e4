from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edgec.files import json_bytes
from edgec.gate import METRICS
from tests.gate.reports import make_report

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def report(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(json_bytes(make_report()))


def test_lists_the_metrics(edgec: Run) -> None:
    result = edgec("gate", "--list")

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line.split()[0] for line in lines[1:]] == [m.name for m in METRICS]
    assert lines[1].split()[:3] == ["latency_ms", "ms", "lower"]


def test_lists_the_metrics_as_json(edgec: Run) -> None:
    assert json.loads(edgec("gate", "--list", "--json").stdout)[9] == {
        "name": "accuracy",
        "unit": "share",
        "better": "higher",
        "description": "correct answers on the evaluation samples (--eval)",
    }


def test_passes(edgec: Run) -> None:
    result = edgec("gate", "report.json", "--budget", "tflite.latency_ms<=45")

    assert result.exit_code == 0
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "      artifact  metric      measured     limit               margin",
        "PASS  tflite    latency_ms   1.25 ms  <= 45 ms  +43.75 ms (+97.2 %)",
        "",
        "passed: 1 of 1 within the limit",
    ]


def test_prints_failed_and_missing_lines_and_fails(edgec: Run) -> None:
    result = edgec(
        *("gate", "report.json", "--budget", "latency_ms<=1", "--budget", "accuracy>=0.98"),
        *("--budget", "size_bytes<=110kB"),
    )

    assert result.exit_code == 3
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "         artifact     metric      measured      limit              margin",
        "FAIL     tflite       latency_ms   1.25 ms    <= 1 ms  -0.25 ms (-25.0 %)",
        "MISSING  onnxruntime  latency_ms         -    <= 1 ms                   -",
        "FAIL     tflite       accuracy       0.975    >= 0.98     -0.005 (-0.5 %)",
        "PASS     onnxruntime  accuracy       0.985    >= 0.98     +0.005 (+0.5 %)",
        "PASS     tflite       size_bytes    105 kB  <= 110 kB   +5.00 kB (+4.5 %)",
        "FAIL     onnxruntime  size_bytes    120 kB  <= 110 kB   -10.0 kB (-9.1 %)",
        "",
        "failed: 3 of 6 beyond the limit",
        "  latency_ms: run `edgec profile ARTIFACT --report` with this report first",
    ]


def test_a_missing_number_is_inconclusive(edgec: Run, tmp_path: Path) -> None:
    data = make_report()
    data["artifacts"] = data["artifacts"][:1]
    data["artifacts"][0]["accuracy"] = None
    data["artifacts"][0]["fidelity"] = None
    (tmp_path / "report.json").write_bytes(json_bytes(data))

    result = edgec(
        *("gate", "report.json", "--budget", "accuracy>=0.9", "--budget", "sqnr_db>=20"),
        *("--budget", "onnxruntime.size_bytes<=1M", "--budget", "macs<=2M"),
    )

    assert result.exit_code == 4
    assert [line.rstrip() for line in result.stdout.splitlines()][-5:] == [
        "",
        "inconclusive: 3 of 4 not in the report",
        "  accuracy: compile with --eval",
        "  sqnr_db: the report does not hold it",
        "  size_bytes: the report has no artifact for onnxruntime; compile with -t onnxruntime",
    ]


def test_no_artifact_at_all_is_inconclusive(edgec: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(json_bytes({**make_report(), "artifacts": []}))

    result = edgec("gate", "report.json", "--budget", "macs<=2M")

    assert result.exit_code == 4
    assert "MISSING  (none)" in result.stdout
    assert result.stdout.endswith("  macs: the report has no artifact\n")


@pytest.mark.parametrize(("limit", "code"), [("45", 0), ("1", 3)])
def test_the_verdict_as_json(edgec: Run, limit: str, code: int) -> None:
    result = edgec("gate", "report.json", "--budget", f"tflite.latency_ms<={limit}", "--json")

    verdict = json.loads(result.stdout)
    assert result.exit_code == code
    assert (verdict["exit_code"], verdict["lines"][0]["value"]) == (code, 1.25)
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["gate", "report.json"],
            "Error: Missing option '--budget', for instance \"accuracy>=0.91\".\n",
        ),
        (
            ["gate"],
            "Error: Missing argument 'REPORT': the report.json of `edgec compile`.\n",
        ),
        (
            ["gate", "no.json", "--budget", "macs<=1"],
            "error: cannot read no.json: No such file or directory\n"
            "  give the report.json that `edgec compile` wrote into its output folder\n",
        ),
        (
            ["gate", "report.json", "--budget", "latencyms<=1"],
            "error: there is no metric 'latencyms' (budget 'latencyms<=1')\n"
            "  did you mean 'latency_ms'? `edgec gate --list` lists them all\n",
        ),
    ],
)
def test_wrong_usage(edgec: Run, args: list[str], message: str) -> None:
    result = edgec(*args)

    assert result.exit_code == 2
    assert result.stderr.endswith(message)
