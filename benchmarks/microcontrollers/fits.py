"""Whether models fit boards, beside a linker that is given the memory of the board."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.microcontrollers.cases import CASES, bound
from edgec.errors import InternalError
from edgec.targets.microcontroller.boards import Board, load_board
from edgec.targets.microcontroller.datafiles import Region
from edgec.targets.microcontroller.emulation.fit import fit
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.measurement import Measurement
from edgec.targets.microcontroller.emulation.startup import FLASH, RAM, Memory
from edgec.targets.microcontroller.emulation.toolchain import CompilerName
from edgec.targets.microcontroller.emulation.toolchain import compiler as compiler_named
from edgec.targets.microcontroller.generate import Generated, generate

__all__ = ["fits"]

_PAIRS = (
    ("KWS", "microbit-v1", True),
    ("VWW", "nucleo-l4r5zi", True),
    ("IC", "rp2040-pico", True),
    ("VWW", "microbit-v1", False),  # RAM
    ("AD", "nucleo-f103rb", False),  # flash
    ("IC", "nucleo-f103rb", False),  # RAM
)


def fits(models: Sequence[str], compiler: CompilerName) -> int:
    """Ask for three boards that fit and three that do not; count the wrong answers."""
    failures = 0
    settings = Settings(compiler=compiler)
    for model, name, wanted in _PAIRS:
        if model not in models:
            continue
        case, board = CASES[model], load_board(name)
        program = case.prepared(removing=True)
        measured = measure(
            program, case.data, board.core, samples=case.samples(1), settings=settings
        )
        found = fit(program, case.data, board, measured, settings)
        linked = _links(generate(program, board.core), board, measured, compiler)
        print(
            f"{model} on {name}: {'fits' if found.fits else 'does not fit'}, flash left "
            f"{found.flash_left:,}, RAM left {found.ram_left:,}; the linker "
            f"{'agrees' if linked == found.fits else 'says otherwise'}",
            flush=True,
        )
        for sentence in found.advice:
            print(f"    {sentence}")
        failures += bound("wrong answers", int(found.fits != wanted) + (linked != wanted), 0)
    return failures


def _links(
    generated: Generated, board: Board, measured: Measurement, compiler: CompilerName
) -> bool:
    """Return whether a linker puts the model, and what starts it, into the board's memory."""
    flash, ram = Region(FLASH.start, board.flash_bytes), Region(RAM.start, board.ram_bytes)
    memory = Memory(flash, ram, -(-measured.ram.stack // 8) * 8)
    try:
        compiler_named(compiler).build(
            generated.files, board.core, keep=[f"{generated.prefix}_run"], memory=memory
        )
    except InternalError as error:
        if "overflow" in str(error) or "will not fit" in str(error):
            return False
        raise
    return True
