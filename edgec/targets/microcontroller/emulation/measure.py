"""From a ``.tflite`` file to what it takes on a microcontroller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from edgec.errors import Diagnostic, InternalError, NumericsError
from edgec.ir import Array
from edgec.program import Program
from edgec.program.passes import Change
from edgec.targets.microcontroller.boards import Board
from edgec.targets.microcontroller.cores import Core, Tier
from edgec.targets.microcontroller.emulation.emulated_board import counted_by
from edgec.targets.microcontroller.emulation.inputs import random_inputs
from edgec.targets.microcontroller.emulation.machine import Counts
from edgec.targets.microcontroller.emulation.measurement import (
    Flash,
    LayerCost,
    Measurement,
    Ram,
    Verification,
    estimate,
)
from edgec.targets.microcontroller.emulation.model import (
    EmulatedModel,
    build_model,
    require_emulation,
)
from edgec.targets.microcontroller.emulation.oracle import RefusedError, oracle_runs
from edgec.targets.microcontroller.emulation.toolchain import Build, CompilerName, compiler
from edgec.targets.microcontroller.generate import Generated, Options, generate
from edgec.targets.microcontroller.timeline import timeline

__all__ = ["Settings", "measure"]

_FLOAT_TOLERANCE = 1e-4  # the host adds in another order


@dataclass(frozen=True, slots=True)
class Settings:
    """How to compile and run.

    Parameters
    ----------
    tier
        The best kernels that may be used; ``None`` for the best of the core.
    level
        Of the compiler's optimisation.
    seconds
        How long one run may take on this machine.
    """

    tier: Tier | None = None
    options: Options | None = None
    compiler: CompilerName = "zig"
    level: str = "-O2"
    seconds: float = 120.0


def measure(
    program: Program,
    data: bytes,
    core: Core,
    *,
    samples: Sequence[Sequence[Array]] = (),
    board: Board | None = None,
    settings: Settings | None = None,
    changes: Sequence[Change] = (),
    verify: bool = True,
    generated: Generated | None = None,
) -> Measurement:
    """Compile a program, run it on an emulated core, and return what it takes.

    Parameters
    ----------
    data
        The ``.tflite`` file that the program was read from, for TFLite Micro.
    samples
        Sets of inputs, one after the other; random ones of a fixed seed if there are none.
        All are run and compared; the first is counted.
    changes
        What was done to the program since it was read, for the record.
    verify
        Whether to compare with TFLite Micro, where it is installed.
    generated
        Its code, if there is some already.

    Raises
    ------
    NumericsError
        If an output differs from TFLite Micro's.
    """
    settings = settings or Settings()
    require_emulation(core)
    if generated is None:
        generated = generate(program, core, tier=settings.tier, options=settings.options)
    build = build_model(generated, core, compiler(settings.compiler), level=settings.level)
    model = EmulatedModel(generated, build, core, seconds=settings.seconds)
    samples = samples or random_inputs([place.tensor for place in generated.inputs])
    outputs, counts = model.count(samples[0])
    found = [outputs, *(model.run(sample) for sample in samples[1:])]
    verification, refused = None, ""
    if verify:
        try:
            verification = _verified(data, samples, found)
        except RefusedError:
            refused = "TFLite Micro does not run it"
    return Measurement(
        model=program.name,
        core=core.name,
        tier=settings.tier or core.tiers[0],
        instructions=counts.total.instructions,
        loaded_words=counts.total.loaded_words,
        outside=counts.total.instructions - sum(c.instructions for c in counts.parts.values()),
        macs=sum(layer.macs for layer in generated.layers),
        layers=_layers(generated, counts),
        flash=_flash(generated, build),
        ram=_ram(generated, build, counts),
        notes=generated.notes,
        arena=timeline(generated.program, generated.arena),
        compiler=build.compiler,
        flags=build.flags,
        emulator=f"Unicorn {version('unicorn')}" if core.emulator else counted_by(core),
        changes=tuple(changes),
        verification=verification,
        not_compared=refused,
        latency=None if board is None else estimate(counts.total.instructions, board),
    )


def _layers(generated: Generated, counts: Counts) -> tuple[LayerCost, ...]:
    found = []
    for layer in generated.layers:
        count = counts.parts.get(layer.symbol)
        found.append(
            LayerCost(
                name=layer.name,
                operator=layer.operator,
                tier=layer.tier,
                macs=layer.macs,
                repeated_macs=layer.repeated,
                instructions=count.instructions if count else 0,
                loaded_words=count.loaded_words if count else _none(counts),
                scratch=layer.scratch,
                flash={str(kind): size for kind, size in layer.flash.items()},
            )
        )
    return tuple(found)


def _none(counts: Counts) -> int | None:
    """Return how many words a layer loads that does nothing; ``None`` if nobody counts them."""
    return None if counts.total.loaded_words is None else 0


def _flash(generated: Generated, build: Build) -> Flash:
    """Return what the linker put into flash; what starts the emulator does not count."""
    sections = build.image.sections
    layers = generated.layers
    weights = sum(layer.flash.get("weights", 0) for layer in layers)
    biases = sum(layer.flash.get("biases", 0) for layer in layers)
    requantization = sum(layer.flash.get("requantization", 0) for layer in layers)
    constants = sum(sections.get(name, 0) for name in (".rodata", ".ARM.exidx", ".data"))
    other = constants - weights - biases - requantization
    if other < 0:
        raise InternalError(f"Constants of {generated.prefix} are missing in the program.")
    return Flash(weights, biases, requantization, sections[".text"], other)


def _ram(generated: Generated, build: Build, counts: Counts) -> Ram:
    sections = build.image.sections
    arena = build.image.symbol(f"{generated.prefix}_arena").size
    data = sections.get(".data", 0) + sections.get(".bss", 0)
    return Ram(arena, data - arena, counts.stack_bytes)


def _verified(
    data: bytes, samples: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]
) -> Verification | None:
    """Hold outputs against TFLite Micro's, if it is there."""
    if find_spec("tflite_micro") is None:
        return None
    name = f"tflite-micro {version('tflite-micro')}"
    expected = oracle_runs(data, samples, keep_state=True)
    exact, largest = True, 0.0
    for k, (run, outputs) in enumerate(zip(expected, found, strict=True)):
        for want, got in zip(run.outputs, outputs, strict=True):
            if want.tobytes() == got.tobytes():
                continue
            exact = False
            difference = np.abs(
                want.astype(np.float64) - got.astype(np.float64).reshape(want.shape)
            )
            largest = max(largest, float(difference.max()))
            if want.dtype.kind != "f" or not np.allclose(
                got.reshape(want.shape), want, rtol=_FLOAT_TOLERANCE, atol=_FLOAT_TOLERANCE
            ):
                raise NumericsError(
                    "The generated code does not compute what TFLite Micro computes.",
                    [
                        Diagnostic(
                            f"Of {want.size} numbers {np.count_nonzero(difference)} differ, by "
                            f"{difference.max():g} at most.",
                            f"inputs {k}",
                        )
                    ],
                )
    return Verification(name, len(samples), exact, largest)
