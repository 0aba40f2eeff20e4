"""Calibration: what values a model's tensors take on real data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.calibration.ranges import (
    DEFAULT,
    METHODS,
    Entropy,
    MinMax,
    Mse,
    Percentile,
    RangeMethod,
)
from edgec.later import later

if TYPE_CHECKING:
    from edgec.calibration.channels import check_channels
    from edgec.calibration.collect import Calibration, calibrate
    from edgec.calibration.observe import Histogram, Observer
    from edgec.calibration.report import CalibrationReport, Warned

__all__ = [
    "DEFAULT",
    "METHODS",
    "Calibration",
    "CalibrationReport",
    "Entropy",
    "Histogram",
    "MinMax",
    "Mse",
    "Observer",
    "Percentile",
    "RangeMethod",
    "Warned",
    "calibrate",
    "check_channels",
]

_LATER = {
    "Calibration": "collect",
    "CalibrationReport": "report",
    "Histogram": "observe",
    "Observer": "observe",
    "Warned": "report",
    "calibrate": "collect",
    "check_channels": "channels",
}
"""What only those need who calibrate."""

__getattr__ = later(__name__, _LATER)
