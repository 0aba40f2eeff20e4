"""Damaged files through reader, passes, planner and generator; what survives is run."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.microcontrollers.cases import Case, bound, named
from benchmarks.microcontrollers.mutations import mutations
from benchmarks.models import Array
from edgec.errors import EdgecError, InternalError
from edgec.program import Program
from edgec.program.checking import faults_of
from edgec.program.passes import LOSSLESS, run_passes
from edgec.program.reading import parse_program
from edgec.program.writing import write_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.arena import ARENA_STEP, smallest_arena
from edgec.targets.microcontroller.emulation.inputs import random_inputs
from edgec.targets.microcontroller.emulation.model import EmulatedModel, build_model
from edgec.targets.microcontroller.emulation.oracle import OracleRun, oracle_runs
from edgec.targets.microcontroller.emulation.toolchain import CompilerName
from edgec.targets.microcontroller.emulation.toolchain import compiler as compiler_named
from edgec.targets.microcontroller.generate import generate

__all__ = ["arenas", "damaged"]

_FILES = 20_000
_COMPARED = 208
_SEED = 7
_SECONDS = 10.0
"""Processor time that one file may take; most take some milliseconds."""

_EVERY = 25  # so many files are generated for all cores, one for the core with DSP
_INPUTS = 2

_Found = TypeVar("_Found")


@dataclass
class _Fates:
    """What became of damaged forms of one model."""

    counts: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    survivors: dict[str, tuple[bytes, Program]] = field(default_factory=dict)

    def attempt(self, what: str, step: Callable[[], _Found]) -> _Found | None:
        """Return what a step returns; ``None`` if it ends in an error, clean or not."""
        try:
            return step()
        except InternalError as error:
            self.crashes.append(f"{what}: {error}")
        except EdgecError as error:
            self.counts[f"{what}: {type(error).__name__}"] += 1
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            self.crashes.append(f"{what}: {type(error).__name__}: {error}")
        return None


def damaged(models: Sequence[str], compiler: CompilerName) -> int:
    """Damage files 20,000 times and compile what can be read; count what goes wrong."""
    failures = 0
    for case in named(models):
        start = time.process_time()
        fates = _fates(case, _FILES // len(models))
        took = time.process_time() - start
        print(f"{case.name}: {dict(sorted(fates.counts.items()))}, {took:.0f} s", flush=True)
        for crash in fates.crashes[:10]:
            print(f"    {crash}")
        failures += bound("crashes and files that take long", len(fates.crashes), 0)
        failures += _compared(fates, _COMPARED // len(models), compiler)
    return failures


def _fates(case: Case, count: int) -> _Fates:
    fates = _Fates()
    portable, wide = load_core("cortex-m0"), load_core("cortex-m4")
    for number, data in enumerate(mutations(case.data, _SEED, count)):
        start = time.process_time()
        _one(fates, data, wide.name if number % _EVERY == 0 else portable.name)
        if time.process_time() - start > _SECONDS:
            fates.crashes.append(f"file {number} takes more than {_SECONDS:g} s")
    whole = write_program(parse_program(case.data, "net"))
    fates.survivors.pop(_digest(whole), None)  # what was damaged is nothing that counts
    return fates


def _one(fates: _Fates, data: bytes, core: str) -> None:
    program = fates.attempt("read", lambda: parse_program(data, "net"))
    if program is None:
        return
    fates.counts["read"] += 1
    written = fates.attempt("write", lambda: write_program(program))
    outcome = fates.attempt("passes", lambda: run_passes(program, LOSSLESS))
    if written is None or outcome is None:
        return
    if faults_of(outcome.program)[0]:
        fates.crashes.append(f"passes: {faults_of(outcome.program)[0][0]}")
        return
    if fates.attempt("generate", lambda: generate(outcome.program, load_core(core))) is None:
        return
    fates.counts["generated"] += 1
    fates.survivors.setdefault(_digest(written), (data, program))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _compared(fates: _Fates, count: int, compiler: CompilerName) -> int:
    """Compile survivors, run them and hold them against TFLite Micro."""
    core = load_core("cortex-m4")
    alike, differing, refused = 0, 0, 0
    for data, program in fates.survivors.values():
        if alike + differing == count:
            break
        tensors = [program.tensors[k] for k in program.inputs]
        samples = [list(row) for row in random_inputs(tensors, _INPUTS)]
        expected = _expected(data, program, samples)
        if expected is None:
            refused += 1
            continue
        generated = generate(run_passes(program, LOSSLESS).program, core)
        model = EmulatedModel(
            generated, build_model(generated, core, compiler_named(compiler)), core
        )
        same = all(
            want.tobytes() == got.tobytes()
            for sample, run in zip(samples, expected, strict=True)
            for want, got in zip(run.outputs, model.run(sample), strict=True)
        )
        alike, differing = alike + same, differing + (not same)
    print(f"    {alike + differing} survivors run, {refused} that TFLite Micro refuses")
    failures = bound("survivors that compute something else", differing, 0)
    return failures + bound("survivors that are missing", count - alike - differing, 0)


def _expected(
    data: bytes, program: Program, samples: Sequence[Sequence[Array]]
) -> list[OracleRun] | None:
    """Return what TFLite Micro computes, of the file or of what was read of it.

    What describes a file to people may be damaged so that its package does not read the rest.
    """
    for form in (data, write_program(program)):
        try:
            return oracle_runs(form, samples, keep_state=True)
        except EdgecError:
            continue
    return None


def arenas(models: Sequence[str], compiler: CompilerName) -> int:
    """Print the smallest arena of TFLite Micro for each model; one step less was tried."""
    for case in named(models):
        size = smallest_arena(case.data)
        print(f"{case.name}: {size:,} bytes; {ARENA_STEP} less fail", flush=True)
    return 0
