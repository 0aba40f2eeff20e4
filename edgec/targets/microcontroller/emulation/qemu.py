"""QEMU, where it is installed: it emulates whole boards, and cores that nothing else does."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from edgec.errors import NumericsError
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.emulation.emulated_board import QEMU, require_qemu
from edgec.targets.microcontroller.emulation.startup import Memory
from edgec.targets.microcontroller.emulation.tethered import tethered
from edgec.targets.microcontroller.emulation.toolchain import Compiler
from edgec.targets.microcontroller.generate import Generated
from edgec.targets.microcontroller.selftest import Golden, golden_text, main_text

__all__ = ["run_selftest_in_qemu"]

_SECONDS = 300.0


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
        QEMU,
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
                tethered([*command, str(program)]),
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NumericsError(
                f"the self-test did not end within {_SECONDS:g} s in {machine.name}"
            ) from error
    return done.returncode
