"""Quantize with ``onnxruntime.quantization``: MODEL SAMPLES COUNT OUT [METHOD].

METHOD is MinMax, Entropy or Percentile.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter
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
        self._arrays, self._count = arrays, count
        self.set_range(0, count)

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these samples."""
        self._left = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next sample, ``None`` after the last."""
        i = next(self._left, None)
        return None if i is None else {k: a[i : i + 1] for k, a in self._arrays.items()}


def main() -> None:
    """Quantize the model named on the command line."""
    model, samples, count, out = sys.argv[1:5]
    method = sys.argv[5] if len(sys.argv) > 5 else "MinMax"
    arrays = dict(np.load(samples))
    with tempfile.TemporaryDirectory() as folder:
        prepared = str(Path(folder) / "prepared.onnx")
        _prepare(_of_opset_13(model, Path(folder)), prepared)
        quantize_static(
            prepared,
            out,
            Reader(arrays, int(count)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
            extra_options={} if method == "MinMax" else _histograms(int(count)),
        )


def _of_opset_13(model: str, folder: Path) -> str:
    """Return a model whose opset has scales for each channel."""
    loaded = onnx.load(model)
    if max(o.version for o in loaded.opset_import if o.domain in ("", "ai.onnx")) >= 13:
        return model
    raised = folder / "raised.onnx"
    onnx.save(version_converter.convert_version(loaded, 13), raised)
    return str(raised)


def _prepare(model: str, prepared: str) -> None:
    try:
        quant_pre_process(model, prepared)
    except Exception as error:  # noqa: BLE001  (its shape inference raises plain exceptions)
        print(f"without symbolic shape inference, which failed: {error}")
        quant_pre_process(model, prepared, skip_symbolic_shape=True)


def _histograms(count: int) -> dict[str, Any]:
    """Return options for the methods that look at all activations.

    Without the first those of all samples are held at once; it must divide their number.
    Without the second, ranges of Percentile are symmetric, a bit wasted after each ReLU.
    """
    chunk = max(d for d in range(1, 11) if count % d == 0)
    return {"CalibStridedMinMax": chunk, "CalibTensorRangeSymmetric": False}


main()
