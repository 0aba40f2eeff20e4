"""What LiteRT's GPU delegate takes of a TFLite file, by its documentation."""

from __future__ import annotations

from collections.abc import Mapping

from edgec.targets.tflite.model import Model

__all__ = ["GPU_OPERATORS", "gpu_misfits"]

# The operators that the GPU delegate runs in 16-bit and 32-bit float, with the highest version
# of each. Source: the table "Supported operations" of tensorflow.org/lite/performance/gpu.
GPU_OPERATORS: Mapping[str, int] = {
    "ADD": 1,
    "AVERAGE_POOL_2D": 1,
    "CONCATENATION": 1,
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 2,
    "EXP": 1,
    "FULLY_CONNECTED": 1,
    "LOGICAL_AND": 1,
    "LOGISTIC": 1,
    "LSTM": 2,
    "MAXIMUM": 1,
    "MAX_POOL_2D": 1,
    "MINIMUM": 1,
    "MUL": 1,
    "PAD": 1,
    "PRELU": 1,
    "RELU": 1,
    "RELU6": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 3,
    "SOFTMAX": 1,
    "STRIDED_SLICE": 1,
    "SUB": 1,
    "TRANSPOSE_CONV": 1,
}


def gpu_misfits(model: Model) -> dict[int, str]:
    """Return the operators that the GPU delegate's documentation does not list, with why."""
    found: dict[int, str] = {}
    for position, op in enumerate(model.operators):
        most = GPU_OPERATORS.get(op.code)
        types = {model.tensors[i].dtype.value for i in op.outputs} - {"f32", "f16"}
        if most is None:
            found[position] = "is not among its documented operators"
        elif types:
            found[position] = f"computes {', '.join(sorted(types))}, not float"
        elif op.version > most:
            found[position] = f"is of version {op.version}, documented up to {most}"
    return found
