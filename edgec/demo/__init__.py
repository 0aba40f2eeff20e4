"""The shipped example: a small trained digit classifier with data to calibrate and judge it.

``MODEL`` maps ``image`` [N, 1, 8, 8], 0 to 1, to ``probabilities`` [N, 10]. ``CALIBRATION``
holds training images (member ``image``), ``TEST`` images the model never saw with what they
show (members ``image`` and ``labels``). All three are written by ``examples/digits/train.py``.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["CALIBRATION", "MODEL", "TEST"]

_FOLDER = Path(__file__).resolve().parent

MODEL = _FOLDER / "digits.onnx"
CALIBRATION = _FOLDER / "calibration.npz"
TEST = _FOLDER / "test.npz"
