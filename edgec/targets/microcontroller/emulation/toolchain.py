"""Compilers for microcontrollers: zig's clang, which pip installs, and GCC where it is.

Instructions are comparable for one compiler of one version with the same flags only, so all of
that is part of the record.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from edgec.errors import Diagnostic, InternalError, OptionError, UnsupportedError
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.emulation.extra import require
from edgec.targets.microcontroller.emulation.image import Image
from edgec.targets.microcontroller.emulation.startup import MAIN, STARTUP, Memory, linker_script

__all__ = ["COMPILERS", "Build", "Compiler", "CompilerName", "compiler"]

CompilerName = Literal["zig", "gcc"]

COMPILERS: tuple[CompilerName, ...] = ("zig", "gcc")
"""In the order they are preferred."""

_LARGE = Memory()
_GCC = "arm-none-eabi-gcc"
_SECONDS = 300.0
_ZIG = (
    "Zig needs a folder to keep files in: set ZIG_GLOBAL_CACHE_DIR to one that can be written."
)
_STARTUP, _MAIN = "edgec-startup.c", "edgec-main.c"  # no model has a hyphen in its name

_FLAGS = (
    "-std=c99",
    "-ffunction-sections",
    "-fdata-sections",
    "-fomit-frame-pointer",
    "-ffp-contract=off",  # as on the host, where the oracle runs
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-g",  # without it zig leaves out the symbols
)


@dataclass(frozen=True, slots=True)
class Build:
    """A program for a core, with the record of how it was made.

    Parameters
    ----------
    warnings
        What the compiler said; empty for clean code.
    """

    image: Image
    elf: bytes
    compiler: str
    flags: tuple[str, ...]
    warnings: str


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler that is installed.

    Parameters
    ----------
    version
        As it says itself.
    command
        What starts it.
    """

    name: CompilerName
    version: str
    command: tuple[str, ...]

    def flags(self, core: Core, level: str) -> tuple[str, ...]:
        """Return the flags for a core: of the compiler, not of the linker."""
        if self.name == "zig":
            return (*core.zig, level, *_FLAGS, "-fno-sanitize=all")
        return (*core.compiler, level, *_FLAGS, "-ffreestanding")

    def build(
        self,
        files: Mapping[str, str],
        core: Core,
        *,
        keep: Sequence[str],
        level: str = "-O2",
        main: str = MAIN,
        memory: Memory = _LARGE,
        defines: Sequence[str] = (),
    ) -> Build:
        """Compile and link C files with what starts them.

        Parameters
        ----------
        files
            Texts by name; those that end in ``.c`` are compiled.
        keep
            Functions to keep though nothing calls them; what nothing needs is left out.
        level
            Of optimisation, such as ``-O2``.
        main
            The text of ``main``.
        memory
            What there is.
        defines
            Macros, such as ``NAME=1``.

        Raises
        ------
        InternalError
            If the compiler refuses, with what it said.
        UnsupportedError
            If it takes too long.
        """
        texts = {**files, _STARTUP: STARTUP, _MAIN: main}
        flags = self.flags(core, level)
        linking = ["-Wl,--gc-sections", "-Wl,-e,edgec_reset", "-T", "edgec.ld"]
        if self.name == "gcc":
            linking += ["-nostdlib", "-lc", "-lgcc"]
        linking += [f"-Wl,-u,{name}" for name in keep]
        sources = [name for name in texts if name.endswith(".c")]
        with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
            for name, text in texts.items():
                Path(folder, name).write_text(text, encoding="utf-8")
            Path(folder, "edgec.ld").write_text(linker_script(memory), encoding="utf-8")
            macros = [f"-D{name}" for name in defines]
            command = [*self.command, *flags, *macros, *sources, *linking, "-o", "program.elf"]
            done = _run(command, folder)
            program = Path(folder, "program.elf")
            if done.returncode or not program.is_file():
                raise InternalError(
                    f"{self.version} does not compile the generated code for {core.name}.",
                    [Diagnostic(line) for line in done.stderr.splitlines()[:20]],
                    dump={name: text.encode() for name, text in texts.items()},
                )
            elf = program.read_bytes()
        return Build(Image.of(elf), elf, self.version, flags, done.stderr.strip())


@cache
def compiler(name: CompilerName = "zig") -> Compiler:
    """Return a compiler.

    Raises
    ------
    OptionError
        If it is not installed, with how to install it, or does not start.
    """
    if name == "zig":
        require("ziglang", "Compiling for microcontrollers")
        # -P: a ziglang.py in the current folder is not ours.
        zig = (sys.executable, "-P", "-m", "ziglang")
        command = (*zig, "cc")
        version = _said([*zig, "version"], _ZIG)
        clang = _said([*command, "--version"], _ZIG)
        clang = clang.splitlines()[0].removeprefix("clang version ")
        return Compiler(name, f"zig {version}, clang {clang.split()[0]}", command)
    if shutil.which(_GCC) is None:
        raise OptionError(
            f"{_GCC} is not installed; Debian and Ubuntu have it in the packages "
            "gcc-arm-none-eabi and libnewlib-arm-none-eabi. edgec's own choice is zig: "
            "pip install 'edgec[mcu]'"
        )
    version = _said([_GCC, "-dumpfullversion"], "")
    return Compiler(name, f"GCC {version}", (_GCC,))


def _said(command: Sequence[str], hint: str) -> str:
    """Return what a compiler says of itself; an error, with a hint, if it does not start."""
    done = _run(command, None)
    said = done.stdout.strip()
    if done.returncode or not said:
        why = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise OptionError(
            "the compiler for microcontrollers does not start",
            [Diagnostic(line) for line in (why or ["It says nothing."])[-4:]]
            + ([Diagnostic(hint)] if hint else []),
        )
    return said


def _run(command: Sequence[str], folder: str | None) -> subprocess.CompletedProcess[str]:
    # Messages in English, whatever the user's language: they are shown and compared.
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedError(
            f"the compiler for microcontrollers ran for more than {_SECONDS:g} s"
        ) from error
