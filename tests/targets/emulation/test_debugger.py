"""What a debugger says of an emulator that answers late, not at all, or that has ended."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import cast

import pytest

from edgec.errors import NumericsError
from edgec.targets.microcontroller.emulation.debugger import Debugger

END = b""


def packet(text: str) -> bytes:
    return b"+$%s#%02x" % (text.encode(), sum(text.encode()) % 256)


class Line:
    """A connection on which certain things come, one after another, or fail to."""

    def __init__(self, *comes: bytes | OSError) -> None:
        self.comes = [packet("l"), *comes]
        self.sent: list[bytes] = []
        self.timeouts: list[float | None] = []
        self.refuses: OSError | None = None

    def settimeout(self, seconds: float | None) -> None:
        self.timeouts.append(seconds)

    def sendall(self, contents: bytes) -> None:
        if self.refuses:
            raise self.refuses
        self.sent.append(contents)

    def recv(self, _size: int) -> bytes:
        assert self.timeouts[-1] is not None  # never waits for ever
        now = self.comes.pop(0)
        if isinstance(now, OSError):
            raise now
        return now


def debugger(line: Line) -> Debugger:
    return Debugger(cast(socket.socket, line))


def test_an_answer_is_read_from_pieces() -> None:
    line = Line(b"+$01", b"02#c", b"3")

    assert debugger(line).read(0x20, 2) == bytes([1, 2])
    assert line.sent[-2:] == [b"$m20,2#2d", b"+"]


@pytest.mark.parametrize(
    ("comes", "says"),
    [
        ([TimeoutError()], "does not answer"),
        ([b"+$01", TimeoutError()], "does not answer"),
        ([ConnectionResetError()], "has ended"),
        ([END], "has ended"),
    ],
)
def test_what_does_not_answer_is_told(comes: Sequence[bytes | OSError], says: str) -> None:
    with pytest.raises(NumericsError, match=f"the emulator {says}"):
        debugger(Line(*comes)).read(0, 2)


@pytest.mark.parametrize(
    ("error", "says"), [(TimeoutError(), "does not answer"), (BrokenPipeError(), "has ended")]
)
def test_what_takes_no_question_is_told(error: OSError, says: str) -> None:
    line = Line()
    asked = debugger(line)
    line.refuses = error

    with pytest.raises(NumericsError, match=f"the emulator {says}"):
        asked.read(0, 2)


def test_a_program_that_runs_too_long_is_stopped() -> None:
    line = Line(b"+", TimeoutError(), packet("T02"), packet("00000000"))
    asked = debugger(line)
    standing = line.timeouts[-1]

    assert not asked.proceed(0.5)
    assert b"\x03" in line.sent
    assert 0.5 in line.timeouts
    assert line.timeouts[-1] == standing
    assert asked.register(0) == 0


def test_a_program_that_ends_in_time_is_not_stopped() -> None:
    line = Line(packet("T05"))

    assert debugger(line).proceed(0.5)
    assert b"\x03" not in line.sent


@pytest.mark.parametrize(
    ("error", "says"),
    [(TimeoutError(), "does not answer"), (ConnectionResetError(), "has ended")],
)
def test_what_cannot_be_stopped_is_told(error: OSError, says: str) -> None:
    with pytest.raises(NumericsError, match=f"the emulator {says}"):
        debugger(Line(b"+", TimeoutError(), error)).proceed(0.5)
