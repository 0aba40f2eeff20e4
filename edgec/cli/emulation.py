"""``edgec profile --device``: a model on an emulated microcontroller."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.boundary import print_json
from edgec.cli.render_emulation import print_fit, print_measurement
from edgec.errors import Diagnostic, OptionError, UnsupportedError
from edgec.files import write_files
from edgec.program.passes import LOSSLESS, run_passes
from edgec.program.reading import read_program
from edgec.targets.microcontroller.boards import load_board
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.fit import Fit, fit
from edgec.targets.microcontroller.emulation.inputs import stored_inputs
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.measurement import Measurement
from edgec.targets.microcontroller.target import Budget
from edgec.targets.microcontroller.timeline import picture

__all__ = ["emulate"]


def emulate(
    file: Path,
    inputs: Path | None,
    where: tuple[str | None, str | None, str | None],
    settings: Settings,
    svg: Path | None,
    *,
    as_is: bool,
    as_json: bool,
) -> None:
    """Measure on an emulated microcontroller and print what was found.

    Parameters
    ----------
    where
        The names of the core, of a board to estimate the time for, and of one to fit.
    svg
        Where to draw the arena over time.
    as_is
        Whether to leave out the lossless passes.
    """
    device, board, fits = where
    if file.suffix.lower() != ".tflite":
        raise OptionError(
            f"cannot measure {file} on a microcontroller: it is no .tflite file",
            [Diagnostic("compile it first", hint="edgec compile MODEL.onnx -t tflite")],
        )
    if board and fits and board != fits:
        raise OptionError(f"--board {board} and --fit {fits} name two boards; one is measured")
    chosen = load_board(fits or board or "") if fits or board else None
    core = chosen.core if chosen else load_core(device or "")
    if chosen and device and load_core(device) != chosen.core:
        raise OptionError(f"{chosen.name} has a {chosen.core.name}, not a {device}")
    read, data = read_program(file), file.read_bytes()
    outcome = run_passes(read, () if as_is else LOSSLESS)
    program = outcome.program
    tensors = [program.tensors[k] for k in program.inputs]
    samples = () if inputs is None else stored_inputs(inputs, tensors)
    measured = measure(
        program,
        data,
        core,
        samples=samples,
        board=chosen,
        settings=settings,
        changes=outcome.changes,
    )
    found = fit(program, data, chosen, measured, settings) if chosen and fits else None
    over = _over(measured, settings)
    if svg is not None:
        drawing = picture(measured.model, measured.arena).encode()
        write_files(svg.parent, {svg.name: drawing}, protect=[file])
    if as_json:
        both = measured.to_dict()
        print_json(both if found is None else {**both, "fit": found.to_dict()}, over)
        if found is not None and not found.fits:
            raise click.exceptions.Exit(UnsupportedError.exit_code)
        return
    print_measurement(measured)
    if found is not None:
        print_fit(found)
    if over is not None:
        raise over
    if found is not None and not found.fits:
        raise _lacking(found, measured.model)


def _over(measured: Measurement, settings: Settings) -> UnsupportedError | None:
    """Return that a model takes more RAM than allowed, if it does."""
    most = None if settings.options is None else settings.options.max_ram
    taken, flash = measured.ram.total, measured.flash.total
    problems = Budget(most).over(taken, flash, measured.model)
    if not problems:
        return None
    return UnsupportedError("the model does not fit the budget", [*problems, *measured.notes])


def _lacking(found: Fit, model: str) -> UnsupportedError:
    """Return what a model takes more than a board has."""
    lacks = (("flash", found.flash_left), ("RAM", found.ram_left))
    return UnsupportedError(
        f"the model does not fit {found.board}",
        [
            Diagnostic(f"takes {-left:,} bytes of {what} more than there are", model)
            for what, left in lacks
            if left < 0
        ],
    )
