"""Cortex-M55 with Helium beside the same core without, in instructions, where QEMU is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from benchmarks.microcontrollers.cases import CMSIS_NN, Case, bound, named
from edgec.targets.microcontroller.cores import Tier, load_core
from edgec.targets.microcontroller.emulation.emulated_board import QEMU
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.measurement import Measurement
from edgec.targets.microcontroller.emulation.toolchain import CompilerName

__all__ = ["helium"]

_CORE = "cortex-m55"
_INPUTS = 3


def helium(models: Sequence[str], compiler: CompilerName) -> int:
    """Print instructions of each model by tier; fail where CMSIS-NN's are fewer than Helium's.

    They are instructions, and no cycles: one of Helium takes two cycles or more.
    """
    if shutil.which(QEMU) is None:
        print("QEMU is not installed")
        return 0
    failures = 0
    for case in named(models):
        print(f"{case.name}: {case.path.name} on {_CORE}", flush=True)
        found = _counted(case, "mve", compiler)
        _line(found)
        for layer in found.layers:
            if layer.instructions:
                each = f", each MAC {layer.instructions / layer.macs:.3f}" if layer.macs else ""
                print(
                    f"    {layer.tier:8} {layer.operator:18} {layer.macs:>9,} MACs "
                    f"{layer.instructions:>9,} instructions{each}"
                )
        _line(_counted(case, "dsp", compiler))
        if case.prepared(removing=True) != case.prepared():
            less = _counted(case, "mve", compiler, removing=True)
            _line(less, "without channels that are constant, ")
        others = CMSIS_NN[_CORE].get(case.name)
        if others is not None:
            failures += bound("TFLite Micro with CMSIS-NN", found.instructions, others)
    return failures


def _counted(
    case: Case, tier: Tier, compiler: CompilerName, *, removing: bool = False
) -> Measurement:
    return measure(
        case.prepared(removing),
        case.data,
        load_core(_CORE),
        samples=case.samples(_INPUTS),
        settings=Settings(tier=tier, compiler=compiler),
    )


def _line(found: Measurement, about: str = "") -> None:
    proof = found.verification
    exact = f"bit for bit on {proof.inputs} inputs" if proof and proof.exact else "NOT COMPARED"
    print(
        f"  {about}{found.tier:8} {found.instructions:>12,} instructions, "
        f"each MAC {found.instructions / max(found.macs, 1):.3f}, {exact}; {found.emulator}",
        flush=True,
    )
