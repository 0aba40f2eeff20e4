"""What users say may be left of a model."""

from __future__ import annotations

import pytest

from edgec.errors import OptionError
from edgec.goals import MEASURES, Goal, Measure


@pytest.mark.parametrize(
    ("measure", "text", "value", "relative"),
    [
        ("macs", "0.67x", 0.67, True),
        ("macs", "1x", 1, True),
        ("macs", "30M", 30e6, False),
        ("macs", " 1.5 G ", 1.5e9, False),
        ("macs", "900", 900, False),
        ("size", "300kB", 300e3, False),
        ("size", ".25x", 0.25, True),
        ("ram", "64 kB", 64e3, False),
        ("latency", "12 ms", 12e-3, False),
        ("latency", "800µs", 800e-6, False),
        ("latency", "800us", 800e-6, False),
        ("latency", "2s", 2, False),
    ],
)
def test_shares_and_units(measure: Measure, text: str, value: float, relative: bool) -> None:
    goal = Goal.parse(measure, text)
    assert goal.value == pytest.approx(value)
    assert goal.relative is relative
    assert goal.most(1000) == pytest.approx(1000 * value if relative else value)


@pytest.mark.parametrize(
    ("measure", "text", "why"),
    [
        ("macs", "", "says nothing"),
        ("macs", "x", "says nothing"),
        ("macs", "12 ms", "such as 0.67x or 30M"),
        ("size", "3", r"unit \(x, B, kB, MB, GB\)"),
        ("latency", "-1 ms", "says nothing"),
        ("latency", "1e3 ms", "says nothing"),
        ("macs", "٣M", "says nothing"),
        ("ram", "0kB", "above 0"),
        ("macs", "1.5x", "at most 1x"),
        ("macs", "1000x", "at most 1x"),
    ],
)
def test_what_says_nothing_is_refused(measure: Measure, text: str, why: str) -> None:
    with pytest.raises(OptionError, match=why) as caught:
        Goal.parse(measure, text)
    assert f"--target-{measure}" in str(caught.value)


def test_what_is_left_is_told_in_its_unit() -> None:
    told = [Goal.parse(m, "0.5x").left(12.5e6, 25e6) for m in MEASURES]
    assert all(text.startswith("0.500x of the ") for text in told)
    assert "(12.5 M)" in told[0]
    assert "(1.25e+04 kB)" in told[1]
    assert Goal.parse("latency", "3 ms").left(2e-3, 4e-3) == "0.500x of the time (2 ms)"
