"""What a model takes on a microcontroller: exact counts that every run repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgec.errors import Diagnostic
from edgec.program.passes import Change
from edgec.targets.microcontroller.boards import Board
from edgec.targets.microcontroller.cores import Tier
from edgec.targets.microcontroller.timeline import Timeline

__all__ = ["Flash", "Latency", "LayerCost", "Measurement", "Ram", "Verification", "estimate"]


@dataclass(frozen=True, slots=True)
class Flash:
    """Bytes that never change, by what they are.

    Parameters
    ----------
    weights, biases, requantization
        Constants of layers.
    code
        Of the model and of what the compiler adds to it, such as divisions.
    other
        Tables of functions, initial values, and what alignment takes.
    """

    weights: int
    biases: int
    requantization: int
    code: int
    other: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, f.name) for f in fields(self))

    @property
    def beyond_weights(self) -> int:
        """What is there besides weights, biases and what rounds their sums."""
        return self.code + self.other

    def to_dict(self) -> dict[str, int]:
        """Return the parts, the total and what goes beyond the weights."""
        return {**asdict(self), "beyond_weights": self.beyond_weights, "total": self.total}


@dataclass(frozen=True, slots=True)
class Ram:
    """Bytes that change.

    Parameters
    ----------
    arena
        Where tensors lie, inputs and outputs among them.
    other
        The rest of ``.data`` and ``.bss``.
    stack
        How far down a run wrote.
    """

    arena: int
    other: int
    stack: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.arena + self.other + self.stack

    def to_dict(self) -> dict[str, int]:
        """Return the parts and the total."""
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer of a run.

    Parameters
    ----------
    name
        The user's.
    macs, repeated_macs
        Multiply-accumulates, and how many of them are done again where layers are computed
        band by band.
    instructions
        With those of all functions that it calls; 0 where nothing is to be done.
    flash
        Bytes of its constants, by what they are for.
    """

    name: str
    operator: str
    tier: Tier
    macs: int
    repeated_macs: int
    instructions: int
    loaded_words: int | None
    scratch: int
    flash: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain numbers, with instructions per multiply-accumulate."""
        each = round(self.instructions / self.macs, 3) if self.macs else None
        return {**asdict(self), "flash": dict(self.flash), "instructions_per_mac": each}


@dataclass(frozen=True, slots=True)
class Latency:
    """An estimate of how long one inference takes on a board; nothing here was measured there.

    Parameters
    ----------
    low_ms, typical_ms, high_ms
        Milliseconds at the lowest, usual and highest number of cycles per instruction.
    basis
        Where those numbers come from.
    """

    board: str
    clock_hz: int
    low_ms: float
    typical_ms: float
    high_ms: float
    basis: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How the outputs were held against TFLite Micro's.

    Parameters
    ----------
    oracle
        Name and version; ``""`` if it is not installed.
    inputs
        How many sets of inputs were run.
    exact
        Whether every bit was the same.
    largest_difference
        Of all outputs, in what they are stored as.
    """

    oracle: str
    inputs: int
    exact: bool
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one inference of a model takes on a core.

    Parameters
    ----------
    instructions, loaded_words
        From when the input lies ready to when the output can be read. ``None`` for words where
        the emulator does not count them.
    outside
        The part of the instructions that belongs to no layer.
    arena
        What lies where in it, and how full it is at each layer.
    compiler, flags, emulator
        What the numbers hold for: other compilers, versions and flags give others.
    changes
        What lossless passes did to the program before.
    latency
        ``None`` if no board was named.
    verification
        ``None`` if the oracle is not installed, or does not run the model.
    not_compared
        Why the oracle does not run the model; ``""`` if it does.
    notes
        What was done to fit a budget of RAM, by layer.
    """

    model: str
    core: str
    tier: Tier
    instructions: int
    loaded_words: int | None
    outside: int
    macs: int
    layers: tuple[LayerCost, ...]
    flash: Flash
    ram: Ram
    arena: Timeline
    compiler: str
    flags: tuple[str, ...]
    emulator: str
    changes: tuple[Change, ...] = ()
    verification: Verification | None = None
    latency: Latency | None = None
    notes: tuple[Diagnostic, ...] = ()
    not_compared: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain numbers."""
        return {
            "model": self.model,
            "device": self.core,
            "tier": self.tier,
            "instructions": self.instructions,
            "loaded_words": self.loaded_words,
            "outside_layers": self.outside,
            "macs": self.macs,
            "repeated_macs": sum(layer.repeated_macs for layer in self.layers),
            "flash": self.flash.to_dict(),
            "ram": self.ram.to_dict(),
            "arena": self.arena.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
            "lossless": [asdict(change) for change in self.changes],
            "compiler": {"name": self.compiler, "flags": list(self.flags)},
            "emulator": self.emulator,
            "notes": [asdict(note) for note in self.notes],
            "not_compared": self.not_compared,
            "verification": None if self.verification is None else asdict(self.verification),
            "latency_estimate": None if self.latency is None else asdict(self.latency),
        }


def estimate(instructions: int, board: Board) -> Latency:
    """Return how long some instructions may take on a board."""
    ms = instructions / board.clock_hz * 1e3
    cpi = board.cpi
    return Latency(
        board.name,
        board.clock_hz,
        round(ms * cpi.low, 4),
        round(ms * cpi.typical, 4),
        round(ms * cpi.high, 4),
        f"{cpi.low:g} to {cpi.high:g} cycles per instruction. {cpi.source}",
    )
