from __future__ import annotations

import pytest

from edgec.cli.numbers import bytes_text, change_text, count_text, milliseconds_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (7, "7"), (999, "999"), (1000, "1.00 k"), (9_994, "9.99 k"),
        (9_996, "10.0 k"), (97_400, "97.4 k"), (99_960, "100 k"), (999_499, "999 k"),
        (999_600, "1.00 M"), (1_230_000, "1.23 M"), (4e9, "4.00 G"), (5e16, "50000 T"),
        (-1500, "-1.50 k"), (0.5, "0.50"),
    ],
)  # fmt: skip
def test_counts(value: float, text: str) -> None:
    assert count_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (512, "512 B"), (97_400, "97.4 kB"), (1.5e6, "1.50 MB")]
)
def test_bytes(value: float, text: str) -> None:
    assert bytes_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.004, "4.00 µs"), (0.1234, "123 µs"), (0.99949, "999 µs"), (0.9996, "1.00 ms"),
        (1.234, "1.23 ms"), (12.34, "12.3 ms"), (123.4, "123 ms"), (999.6, "1.00 s"),
        (2500, "2.50 s"),
    ],
)  # fmt: skip
def test_times(value: float, text: str) -> None:
    assert milliseconds_text(value) == text


def test_a_change_shows_both_sides_only_if_there_is_one() -> None:
    assert change_text((1000, 2000), count_text) == "1.00 k → 2.00 k"
    assert change_text((1000, 1000), count_text) == "1.00 k"
