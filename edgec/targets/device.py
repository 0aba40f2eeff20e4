"""What an artifact is made to run on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgec.passes.scheme import Scheme

__all__ = ["Device", "names_of"]


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of processor, as a target knows it.

    Parameters
    ----------
    scheme
        The integers its fast kernels take.
    why
        The reason, for the report.
    """

    name: str
    scheme: Scheme
    why: str


def names_of(devices: Iterable[Device]) -> str:
    """Return the names of devices for a message; "auto" is the one here."""
    return ", ".join(("auto", *(device.name for device in devices)))
