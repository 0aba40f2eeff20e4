"""Calibration: what values a model's tensors take on real data."""

from edgec.calibration.channels import check_channels
from edgec.calibration.collect import Calibration, calibrate
from edgec.calibration.observe import Histogram, Observer
from edgec.calibration.ranges import (
    DEFAULT,
    METHODS,
    Entropy,
    MinMax,
    Mse,
    Percentile,
    RangeMethod,
)
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
