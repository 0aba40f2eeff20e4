from __future__ import annotations

from typing import Any

import pytest

from edgec.errors import OptionError
from edgec.gate import METRICS, Budget, Verdict, check
from tests.gate.reports import make_report


def run(report: dict[str, Any], *texts: str) -> Verdict:
    return check(report, [Budget.parse(text) for text in texts])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency_ms", 1.25),
        ("latency_p95_ms", 1.5),
        ("cold_ms", 12.0),
        ("peak_rss_bytes", 50_000_000),
        ("size_bytes", 105_000),
        ("size_ratio", 0.2625),
        ("accuracy", 0.975),
        ("accuracy_drop", pytest.approx(0.005)),
        ("sqnr_db", 25.14),
        ("max_error", 0.1),
        ("top1_agreement", 0.99),
        ("macs", 1_230_000),
        ("parameters", 97_400),
        ("weight_bytes", 97_400),
        ("peak_activation_bytes", 16_384),
    ],
)
def test_reads_a_metric(name: str, value: float) -> None:
    report = make_report()
    (metric,) = (m for m in METRICS if m.name == name)

    assert metric.read(report, report["artifacts"][0]) == value


def test_passes_when_all_hold() -> None:
    verdict = run(make_report(), "tflite.latency_ms<=1.25", "accuracy>=0.97")

    assert verdict.exit_code == 0
    assert [(x.target, x.passed) for x in verdict.lines] == [
        ("tflite", True),
        ("tflite", True),
        ("onnxruntime", True),
    ]


def test_a_bare_metric_must_hold_for_every_artifact() -> None:
    verdict = run(make_report(), "accuracy>=0.98")

    assert [x.passed for x in verdict.lines] == [False, True]
    assert verdict.exit_code == 3


def test_a_missing_number_is_inconclusive() -> None:
    verdict = run(make_report(), "latency_ms<=45")

    assert [x.passed for x in verdict.lines] == [True, None]
    assert verdict.exit_code == 4


def test_failing_wins_over_missing() -> None:
    verdict = run(make_report(), "latency_ms<=45", "sqnr_db>=50")

    assert verdict.exit_code == 3
    assert (len(verdict.failed), len(verdict.missing)) == (2, 1)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.99", True, [], 10**400])
def test_what_is_no_number_never_passes(value: object) -> None:
    report = make_report()
    report["artifacts"][0]["accuracy"] = value

    assert run(report, "tflite.accuracy>=0", "tflite.accuracy<=1").exit_code == 4


@pytest.mark.parametrize(
    "artifacts", [[], None, "broken", {}, [None], [{"target": "onnxruntime"}]]
)
def test_a_missing_artifact_never_passes(artifacts: object) -> None:
    report = {**make_report(), "artifacts": artifacts}

    assert run(report, "tflite.size_bytes<=1M").exit_code == 4
    assert run(report, "size_bytes<=1M").exit_code == 4


def test_a_missing_artifact_beside_a_good_one_never_passes() -> None:
    report = make_report()
    del report["artifacts"][1]

    verdict = run(report, "tflite.size_bytes<=1M", "onnxruntime.size_bytes<=1M")

    assert verdict.exit_code == 4
    assert [(x.target, x.has_artifact) for x in verdict.lines] == [
        ("tflite", True),
        ("onnxruntime", False),
    ]


def test_a_broken_artifact_beside_a_good_one_never_passes() -> None:
    report = make_report()
    report["artifacts"][1] = "broken"

    assert run(report, "size_bytes<=1M").exit_code == 4


@pytest.mark.parametrize("broken", [None, [], {"profile": []}, {"profile": {"tflite": 1}}])
def test_a_broken_run_never_passes(broken: object) -> None:
    assert run({**make_report(), "run": broken}, "tflite.latency_ms<=45").exit_code == 4


def test_no_evaluation_means_no_accuracy_drop() -> None:
    assert run({**make_report(), "evaluation": None}, "accuracy_drop<=1").exit_code == 4


def test_refuses_to_judge_by_nothing() -> None:
    with pytest.raises(OptionError, match="no budget to hold the report against"):
        check(make_report(), [])


def test_says_it_all_in_json() -> None:
    verdict = run(make_report(), "tflite.size_bytes<=100kB")

    assert verdict.to_dict() == {
        "verdict": "fail",
        "exit_code": 3,
        "lines": [
            {
                "budget": "tflite.size_bytes<=100kB",
                "metric": "size_bytes",
                "unit": "bytes",
                "target": "tflite",
                "relation": "<=",
                "limit": 100_000.0,
                "value": 105_000,
                "margin": -5000.0,
                "passed": False,
            }
        ],
    }
