"""Calibration: what values a model's tensors take on real data."""

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

__all__ = [
    "DEFAULT",
    "METHODS",
    "Calibration",
    "Entropy",
    "Histogram",
    "MinMax",
    "Mse",
    "Observer",
    "Percentile",
    "RangeMethod",
    "calibrate",
]
