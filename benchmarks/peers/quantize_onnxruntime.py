"""Quantize with ``onnxruntime.quantization``: MODEL SAMPLES COUNT OUT."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """The samples one by one."""

    def __init__(self, arrays: dict[str, Any], count: int) -> None:
        self._feeds = iter(
            [{name: a[i : i + 1] for name, a in arrays.items()} for i in range(count)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next sample, ``None`` after the last."""
        return next(self._feeds, None)


def main() -> None:
    """Quantize the model named on the command line."""
    model, samples, count, out = sys.argv[1:5]
    arrays = dict(np.load(samples))
    with tempfile.TemporaryDirectory() as folder:
        prepared = str(Path(folder) / "prepared.onnx")
        quant_pre_process(model, prepared)
        quantize_static(
            prepared,
            out,
            Reader(arrays, int(count)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


main()
