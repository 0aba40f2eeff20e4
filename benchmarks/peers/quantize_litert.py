"""Quantize with onnxslim, onnx2tf and LiteRT's calibrator: MODEL SAMPLES COUNT OUT."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def main() -> None:
    """Quantize the model named on the command line."""
    model, samples, count, out = sys.argv[1:5]
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        slim = str(Path(folder) / "slim.onnx")
        with np.load(samples) as arrays:
            ((name, x),) = arrays.items()
        shape = ",".join(map(str, (1, *x.shape[1:])))
        command = [str(tools / "onnxslim"), model, slim, "--input-shapes", f"{name}:{shape}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        command = [str(tools / "onnx2tf"), "-i", slim, "-o", folder, "-n"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (floating,) = Path(folder).glob("*float32.tflite")
        Path(out).write_bytes(_calibrated(floating.read_bytes(), x[: int(count)]))


def _calibrated(model: bytes, x: NDArray[Any]) -> bytes:
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper as wrapper

    made = wrapper.CalibrationWrapper(model, [], [])
    made.Prepare()
    for sample in x.transpose(0, 2, 3, 1):
        made.FeedTensor([np.ascontiguousarray(sample[None])])
    return bytes(
        made.QuantizeModel(
            np.dtype(np.int8).num,
            np.dtype(np.int8).num,
            False,
            np.dtype(np.int8).num,
            np.dtype(np.int32).num,
            False,
            False,
        )
    )


main()
