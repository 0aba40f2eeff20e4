"""The arena of a generated model over time: what lies where, how full it is at each layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgec.program import Program
from edgec.targets.microcontroller.layout import Arena
from edgec.targets.microcontroller.memory import Buffer, Plan, moments
from edgec.targets.microcontroller.memory_picture import memory_svg

__all__ = ["Fill", "Occupant", "Timeline", "picture", "timeline"]


@dataclass(frozen=True, slots=True)
class Occupant:
    """What has a place in the arena for some layers.

    Parameters
    ----------
    name
        The user's: of a tensor, or of the layer that works in it.
    offset, size
        In bytes.
    first, last
        The layers from the one that writes it to the one that reads it last, from 0.
    """

    name: str
    is_scratch: bool
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Fill:
    """The arena while one layer runs.

    Parameters
    ----------
    live_bytes
        The sizes together of what has to be there; what overlaps counts twice.
    top
        Where the last of it ends.
    """

    layer: str
    live_bytes: int
    top: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it.

    Parameters
    ----------
    bound
        The least that the arena can be, whatever lies where.
    """

    size: int
    bound: int
    occupants: tuple[Occupant, ...]
    layers: tuple[Fill, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain numbers."""
        return asdict(self)


def timeline(program: Program, arena: Arena) -> Timeline:
    """Return the arena of a program over its layers."""
    plan = arena.plan
    occupants = []
    for buffer in arena.buffers:
        kind, _, number = buffer.name.partition(" ")
        scratch = kind == "scratch"
        owner = (
            program.steps[int(number)].layer if scratch else program.tensors[int(number)].name
        )
        at = plan.offsets[buffer.name]
        occupants.append(Occupant(owner, scratch, at, buffer.size, buffer.first, buffer.last))
    fills = tuple(
        Fill(program.steps[m.step].layer, m.live_bytes, m.top)
        for m in moments(plan, arena.buffers)
        if m.step < len(program.steps)
    )
    return Timeline(plan.size, plan.bound, tuple(occupants), fills)


def picture(title: str, found: Timeline) -> str:
    """Return a drawing of it, as SVG."""
    names = [f"buffer {k}" for k in range(len(found.occupants))]
    pairs = list(zip(names, found.occupants, strict=True))
    plan = Plan({name: o.offset for name, o in pairs}, found.size, found.bound)
    buffers = [Buffer(name, o.size, o.first, o.last) for name, o in pairs]
    labels = {name: f"scratch of {o.name}" if o.is_scratch else o.name for name, o in pairs}
    return memory_svg(plan, buffers, title=title, labels=labels)
