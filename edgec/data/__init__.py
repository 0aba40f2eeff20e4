"""Samples to calibrate, verify and evaluate with, streamed in bounded memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgec.data.spec import Array, InputSpec, Samples

if TYPE_CHECKING:
    from edgec.data.preprocessing import Preprocessing
    from edgec.data.samples import open_samples

__all__ = ["Array", "InputSpec", "Preprocessing", "Samples", "open_samples"]

_LATER = {"Preprocessing": "edgec.data.preprocessing", "open_samples": "edgec.data.samples"}
"""What only those need who give samples; readers of images and arrays take long to load."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
