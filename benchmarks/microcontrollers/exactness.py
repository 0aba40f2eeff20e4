"""Generated code beside TFLite Micro, bit for bit: every model on every core."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import product

import numpy as np

from benchmarks.microcontrollers.cases import CASES, bound, named
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.emulated_board import QEMU
from edgec.targets.microcontroller.emulation.model import EmulatedModel, build_model
from edgec.targets.microcontroller.emulation.oracle import oracle_runs
from edgec.targets.microcontroller.emulation.qemu import run_selftest_in_qemu
from edgec.targets.microcontroller.emulation.toolchain import CompilerName
from edgec.targets.microcontroller.emulation.toolchain import compiler as compiler_named
from edgec.targets.microcontroller.generate import generate
from edgec.targets.microcontroller.selftest import Golden

__all__ = ["boards", "every_layer", "exact", "keywords"]

_CORES = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
_BOARDS = ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
_INPUTS = 100
_KEYWORDS = 1000


def _cores() -> tuple[str, ...]:
    """Return the cores that something emulates here."""
    return _CORES if shutil.which(QEMU) is None else (*_CORES, "cortex-m55")


def exact(models: Sequence[str], compiler: CompilerName) -> int:
    """Run models on 100 inputs on each core and tier; count the runs that differ."""
    failures = 0
    for case in named(models):
        samples = case.samples(_INPUTS)
        expected = [r.outputs for r in oracle_runs(case.data, samples, keep_state=True)]
        whole, less = case.prepared(), case.prepared(removing=True)
        forms = {"": whole} | ({" without constants": less} if less != whole else {})
        for (form, program), name in product(forms.items(), _cores()):
            core = load_core(name)
            for tier in core.tiers:
                generated = generate(program, core, tier=tier)
                build = build_model(generated, core, compiler_named(compiler))
                model = EmulatedModel(generated, build, core)
                differing = 0
                for sample, wanted in zip(samples, expected, strict=True):
                    for want, got in zip(wanted, model.run(sample), strict=True):
                        differing += int(np.count_nonzero(want.reshape(got.shape) != got))
                text = f"{case.name}{form} on {name}, {tier}, {_INPUTS} inputs: numbers off"
                failures += bound(text, differing, 0)
    return failures


def every_layer(models: Sequence[str], compiler: CompilerName) -> int:
    """Compare what each layer writes with TFLite Micro, on 100 inputs, each core and tier."""
    failures = 0
    for case in named(models):
        samples = case.samples(_INPUTS)
        expected = oracle_runs(case.data, samples, layers=True)
        for name in _cores():
            core = load_core(name)
            for tier in core.tiers:
                generated = generate(case.program, core, tier=tier)
                build = build_model(generated, core, compiler_named(compiler))
                model = EmulatedModel(generated, build, core)
                differing, compared = 0, set()
                for sample, run in zip(samples, expected, strict=True):
                    for number, got in model.run_layers(sample, case.program).items():
                        want = run.tensors[number].reshape(got.shape)
                        differing += int(np.count_nonzero(want != got))
                        compared.add(number)
                text = f"{case.name} on {name}, {tier}, {len(compared)} layers: numbers off"
                failures += bound(text, differing, 0)
    return failures


def boards(models: Sequence[str], compiler: CompilerName) -> int:
    """Run the self-test on boards that QEMU emulates, where it is; count those that fail."""
    if shutil.which(QEMU) is None:
        print("QEMU is not installed")
        return 0
    failures = 0
    for case in named(models):
        (sample,) = case.samples(1)
        (run,) = oracle_runs(case.data, [sample])
        golden = Golden(tuple(sample), run.outputs)
        for name in _BOARDS:
            core = load_core(name)
            for tier in core.tiers:
                generated = generate(case.prepared(removing=True), core, tier=tier)
                code = run_selftest_in_qemu(generated, golden, core, compiler_named(compiler))
                board = core.qemu.name if core.qemu else ""
                text = f"{case.name} on {name} ({board}), {tier}: the self-test"
                failures += bound(text, code, 0)
    return failures


def keywords(models: Sequence[str], compiler: CompilerName) -> int:
    """Classify all 1,000 keywords on Cortex-M4; count classes other than TFLite Micro's."""
    if "KWS" not in models:
        return 0
    case, core = CASES["KWS"], load_core("cortex-m4")
    samples = case.samples(_KEYWORDS)
    generated = generate(case.prepared(removing=True), core)
    build = build_model(generated, core, compiler_named(compiler))
    model = EmulatedModel(generated, build, core)
    found = [int(model.run(sample)[0].argmax()) for sample in samples]
    wanted = [int(run.outputs[0].argmax()) for run in oracle_runs(case.data, samples)]
    differing = sum(a != b for a, b in zip(found, wanted, strict=True))
    return bound(f"KWS, classes of {len(found)} inputs that differ", differing, 0)
