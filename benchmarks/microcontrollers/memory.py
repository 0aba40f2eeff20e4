"""RAM with and without overlap, and flash by what it is for."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.microcontrollers.cases import Case, bound, named
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.toolchain import CompilerName
from edgec.targets.microcontroller.generate import Options

__all__ = ["memory"]

_APART = {"VWW": 62_000, "IC": 54_000, "KWS": 19_000, "AD": 3_000}
_OVER = {"VWW": 44_000, "IC": 39_000, "KWS": 12_000}
_FLASH = 24_000
_BANDS = {"VWW": 33_999}
_MORE = 1.6


def memory(models: Sequence[str], compiler: CompilerName) -> int:
    """Print what models take on Cortex-M4; count the bounds that do not hold."""
    failures = 0
    core = load_core("cortex-m4")
    for case in named(models):
        print(case.name, flush=True)
        for overlap, most in ((False, _APART), (True, _OVER)):
            settings = Settings(compiler=compiler, options=Options(overlap=overlap))
            found = measure(
                case.prepared(), case.data, core, samples=case.samples(1), settings=settings
            )
            ram = found.ram
            print(
                f"  {'with' if overlap else 'without'} overlap: RAM {ram.total:,} bytes: arena "
                f"{ram.arena:,} (bound {found.arena.bound:,}), stack {ram.stack:,}, other "
                f"{ram.other:,}; {found.instructions:,} instructions",
                flush=True,
            )
            plain = found.instructions
            if case.name in most:
                failures += bound("RAM", ram.total, most[case.name])
        if case.name in _BANDS:
            failures += _banded(case, compiler, plain)
        flash = found.flash
        print(
            f"  flash {flash.total:,} bytes: weights {flash.weights:,}, "
            f"biases {flash.biases:,}, requantisation {flash.requantization:,}, "
            f"code {flash.code:,}, other {flash.other:,}"
        )
        failures += bound("flash beyond weights", flash.beyond_weights, _FLASH)
    return failures


def _banded(case: Case, compiler: CompilerName, plain: int) -> int:
    """Print what a model takes with layers band by band; count the bounds that do not hold."""
    most = _BANDS[case.name]
    settings = Settings(compiler=compiler, options=Options(max_ram=most))
    core = load_core("cortex-m4")
    found = measure(case.program, case.data, core, samples=case.samples(1), settings=settings)
    repeated = sum(layer.repeated_macs for layer in found.layers)
    print(
        f"  at most {most:,} bytes: RAM {found.ram.total:,}, {found.instructions:,} "
        f"instructions, {found.instructions / plain:.3f} times as many; {repeated:,} of "
        f"{found.macs:,} multiply-accumulates are done again",
        flush=True,
    )
    failures = bound("RAM", found.ram.total, most)
    return failures + bound("instructions", found.instructions, _MORE * plain)
