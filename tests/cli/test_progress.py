from __future__ import annotations

import io
import sys
import time

import pytest

from edgec.cli.progress import progress
from edgec.verdict import SENTENCE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in the place of standard error; not in a fixture, which pytest undoes."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def test_only_sentences_are_told_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=False) as tell:
        assert tell is not None
        tell("calibrate", 1, 10)
        tell("about 2 min", 0, SENTENCE)

    assert capsys.readouterr().err == "about 2 min\n"


def test_sentences_stay_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)

    with progress(quiet=False) as tell:
        assert tell is not None
        tell("calibrate", 1, 10)
        tell("about 2 min", 0, SENTENCE)
        tell("prove", 1, 10)

    assert screen.getvalue() == "about 2 min\n"


def test_nothing_is_told_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)

    with progress(quiet=True) as tell:
        assert tell is None


def test_what_is_quick_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)

    with progress(quiet=False) as tell:
        assert tell is not None
        tell("calibrate", 0, 10)
        tell("calibrate", 10, 10)
        tell("prove", 1, 10)

    assert screen.getvalue() == ""


def test_what_takes_long_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)

    with progress(quiet=False, patience_seconds=0) as tell:
        assert tell is not None
        tell("fold-pad", 0, 0)
        deadline = time.monotonic() + 5
        while "fold-pad" not in screen.getvalue() and time.monotonic() < deadline:
            tell("fold-pad", 0, 0)
        tell("calibrate [1]", 5, 10)
        while "calibrate [1]" not in screen.getvalue() and time.monotonic() < deadline:
            tell("calibrate [1]", 6, 10)

    assert "fold-pad" in screen.getvalue()
    assert "calibrate [1]" in screen.getvalue()
