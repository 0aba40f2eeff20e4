"""The self-test of a generated model, run on an emulated core as it would run on a board."""

from __future__ import annotations

from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.emulation.model import (
    emulated,
    memory_for,
    require_emulation,
)
from edgec.targets.microcontroller.emulation.toolchain import Compiler
from edgec.targets.microcontroller.generate import Generated
from edgec.targets.microcontroller.selftest import Golden, golden_text, main_text

__all__ = ["run_selftest"]


def run_selftest(generated: Generated, golden: Golden, core: Core, compiler: Compiler) -> int:
    """Return the exit code of the self-test: 0 if every output is what the golden run says.

    The files are those that users get, ``main.c`` included; nothing is fed from outside.
    """
    require_emulation(core)
    golden_file = {f"{generated.prefix}_golden.h": golden_text(generated, golden)}
    files = {**generated.files, **golden_file}
    build = compiler.build(
        files, core, keep=[], main=main_text(generated), memory=memory_for(core)
    )
    return emulated(build, core).exit_code
