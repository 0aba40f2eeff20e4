"""What a model takes on a microcontroller, as tables."""

from __future__ import annotations

from edgec.cli.names import short
from edgec.cli.numbers import bytes_text, count_text, milliseconds_text, share_text
from edgec.cli.render import console, table
from edgec.cli.render_device import count_of, proof_text
from edgec.targets.microcontroller.boards import load_board
from edgec.targets.microcontroller.emulation.fit import Fit
from edgec.targets.microcontroller.emulation.measurement import LayerCost, Measurement

__all__ = ["print_fit", "print_measurement"]

_NAME = 44


def print_measurement(measured: Measurement) -> None:
    """Print the totals, then a line for each layer, then what the numbers hold for."""
    out = console()
    totals = table("", "instructions", "loaded words", "flash", "RAM", "stack")
    totals.add_row(
        f"{measured.model} on {measured.core}",
        count_text(measured.instructions),
        "-" if measured.loaded_words is None else count_text(measured.loaded_words),
        bytes_text(measured.flash.total),
        bytes_text(measured.ram.total),
        bytes_text(measured.ram.stack),
    )
    out.print(totals)
    flash, ram = measured.flash, measured.ram
    out.print(
        f"\nflash  {flash.weights:,} weights, {flash.biases:,} biases, "
        f"{flash.requantization:,} requantisation, {flash.code:,} code, {flash.other:,} other"
    )
    out.print(
        f"RAM    {ram.arena:,} arena, {ram.other:,} other data, {ram.stack:,} stack "
        "(the deepest of a run)"
    )
    if measured.latency is not None:
        late = measured.latency
        out.print(
            f"time   {milliseconds_text(late.low_ms)} to {milliseconds_text(late.high_ms)}, "
            f"typically {milliseconds_text(late.typical_ms)}: an estimate for {late.board} at "
            f"{late.clock_hz / 1e6:g} MHz, not measured. {late.basis}"
        )
    for note in measured.notes:
        out.print(f"bands  {note}")
    out.print()
    _print_layers(measured.layers, measured.instructions)
    out.print()
    _print_changes(measured)
    out.print(proof_text(measured.to_dict()))
    out.print(f"{measured.compiler}, {' '.join(measured.flags)}; {measured.emulator}")


def _print_layers(layers: tuple[LayerCost, ...], total: int) -> None:
    rows = table(
        "layer", "operator", "kernel", "MACs", "instructions", "each MAC", "share", text=3
    )
    for layer in layers:
        each = f"{layer.instructions / layer.macs:.2f}" if layer.macs else "-"
        rows.add_row(
            short(layer.name.split(";")[0], _NAME),
            layer.operator,
            layer.tier if layer.instructions else "-",
            count_text(layer.macs) if layer.macs else "-",
            count_text(layer.instructions),
            each,
            share_text(layer.instructions / max(total, 1)),
        )
    console().print(rows)


def _print_changes(measured: Measurement) -> None:
    """Print what lossless passes did, where they saved anything."""
    saved = [change for change in measured.changes if change.macs[0] > change.macs[1]]
    if not saved:
        return
    macs = sum(change.macs[0] - change.macs[1] for change in saved)
    console().print(
        f"channels that are the same for every input were left out of "
        f"{count_of(len(saved), 'layer')}: "
        f"{count_text(macs)} MACs fewer, and not a bit of the outputs changes "
        "(--as-is keeps them)"
    )


def print_fit(found: Fit) -> None:
    """Print whether a model fits a board, and what would help if it does not."""
    out = console()
    board = load_board(found.board)
    verdict = "fits" if found.fits else "does not fit"
    out.print(f"\n{verdict} {board.title} ({board.name})")
    rows = table("", "takes", "of", "left")
    for what, takes, has, left in (
        ("flash", found.flash_bytes, board.flash_bytes, found.flash_left),
        ("RAM", found.ram_bytes, board.ram_bytes, found.ram_left),
    ):
        rest = f"{bytes_text(left)} ({share_text(left / has)})"
        rows.add_row(what, bytes_text(takes), bytes_text(has), rest)
    out.print(rows)
    out.print("what is left has to do for all other software, such as drivers")
    for attempt in found.attempts:
        now = "would fit" if attempt.fits else "would not fit either"
        out.print(
            f"{attempt.how}: {now}, with {bytes_text(attempt.flash_bytes)} of flash, "
            f"{bytes_text(attempt.ram_bytes)} of RAM, "
            f"{count_text(attempt.instructions)} instructions"
        )
    for sentence in found.advice:
        out.print(sentence)
    if found.boards:
        out.print(f"it would fit {', '.join(found.boards)}")
