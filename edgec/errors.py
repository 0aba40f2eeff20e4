"""Every exception edgec raises on purpose, and the diagnostics they carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "DataError",
    "Diagnostic",
    "EdgecError",
    "GateError",
    "InconclusiveError",
    "InternalError",
    "ModelError",
    "NumericsError",
    "OptionError",
    "OutputError",
    "PassError",
    "UnsupportedError",
    "VerificationError",
]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing to say about one place of a model.

    Parameters
    ----------
    message
        What is the matter, as a full sentence without the place.
    where
        The layer, value or file concerned; ``""`` for the whole model.
    hint
        What the reader can do about it; ``""`` when nothing useful can be said.
    """

    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class EdgecError(Exception):
    """Base of every error raised on purpose.

    Attributes
    ----------
    exit_code
        What the command line exits with when this error reaches it.
    summary
        The problem in one sentence.
    diagnostics
        All the problems found, not only the first.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, summary: str, diagnostics: Iterable[Diagnostic] = ()) -> None:
        self.summary = summary
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n  ".join([summary, *map(str, self.diagnostics)]))


class ModelError(EdgecError):
    """The input model cannot be read or is not valid."""


class OutputError(EdgecError):
    """The output cannot be written."""


class OptionError(EdgecError):
    """A value the user gave makes no sense."""

    exit_code = 2


class DataError(EdgecError):
    """Calibration or evaluation data do not fit the model."""

    exit_code = 2


class GateError(EdgecError):
    """A release gate said no."""

    exit_code = 3


class InconclusiveError(EdgecError):
    """There is not enough evidence for a verdict."""

    exit_code = 4


class UnsupportedError(EdgecError):
    """The model is valid, but edgec or the chosen target cannot express it."""

    exit_code = 5


class NumericsError(EdgecError):
    """An artifact ran and did not compute what the model computes."""

    exit_code = 6


class InternalError(EdgecError):
    """edgec broke its own rules; never the user's fault.

    Attributes
    ----------
    dump
        Files that reproduce the fault, by name; the command line writes them to disk.
    """

    exit_code = 70

    def __init__(
        self,
        summary: str,
        diagnostics: Iterable[Diagnostic] = (),
        dump: dict[str, bytes] | None = None,
    ) -> None:
        super().__init__(summary, diagnostics)
        self.dump = dict(dump or {})


class VerificationError(InternalError):
    """A graph breaks an invariant of the IR."""


class PassError(InternalError):
    """A pass broke the graph or its promise."""
