"""How much of a model may be left, as users say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from edgec.errors import OptionError

__all__ = ["MEASURES", "Goal", "Measure", "bytes_of"]

Measure = Literal["macs", "size", "latency", "ram"]
"""Multiply-accumulates, bytes of the artifact, seconds of one inference, bytes of activations
alive at once."""

MEASURES: tuple[Measure, ...] = get_args(Measure)

_UNITS: dict[Measure, dict[str, float]] = {
    "macs": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
    "size": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "latency": {"us": 1e-6, "ms": 1e-3, "s": 1},
    "ram": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9},
}
_EXAMPLES: dict[Measure, str] = {
    "macs": "0.67x or 30M",
    "size": "0.25x or 300kB",
    "latency": "0.8x or '12 ms'",
    "ram": "0.5x or 64kB",
}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-zµ]*)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Goal:
    """The most of something that may be left.

    Parameters
    ----------
    value
        A share of what the model takes uncompressed if `relative`; else multiply-accumulates,
        bytes or seconds.
    text
        As the user wrote it.
    """

    measure: Measure
    value: float
    relative: bool
    text: str

    @classmethod
    def parse(cls, measure: Measure, text: str) -> Goal:
        """Return the goal that a text such as ``0.67x`` or ``12 ms`` says.

        Raises
        ------
        OptionError
            If the text says none, or a share of nothing or of more than there is.
        """
        found = _NUMBER.fullmatch(text.replace("µ", "u"))
        units = _UNITS[measure]
        unit = found[2] if found else None
        if found is None or (unit != "x" and unit not in units):
            known = ", ".join(["x", *(u for u in units if u)])
            raise OptionError(
                f"--target-{measure} {text!r} says nothing: write a number with a unit "
                f"({known}), such as {_EXAMPLES[measure]}"
            )
        value, relative = float(found[1]), unit == "x"
        if not value or (relative and value > 1):
            raise OptionError(
                f"--target-{measure} {text!r} must be above 0, and at most 1x where it is a "
                "share of what the model takes as it is"
            )
        return cls(measure, value if relative else value * units[found[2]], relative, text)

    @property
    def is_measured(self) -> bool:
        """Whether only the finished artifact tells what is left."""
        return self.measure in ("size", "latency")

    def left(self, reached: float, whole: float) -> str:
        """Return what is left of something, as users read it."""
        share = f"{reached / whole:.3f}x of " if whole else ""
        match self.measure:
            case "macs":
                return f"{share}the multiply-accumulates ({reached / 1e6:.4g} M)"
            case "size":
                return f"{share}the bytes ({reached / 1e3:.4g} kB)"
            case "ram":
                return f"{share}the activations' bytes ({reached / 1e3:.4g} kB at once)"
            case "latency":
                unit = "" if self.relative else f" ({reached * 1e3:.4g} ms)"
                return f"{share}the time{unit}"

    def most(self, whole: float) -> float:
        """Return the most that may be left of something that is whole now."""
        return self.value * whole if self.relative else self.value


_BYTES = {"": 1, "b": 1, "k": 1000, "kb": 1000, "m": 1_000_000, "mb": 1_000_000}


def bytes_of(option: str, text: str | None) -> int | None:
    """Return how many bytes a text such as ``48k`` says; ``None`` for none.

    Raises
    ------
    OptionError
        If it says no number above 0.
    """
    if text is None:
        return None
    found = _NUMBER.fullmatch(text)
    if found is None or found[2].lower() not in _BYTES or not float(found[1]):
        raise OptionError(
            f"{option} {text!r} says nothing: write a number of bytes above 0, such as 48000, "
            "48k, '48 kB' or 1M; k are 1,000 and M 1,000,000, and there is no KiB"
        )
    return int(float(found[1]) * _BYTES[found[2].lower()])
