"""Real models in other forms: other floats, other ways to be quantized."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, version_converter

from benchmarks.models import DATA

__all__ = ["FLOATS", "MODELS", "in_floats", "model_path"]

MODELS = DATA / "models"

FLOATS = {
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "float64": (TensorProto.DOUBLE, np.dtype(np.float64)),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}


def model_path(name: str) -> Path:
    """Where a model of the shared data is, whether it is there or not."""
    return next(iter(MODELS.rglob(f"{name}.onnx")), MODELS / f"{name}.onnx")


def in_floats(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with every float32 in it turned into another float."""
    if name == "bfloat16":  # convolutions have taken it since opset 22
        model = version_converter.convert_version(model, 22)
    _convert(model.graph, *FLOATS[name])
    return model


def _convert(graph: onnx.GraphProto, code: int, dtype: np.dtype[np.generic]) -> None:
    scales = {n.input[2] for n in graph.node if n.op_type == "Resize" and len(n.input) > 2}
    tensors = [t for t in graph.initializer if t.name not in scales]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and node.output[0] not in scales:
                tensors.append(attribute.t)
            if attribute.HasField("g"):
                _convert(attribute.g, code, dtype)
            if (node.op_type, attribute.name, attribute.i) == ("Cast", "to", TensorProto.FLOAT):
                attribute.i = code
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = code
