"""Samples to calibrate, verify and evaluate with, streamed in bounded memory."""

from __future__ import annotations

from edgec.data.preprocessing import Preprocessing
from edgec.data.samples import open_samples
from edgec.data.spec import Array, InputSpec, Samples

__all__ = ["Array", "InputSpec", "Preprocessing", "Samples", "open_samples"]
