"""Calibration: what values a model's tensors take on real data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgec.calibration.ranges import (
    DEFAULT,
    METHODS,
    Entropy,
    MinMax,
    Mse,
    Percentile,
    RangeMethod,
)

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


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"edgec.calibration.{_LATER[name]}"), name)
