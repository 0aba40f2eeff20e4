"""Samples to calibrate, verify and evaluate with, streamed in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.data.spec import Array, InputSpec, Samples
from edgec.later import later

if TYPE_CHECKING:
    from edgec.data.preprocessing import Preprocessing
    from edgec.data.samples import open_samples

__all__ = ["Array", "InputSpec", "Preprocessing", "Samples", "open_samples"]

_LATER = {"Preprocessing": "preprocessing", "open_samples": "samples"}
"""What only those need who give samples; readers of images and arrays take long to load."""

__getattr__ = later(__name__, _LATER)
