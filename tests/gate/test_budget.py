from __future__ import annotations

import pytest

from edgec.errors import OptionError
from edgec.gate import METRICS, Budget


@pytest.mark.parametrize(
    ("text", "target", "name", "relation", "limit"),
    [
        ("tflite.latency_ms<=45", "tflite", "latency_ms", "<=", 45.0),
        ("  accuracy >= 0.91 ", "", "accuracy", ">=", 0.91),
        ("onnxruntime . sqnr_db > 2e1", "onnxruntime", "sqnr_db", ">", 20.0),
        ("macs<1.5M", "", "macs", "<", 1_500_000.0),
        ("parameters<=10k", "", "parameters", "<=", 10_000.0),
        ("size_bytes<=100kB", "", "size_bytes", "<=", 100_000.0),
        ("size_bytes<=1 MB", "", "size_bytes", "<=", 1_000_000.0),
        ("weight_bytes<=2KiB", "", "weight_bytes", "<=", 2048.0),
        ("peak_rss_bytes<=.5MiB", "", "peak_rss_bytes", "<=", 524_288.0),
        ("accuracy_drop<=-0.01", "", "accuracy_drop", "<=", -0.01),
    ],
)
def test_reads_a_budget(text: str, target: str, name: str, relation: str, limit: float) -> None:
    budget = Budget.parse(text)

    assert (budget.target, budget.metric.name) == (target, name)
    assert (budget.relation, budget.limit) == (relation, limit)
    assert str(budget) == text.strip()


_FORM = (
    "\n  a budget is [target.]metric, one of <= >= < >, and a number "
    '(for instance "tflite.latency_ms<=45" or "accuracy>=0.91")'
)


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy==1", "accuracy>=", ">=1", "accuracy>=nan", "accuracy>=inf",
     "latency_ms<=1,000", "a.b.accuracy>=1", "accuracy>=0.9 latency_ms<=1", "accuracy=>0.9"],
)  # fmt: skip
def test_refuses_what_is_no_budget(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        Budget.parse(text)

    assert str(caught.value) == f"cannot read the budget {text!r}{_FORM}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "latency<=45",
            "there is no metric 'latency' (budget 'latency<=45')\n"
            "  did you mean 'latency_ms'? `edgec gate --list` lists them all",
        ),
        (
            "frobs<=45",
            "there is no metric 'frobs' (budget 'frobs<=45')\n"
            "  `edgec gate --list` lists them all",
        ),
        (
            "tflit.accuracy>=0.9",
            "there is no target 'tflit' (budget 'tflit.accuracy>=0.9')\n"
            "  did you mean 'tflite'? `edgec targets` lists them all",
        ),
        (
            "latency_ms<=45ms",
            "cannot read the suffix 'ms' of the budget 'latency_ms<=45ms'\n"
            "  latency_ms is always in ms: leave the unit out",
        ),
        (
            "latency_ms<=45kB",
            "cannot read the suffix 'kB' of the budget 'latency_ms<=45kB'\n"
            "  k (1,000) and M (1,000,000) are known here",
        ),
        (
            "size_bytes<=1GB",
            "cannot read the suffix 'GB' of the budget 'size_bytes<=1GB'\n"
            "  k, M, kB, MB, KiB and MiB are known",
        ),
        (
            "accuracy>=91%",
            "cannot read the suffix '%' of the budget 'accuracy>=91%'\n"
            "  accuracy is a share, written from 0 to 1: 91 % is 0.91",
        ),
        (
            "accuracy>=91",
            "the limit of the budget 'accuracy>=91' is out of range\n"
            "  accuracy is a share, written from 0 to 1: 91 % is 0.91",
        ),
    ],
)
def test_says_what_was_meant(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Budget.parse(text)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("relation", "below", "at", "above"),
    [("<=", True, True, False), ("<", True, False, False),
     (">=", False, True, True), (">", False, False, True)],
)  # fmt: skip
def test_holds_on_the_right_side(relation: str, below: bool, at: bool, above: bool) -> None:
    budget = Budget.parse(f"latency_ms{relation}2")

    assert [budget.holds(v) for v in (1.0, 2.0, 3.0)] == [below, at, above]


def test_the_margin_is_positive_on_the_right_side() -> None:
    assert Budget.parse("latency_ms<=2").margin(0.5) == 1.5
    assert Budget.parse("sqnr_db>20").margin(15.0) == -5.0


def test_metrics_are_named_once_and_described() -> None:
    names = [m.name for m in METRICS]

    assert len(set(names)) == len(names)
    assert all(m.description for m in METRICS)
