"""QEMU, where it is installed: it emulates whole boards, and cores that nothing else does."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from edgec.errors import NumericsError, OptionError
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.datafiles import QemuMachine
from edgec.targets.microcontroller.emulation.startup import Memory
from edgec.targets.microcontroller.emulation.toolchain import Compiler
from edgec.targets.microcontroller.generate import Generated
from edgec.targets.microcontroller.selftest import Golden, golden_text, main_text

__all__ = ["require_qemu", "run_selftest_in_qemu"]

_PROGRAM = "qemu-system-arm"
_SECONDS = 300.0


def require_qemu(core: Core) -> QemuMachine:
    """Return what QEMU emulates with a core.

    Raises
    ------
    OptionError
        If QEMU is not installed, or knows no such board with enough memory.
    """
    if core.qemu is None:
        raise OptionError(f"QEMU has no board with a {core.name} and enough memory.")
    if shutil.which(_PROGRAM) is None:
        raise OptionError(
            f"{_PROGRAM} is not installed; Debian and Ubuntu have it in a package of that name"
        )
    return core.qemu


def run_selftest_in_qemu(
    generated: Generated, golden: Golden, core: Core, compiler: Compiler
) -> int:
    """Return the exit code of the self-test: 0 if every output is what the golden run says.

    Raises
    ------
    NumericsError
        If it does not end.
    """
    machine = require_qemu(core)
    files = dict(generated.files)
    files[f"{generated.prefix}_golden.h"] = golden_text(generated, golden)
    build = compiler.build(
        files,
        core,
        keep=[],
        main=main_text(generated),
        memory=Memory(machine.flash, machine.ram),
        defines=["EDGEC_SEMIHOSTING"],
    )
    command = [
        _PROGRAM,
        "-M",
        machine.name,
        "-nographic",
        "-monitor",
        "none",
        "-serial",
        "none",
    ]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel"]
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        program = Path(folder, "program.elf")
        program.write_bytes(build.elf)
        try:
            done = subprocess.run(
                [*command, str(program)], capture_output=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NumericsError(
                f"the self-test did not end within {_SECONDS:g} s in {machine.name}"
            ) from error
    return done.returncode
