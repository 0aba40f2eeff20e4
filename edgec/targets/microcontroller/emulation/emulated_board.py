"""A board in QEMU under a debugger: runs functions, and counts instructions by a timer.

QEMU lets time pass by the instructions that it executes, so many nanoseconds each and nothing
for anything else. A timer of the board that ticks several times in that time says exactly how
many there were, and a slow one how often the first began again from 0 meanwhile.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, NamedTuple

from edgec.errors import Diagnostic, InternalError, NumericsError, OptionError
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.datafiles import QemuMachine, Timer
from edgec.targets.microcontroller.emulation.debugger import Debugger
from edgec.targets.microcontroller.emulation.image import Image
from edgec.targets.microcontroller.emulation.machine import (
    PAINT,
    Count,
    Counts,
    painted_over,
)
from edgec.targets.microcontroller.emulation.startup import HALT, STACK_BYTES, STACK_TOP
from edgec.targets.microcontroller.emulation.tethered import tethered

__all__ = ["QEMU", "EmulatedBoard", "Ticks", "between", "counted_by", "require_qemu"]

QEMU = "qemu-system-arm"

_SP, _LR, _PC = 13, 14, 15
_SHIFT = 8
"""An instruction takes ``2 ** _SHIFT`` ns: five ticks of a timer of 20 MHz."""

_SECONDS = 120.0
_TRIES = 8


def require_qemu(core: Core) -> QemuMachine:
    """Return what QEMU emulates with a core.

    Raises
    ------
    OptionError
        If QEMU is not installed, or knows no such board with enough memory.
    """
    if core.qemu is None:
        raise OptionError(f"QEMU has no board with a {core.name} and enough memory.")
    if shutil.which(QEMU) is None:
        raise OptionError(
            f"{QEMU} is not installed; Debian and Ubuntu have it in a package of that name"
        )
    return core.qemu


@cache
def counted_by(core: Core) -> str:
    """Return what counts instructions of a core, for the record."""
    board = require_qemu(core)
    done = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False)
    version = done.stdout.split()[3:4]
    return " ".join(["QEMU", *version, f"({board.name}), by a timer of the board"])


def _command(board: QemuMachine, channel: str) -> tuple[str, ...]:
    """Return what to start QEMU with, so that it waits for a debugger at its first step."""
    silent = ("-nographic", "-monitor", "none", "-serial", "none")
    counting = ("-icount", f"shift={_SHIFT},sleep=off")
    debugging = ("-S", "-chardev", channel, "-gdb", "chardev:gdb")
    return ("-M", board.name, *silent, *counting, *debugging)


def _process(
    board: QemuMachine, channel: str, program: Path, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        tethered([QEMU, *_command(board, channel), "-kernel", str(program)]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )


class Ticks(NamedTuple):
    """What two timers said at the same time."""

    fast: int
    slow: int


def between(start: Ticks, end: Ticks, fast: Timer, slow: Timer) -> int:
    """Return the ticks of the fast timer, however often it began again from 0."""
    ticks = fast.since(start.fast, end.fast)
    about = slow.since(start.slow, end.slow) * fast.hz / slow.hz
    ticks += max(round((about - ticks) / (1 << fast.bits)), 0) << fast.bits
    # Of the slow timer's first and last tick only a part may lie between.
    if abs(about - ticks) > 2 * fast.hz / slow.hz:
        raise InternalError(
            f"Two timers of the emulated board disagree: {ticks} ticks, or about {about:.0f}."
        )
    return ticks


class EmulatedBoard:
    """A board with a program in its flash, started: ``main`` has returned.

    Attributes
    ----------
    exit_code
        What ``main`` returned.

    Raises
    ------
    OptionError
        If QEMU is not installed, or has no board with that core and a timer known here.
    """

    def __init__(self, image: Image, elf: bytes, core: Core, *, seconds: float = _SECONDS):
        board = require_qemu(core)
        if board.timer is None or board.slow_timer is None:
            raise OptionError(f"No timer is known of the board with a {core.name} in QEMU.")
        self.image = image
        self._timer, self._slow_timer = board.timer, board.slow_timer
        self._seconds = seconds
        self._debugger = self._started(board, elf)
        self._stack = image.symbol(STACK_TOP).address
        self._halt = image.symbol(HALT).address
        self._debugger.stop_at(self._halt)
        self.exit_code = self._until_halt("edgec_reset")

    def _started(self, board: QemuMachine, elf: bytes) -> Debugger:
        folder = tempfile.TemporaryDirectory(prefix="edgec-")
        path, program = Path(folder.name, "gdb"), Path(folder.name, "program.elf")
        program.write_bytes(elf)
        channel = f"socket,id=gdb,path={path},server=on,wait=off"
        said = Path(folder.name, "errors")
        with said.open("wb") as errors:
            process = _process(board, channel, program, errors)
        connection = socket.socket(socket.AF_UNIX)

        def ended() -> None:
            connection.close()
            process.kill()
            process.wait()
            folder.cleanup()

        self.close = weakref.finalize(self, ended)
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                connection.connect(str(path))
                return Debugger(connection)
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = said.read_text(errors="replace").splitlines()
                    why = [Diagnostic(line) for line in lines[-4:]]
                    raise OptionError(f"{QEMU} does not start", why) from error
                time.sleep(0.01)

    # ---- memory

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the memory."""
        return self._debugger.read(address, size)

    def write(self, address: int, contents: bytes) -> None:
        """Put bytes into the memory."""
        self._debugger.write(address, contents)

    # ---- running

    def call(
        self,
        function: str,
        argument: int = 0,
        before: Mapping[str, Callable[[], None]] = MappingProxyType({}),
    ) -> int:
        """Run a function and return what it returns.

        Parameters
        ----------
        before
            What to do when a function is entered for the first time, by its name.

        Raises
        ------
        NumericsError
            If it faults, or does not return in time.
        """
        actions = {self.image.symbol(name).address: act for name, act in before.items()}
        self._enter(function, argument)
        for address in actions:
            self._debugger.stop_at(address)
        try:
            while (at := self._run(function)) != self._halt:
                self._debugger.pass_by(at)
                actions.pop(at)()
        finally:
            for address in actions:
                self._debugger.pass_by(address)
        return self._debugger.register(0)

    def count(self, function: str, parts: Sequence[str] = (), argument: int = 0) -> Counts:
        """Run a function and return what it executed.

        Parameters
        ----------
        parts
            Functions to count alone, none of which calls another of them, each called once.
        """
        self._settle()
        bottom = self._stack - STACK_BYTES
        self.write(bottom, PAINT * STACK_BYTES)
        names = {self.image.symbol(name).address: name for name in parts}
        found: dict[str, Count] = {}
        self._enter(function, argument)
        for address in names:
            self._debugger.stop_at(address)
        start = self._ticks()
        while (at := self._run(function)) != self._halt:
            self._debugger.pass_by(at)
            back = self._debugger.register(_LR) & ~1
            if back != self._halt:  # else it returns to where all ends
                self._debugger.stop_at(back)
            entered = self._ticks()
            returned = self._run(function)
            if returned != back:
                raise InternalError(f"{self.image.around(returned)} was reached in {at:#x}.")
            found[names.pop(at)] = self._since(entered)
            if back == self._halt:
                break
            self._debugger.pass_by(back)
        total = self._since(start)
        for address in names:
            self._debugger.pass_by(address)
        stack = painted_over(self.read(bottom, STACK_BYTES))
        return Counts(total, stack, MappingProxyType(found))

    def _enter(self, function: str, argument: int) -> None:
        self._debugger.set_register(0, argument)
        self._debugger.set_register(_SP, self._stack)
        self._debugger.set_register(_LR, self._halt | 1)
        self._debugger.set_register(_PC, self.image.symbol(function).address)

    def _until_halt(self, function: str) -> int:
        at = self._run(function)
        if at != self._halt:
            raise InternalError(f"{function} stopped at {self.image.around(at)}.")
        return self._debugger.register(0)

    def _run(self, function: str) -> int:
        """Run until a breakpoint and return its address."""
        in_time = self._debugger.proceed(self._seconds)
        at = self._debugger.register(_PC)
        if not in_time:
            raise NumericsError(
                f"{function} did not return within {self._seconds:g} s on the emulated core; "
                f"it was at {self.image.around(at)}"
            )
        if number := self._debugger.exception:
            # The processor put the registers of where it was onto the stack.
            frame = self.read(self._debugger.register(_SP), 32)
            where = int.from_bytes(frame[24:28], "little") & ~1
            raise NumericsError(
                f"{function} failed at {self.image.around(where)} on the emulated core: "
                f"exception {number}"
            )
        return at

    def _settle(self) -> None:
        """Read the timer until it counts evenly: it does not from its first reading on."""
        last = 0
        for _ in range(_TRIES):
            start = self._ticks()
            self.call("main")
            here = self._since(start).instructions
            if here and here == last:
                return
            last = here
        raise InternalError("The timer of the emulated board does not count evenly.")

    def _ticks(self) -> Ticks:
        """Read both timers: no time passes between, for the program stands still."""
        timers = (self._timer, self._slow_timer)
        return Ticks(*(int.from_bytes(self.read(t.address, 4), "little") for t in timers))

    def _since(self, start: Ticks) -> Count:
        ticks = between(start, self._ticks(), self._timer, self._slow_timer)
        nanoseconds = ticks * 1e9 / self._timer.hz
        return Count(round(nanoseconds / (1 << _SHIFT)), None)
