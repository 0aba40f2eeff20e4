"""Instructions of whole models on several cores, and of each layer beside CMSIS-NN's."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.microcontrollers.cases import CMSIS_NN, Case, bound, kind_of, named
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.measurement import Measurement
from edgec.targets.microcontroller.emulation.toolchain import CompilerName

__all__ = ["counts", "layers"]

_CORES = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m3", "cortex-m0")

_MOST = {"AD": 300_000, "KWS": 2_900_000, "IC": 11_500_000, "VWW": 8_500_000}

_WITHOUT_CONSTANTS = {"VWW": 5_600_000}

_SAME = 0.03


def counts(models: Sequence[str], compiler: CompilerName) -> int:
    """Print instructions by model and core; count the bounds that do not hold."""
    failures = 0
    for case in named(models):
        print(f"{case.name}: {case.path.name}", flush=True)
        m4 = _counted(case, "cortex-m4", compiler)
        _line(case, m4)
        if case.name in _MOST:
            failures += bound("on Cortex-M4", m4.instructions, _MOST[case.name])
        if case.name in _WITHOUT_CONSTANTS:
            found = _counted(case, "cortex-m4", compiler, removing=True)
            print("  without channels that are constant:")
            _line(case, found)
            most = _WITHOUT_CONSTANTS[case.name]
            failures += bound("on Cortex-M4", found.instructions, most)
        for core in _CORES[1:]:
            found = _counted(case, core, compiler)
            _line(case, found)
            if case.name in _MOST and found.tier == "dsp":
                most = round(m4.instructions * (1 + _SAME))
                failures += bound(f"as on Cortex-M4: {core}", found.instructions, most)
    return failures


def layers(models: Sequence[str], compiler: CompilerName) -> int:
    """Print instructions for each multiply-accumulate of each layer on Cortex-M4."""
    for case in named(models):
        found = _counted(case, "cortex-m4", compiler)
        program = case.prepared()
        print(f"{case.name}: each MAC {found.instructions / max(found.macs, 1):.3f}")
        for k, layer in enumerate(found.layers):
            if not layer.instructions:
                continue
            kind, others = kind_of(program, k)
            shape = "x".join(map(str, program.layer(program.steps[k]).output.shape))
            each = f"{layer.instructions / layer.macs:6.3f}" if layer.macs else "     -"
            print(
                f"  {k:3} {kind:16} -> {shape:14} {layer.tier:8} {layer.macs:>10,} MACs "
                f"{layer.instructions:>11,} instructions, each MAC {each}, CMSIS-NN {others}",
                flush=True,
            )
        print(f"      outside of layers {found.outside}")
    return 0


def _counted(
    case: Case, core: str, compiler: CompilerName, *, removing: bool = False
) -> Measurement:
    settings = Settings(compiler=compiler)
    return measure(
        case.prepared(removing),
        case.data,
        load_core(core),
        samples=case.samples(1),
        settings=settings,
    )


def _line(case: Case, found: Measurement) -> None:
    others = CMSIS_NN.get(found.core, {}).get(case.name)
    beside = f", CMSIS-NN takes {others / found.instructions:.2f}x" if others else ""
    exact = found.verification is not None and found.verification.exact
    print(
        f"  {found.core:11} {found.instructions:>12,} instructions, "
        f"{found.loaded_words or 0:>11,} words loaded, "
        f"each MAC {found.instructions / max(found.macs, 1):.3f}{beside}, "
        f"{'bit for bit' if exact else 'NOT COMPARED'}",
        flush=True,
    )
