"""Ten builds from nothing, each run: the same numbers, to the instruction."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence

from benchmarks.microcontrollers.cases import bound, named
from edgec.files import json_bytes
from edgec.program.passes import LOSSLESS, run_passes
from edgec.program.reading import read_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.toolchain import CompilerName

__all__ = ["repeat", "seconds"]

_BUILDS = 10
_SECONDS = 15.0


def repeat(models: Sequence[str], compiler: CompilerName) -> int:
    """Build and run each model ten times, with empty caches; count the models that differ."""
    core = load_core("cortex-m4")
    failures = 0
    for case in named(models):
        found = set()
        for _ in range(_BUILDS):
            with tempfile.TemporaryDirectory() as folder:
                os.environ["ZIG_GLOBAL_CACHE_DIR"] = os.environ["ZIG_LOCAL_CACHE_DIR"] = folder
                made = measure(
                    case.prepared(removing=True),
                    case.data,
                    core,
                    samples=case.samples(1),
                    settings=Settings(compiler=compiler),
                )
            found.add(json_bytes(made.to_dict()))
        print(f"{case.name}: {made.instructions:,} instructions, {made.compiler}", flush=True)
        failures += bound("different records of ten builds", len(found), 1)
    for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        os.environ.pop(name, None)
    return failures


def seconds(models: Sequence[str], compiler: CompilerName) -> int:
    """Print how long it takes from a file to its measured report; count what takes long."""
    core = load_core("cortex-m4")
    failures = 0
    for case in named(models):
        start = time.perf_counter()
        program = run_passes(read_program(case.path), LOSSLESS).program
        measure(program, case.data, core, settings=Settings(compiler=compiler))
        failures += bound(
            f"{case.name}, seconds", round(time.perf_counter() - start, 1), _SECONDS
        )
    return failures
