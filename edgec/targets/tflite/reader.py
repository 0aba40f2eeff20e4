"""Read a TFLite file back into tensors and operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgec.errors import Diagnostic, ModelError
from edgec.ir import DType
from edgec.program import tables
from edgec.program.faults import Fault
from edgec.program.tensors import Tensor as StoredTensor
from edgec.targets.tflite.model import Model, Operator, Tensor

__all__ = ["parse_tflite", "read_tflite"]


def read_tflite(path: Path) -> Model:
    """Return the first subgraph of a file; constants are views of it.

    Custom operators have the code ``CUSTOM:`` and their name. Options are read of windows and
    resizes, and are empty otherwise.

    Raises
    ------
    ModelError
        If the file cannot be read, or is no TFLite file that makes sense.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return parse_tflite(data, path.stem, str(path))


def parse_tflite(data: bytes, name: str, called: str = "the file") -> Model:
    """Return the first subgraph of the contents of a file, as `read_tflite` does."""
    found = tables.read_tables(data, called, tables.ANY)
    model = Model(name, [_tensor(t) for t in found.tensors])
    for entry in found.entries:
        try:
            options = _options(entry)
        except Fault as fault:
            raise ModelError(
                f"{called} is damaged", [Diagnostic(str(fault), entry.layer)]
            ) from fault
        model.operators.append(
            Operator(
                entry.code, entry.inputs, entry.outputs, options, entry.version, entry.layer
            )
        )
    model.inputs = [(model.tensors[i].name, i) for i in found.inputs]
    model.outputs = [(model.tensors[i].name, i) for i in found.outputs]
    return model


_TABLES = {
    "AVERAGE_POOL_2D": "Pool2D",
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "MAX_POOL_2D": "Pool2D",
    "RESIZE_BILINEAR": "ResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor",
    "TRANSPOSE_CONV": "TransposeConv",
}


def _options(entry: tables.Entry) -> tuple[str, dict[str, Any]]:
    name = _TABLES.get(entry.code)
    if name is None:
        return "", {}
    options = entry.options(f"{name}Options")
    return name, dict(vars(getattr(schema, f"{name}OptionsT").InitFromObj(options)))


def _tensor(tensor: StoredTensor) -> Tensor:
    # Of other types nobody knows how long an element is.
    data = None if tensor.dtype is DType.UNDEFINED else tensor.data
    return Tensor(tensor.name, tensor.dtype, tensor.shape, data, tensor.grid)
