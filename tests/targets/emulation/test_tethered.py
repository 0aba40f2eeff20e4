"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgec.targets.microcontroller.emulation import emulated_board
from edgec.targets.microcontroller.emulation.tethered import tethered

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux ends them")

SLEEPING = """\
import subprocess, sys, time
from edgec.targets.microcontroller.emulation.tethered import tethered
print(subprocess.Popen(tethered(["sleep", "600"]), stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(600)
"""

EMULATING = """\
import sys, time
from pathlib import Path
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation import emulated_board
folder = Path(sys.argv[1])
program = folder / "program.elf"
program.write_bytes(bytes(64))
board = emulated_board.require_qemu(load_core("cortex-m55"))
channel = f"socket,id=gdb,path={folder / 'gdb'},server=on,wait=off"
with (folder / "errors").open("wb") as errors:
    process = emulated_board._process(board, channel, program, errors)
print(process.pid, flush=True)
time.sleep(600)
"""


def runs(process: int) -> bool:
    """Return whether a process runs. One that ended is listed until it is waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def program_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0].decode()


def wait_until_killed(source: str, program: str, folder: Path, how: signal.Signals) -> int:
    """Start a process with a child, kill it once the child is the program; return the child."""
    command = [sys.executable, "-c", source, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            while program_of(child) != program:
                assert runs(child)
                time.sleep(0.01)
            assert runs(child)
        finally:
            parent.send_signal(how)
    return child


def assert_ends(child: int) -> None:
    deadline = time.monotonic() + 60
    while runs(child):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            pytest.fail("The child outlives its parent.")
        time.sleep(0.01)


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    assert_ends(wait_until_killed(SLEEPING, "sleep", tmp_path, how))


@linux
@pytest.mark.skipif(shutil.which(emulated_board.QEMU) is None, reason="QEMU is not installed")
def test_an_emulator_ends_with_its_parent(tmp_path: Path) -> None:
    child = wait_until_killed(EMULATING, emulated_board.QEMU, tmp_path, signal.SIGKILL)
    assert_ends(child)


@linux
def test_a_child_of_a_parent_that_is_gone_does_not_begin() -> None:
    command = tethered(["echo", "begun"])
    command[command.index(str(os.getpid()))] = "1"  # another one than its parent

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")


def test_output_and_exit_code_are_those_of_the_command() -> None:
    code = "import sys; print('said'); sys.exit(7)"

    done = subprocess.run(
        tethered([sys.executable, "-c", code]), capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (7, "said\n")
