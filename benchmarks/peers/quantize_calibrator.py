"""Quantize float TFLite with LiteRT's own calibrator: MODEL SAMPLES COUNT OUT."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper as wrapper


def main() -> None:
    """Quantize the file named on the command line."""
    model, samples, count, out = sys.argv[1:5]
    with np.load(samples) as arrays:
        ((_, x),) = arrays.items()
    data = Path(model).read_bytes()  # the wrapper reads it later on, and holds no reference
    made = wrapper.CalibrationWrapper(data, [], [])
    made.Prepare()
    for sample in x[: int(count)]:
        made.FeedTensor([np.ascontiguousarray(sample[None])])
    # Types of inputs and outputs, whether layers may stay float, types of activations and
    # biases, whether weights have one scale in convolutions and in fully connected layers.
    interface = np.dtype(x.dtype).num, np.dtype(np.float32).num
    integers = np.dtype(np.int8).num, np.dtype(np.int32).num
    try:
        quantized = made.QuantizeModel(*interface, False, *integers, False, False)
    except RuntimeError as error:
        print(f"with float layers, since it refused to go without: {error}")
        quantized = made.QuantizeModel(*interface, True, *integers, False, False)
    Path(out).write_bytes(bytes(quantized))


main()
