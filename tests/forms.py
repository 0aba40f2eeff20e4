"""Real models in other forms: other floats, other ways to be quantized."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from benchmarks.models import DATA

__all__ = ["FLOATS", "MODELS", "in_floats", "in_qoperators", "model_path"]

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


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # of a package without types
    """Random images for onnxruntime's quantizer."""

    def __init__(self, name: str, shape: tuple[int, ...], width: float) -> None:
        rng = np.random.default_rng(1)
        images = (rng.uniform(0, width, shape).astype(np.float32) for _ in range(4))
        self._feeds = iter([{name: image} for image in images])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def in_qoperators(
    source: Path, folder: Path, activation: str, weight: str, per_channel: bool, width: float
) -> Path:
    """The model on integers, as onnxruntime's quantizer writes it in QOperator form.

    Weights have 7 bits, so that old CPUs compute the same as new ones.
    """
    model = onnx.load(source)
    held = {t.name for t in model.graph.initializer}
    (x,) = (v for v in model.graph.input if v.name not in held)
    shape = tuple(d.dim_value or 1 for d in x.type.tensor_type.shape.dim)
    types = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    path = folder / source.name
    quantize_static(
        model, path, _Feeds(x.name, shape, width), quant_format=QuantFormat.QOperator,
        activation_type=types[activation], weight_type=types[weight],
        per_channel=per_channel, reduce_range=True,
    )  # fmt: skip
    return path
