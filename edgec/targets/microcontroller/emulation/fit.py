"""Whether a model fits a board, with how much to spare; if it does not, what would help."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgec.program import Program
from edgec.targets.microcontroller.boards import Board, board_names, load_board
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.measurement import Measurement
from edgec.targets.microcontroller.generate import Options

__all__ = ["Attempt", "Fit", "fit"]

_BOARDS = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    """The same model made in another way, measured.

    Parameters
    ----------
    how
        In words.
    """

    how: str
    flash_bytes: int
    ram_bytes: int
    instructions: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """A model on a board.

    Parameters
    ----------
    flash_bytes, ram_bytes
        What the model takes.
    flash_left, ram_left
        What the board has beyond that, for all other software; negative is what lacks.
    attempts
        Other ways to make it, where it does not fit; measured.
    advice
        What would help, in sentences.
    boards
        Those known that it would fit, by these numbers, the smallest first.
    """

    board: str
    fits: bool
    flash_bytes: int
    ram_bytes: int
    flash_left: int
    ram_left: int
    attempts: tuple[Attempt, ...] = ()
    advice: tuple[str, ...] = ()
    boards: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain numbers."""
        return asdict(self)


def fit(
    program: Program, data: bytes, board: Board, measured: Measurement, settings: Settings
) -> Fit:
    """Return whether what was measured fits a board.

    Where it does not, the model is made in other ways, and those are measured too.
    """
    flash, ram = measured.flash.total, measured.ram.total
    found = Fit(
        board.name,
        fits=_fits(measured, board),
        flash_bytes=flash,
        ram_bytes=ram,
        flash_left=board.flash_bytes - flash,
        ram_left=board.ram_bytes - ram,
    )
    if found.fits:
        return found
    attempts = tuple(
        Attempt(
            how,
            other.flash.total,
            other.ram.total,
            other.instructions,
            _fits(other, board),
        )
        for how, other in _others(program, data, board, settings)
        if (other.flash.total, other.ram.total) != (flash, ram)
    )
    advice = (*_smaller_flash(measured, found), *_smaller_ram(program, measured, found))
    return replace(found, attempts=attempts, advice=advice, boards=_boards(measured))


def _fits(measured: Measurement, board: Board) -> bool:
    return measured.flash.total <= board.flash_bytes and measured.ram.total <= board.ram_bytes


def _others(
    program: Program, data: bytes, board: Board, settings: Settings
) -> Iterator[tuple[str, Measurement]]:
    options = settings.options or Options()
    changed: list[tuple[str, Settings]] = []
    if not options.overlap:
        over = replace(settings, options=replace(options, overlap=True))
        changed.append(("results over operands that die", over))
        settings = over
    if settings.level != "-Os":
        settings = replace(settings, level="-Os")
        changed.append(("optimised for size (-Os)", settings))
    if settings.tier != "portable" and board.core.tiers[0] != "portable":
        changed.append(("portable kernels, -Os", replace(settings, tier="portable")))
    for how, other in changed:
        yield how, measure(program, data, board.core, settings=other, verify=False)


def _smaller_flash(measured: Measurement, found: Fit) -> Iterator[str]:
    if found.flash_left >= 0:
        return
    flash = measured.flash
    constants = flash.total - flash.beyond_weights
    if constants <= -found.flash_left:
        yield "Even without any weights the code is too large for the flash."
        return
    share = -found.flash_left / constants
    yield (
        f"Weights, biases and requantisation take {constants:,} bytes of flash; they would "
        f"have to shrink by {math.ceil(share * 1000) / 10:g} %, as by pruning channels."
    )


def _smaller_ram(program: Program, measured: Measurement, found: Fit) -> Iterator[str]:
    if found.ram_left >= 0:
        return
    arena = measured.ram.arena
    room = arena + found.ram_left
    if room <= 0:
        yield "Even without any tensors, stack and other data are too large for the RAM."
        return
    yield (
        f"Tensors take {arena:,} bytes of RAM at once and would have to do with {room:,}: "
        "layers with fewer channels, or smaller inputs."
    )
    for number in program.inputs:
        shape = program.tensors[number].shape
        if len(shape) == 4 and min(shape[1:3]) >= 8:
            factor = math.sqrt(room / arena)
            height, width = (max(1, int(n * factor)) for n in shape[1:3])
            yield (
                f"Where RAM goes with the area of the picture, {height}x{width} pixels instead "
                f"of {shape[1]}x{shape[2]} would fit; the model has to be trained for them."
            )


def _boards(measured: Measurement) -> tuple[str, ...]:
    """Return the smallest boards, of the same core first, that have enough of both."""
    known = [load_board(name) for name in board_names()]
    enough = [board for board in known if _fits(measured, board)]
    enough.sort(
        key=lambda b: (b.core.name != measured.core, b.ram_bytes, b.flash_bytes, b.name)
    )
    return tuple(board.name for board in enough[:_BOARDS])
