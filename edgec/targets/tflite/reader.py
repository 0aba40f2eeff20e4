"""Read a TFLite file back into tensors and operators."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.errors import Diagnostic, ModelError
from edgec.ir import Array, DType, QuantParams
from edgec.targets.tflite.model import Model, Operator, Tensor
from edgec.targets.tflite.schema import TYPES

__all__ = ["parse_tflite", "read_tflite"]

_DTYPES = {code: dtype for dtype, code in TYPES.items()}
_CODES = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
_MOST = 1 << 22
"""More entries than any vector of tensors, operators or axes has."""


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
    if data[4:8] != b"TFL3":
        raise ModelError(f"{called} is not a TFLite file")
    try:
        return _model(data, name)
    except (struct.error, IndexError, ValueError, KeyError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{called} is damaged", [Diagnostic(reason)]) from error


def _model(data: bytes, name: str) -> Model:
    root = schema.Model.GetRootAs(data)
    if root.SubgraphsLength() < 1:
        raise ValueError("there is no subgraph")
    graph = root.Subgraphs(0)
    codes = [_code(root.OperatorCodes(i)) for i in range(_count(root.OperatorCodesLength()))]
    tensors = [
        _tensor(graph.Tensors(i), root, data) for i in range(_count(graph.TensorsLength()))
    ]
    model = Model(name, tensors)
    for i in range(_count(graph.OperatorsLength())):
        op = graph.Operators(i)
        code, version = codes[op.OpcodeIndex()]
        inputs = _indices(op.InputsAsNumpy(), tensors)
        outputs = _indices(op.OutputsAsNumpy(), tensors)
        layer = tensors[outputs[0]].name if outputs else f"operator {i}"
        model.operators.append(
            Operator(code, inputs, outputs, _options(op, code), version, layer)
        )
    model.inputs = [(tensors[i].name, i) for i in _indices(graph.InputsAsNumpy(), tensors)]
    model.outputs = [(tensors[i].name, i) for i in _indices(graph.OutputsAsNumpy(), tensors)]
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


def _options(op: Any, code: str) -> tuple[str, dict[str, Any]]:
    table, name = op.BuiltinOptions(), _TABLES.get(code)
    if table is None or name is None:
        return "", {}
    options = getattr(schema, f"{name}Options")()
    options.Init(table.Bytes, table.Pos)
    return name, dict(vars(getattr(schema, f"{name}OptionsT").InitFromObj(options)))


def _count(length: int) -> int:
    if length > _MOST:
        raise ValueError(f"a list claims {length} entries")
    return length


def _code(code: Any) -> tuple[str, int]:
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{(code.CustomCode() or b'').decode('utf-8', 'replace')}", code.Version()
    return _CODES.get(number, f"operator {number}"), code.Version()


def _indices(found: Any, tensors: list[Tensor]) -> tuple[int, ...]:
    if isinstance(found, int):  # what the generated code returns for an absent vector
        return ()
    indices = tuple(int(i) for i in found)
    if any(i >= len(tensors) or i < -1 for i in indices):
        raise ValueError(f"a tensor is named by the number {max(indices)} of {len(tensors)}")
    return indices


def _tensor(tensor: Any, root: Any, file: bytes) -> Tensor:
    dims = tensor.ShapeAsNumpy()
    shape = () if isinstance(dims, int) else tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise ValueError(f"a tensor has the shape {list(shape)}")
    name = (tensor.Name() or b"").decode("utf-8", "replace")
    dtype = _DTYPES.get(tensor.Type(), DType.UNDEFINED)
    index = tensor.Buffer()
    if not 0 <= index < root.BuffersLength():
        raise ValueError(f"a tensor has the buffer {index} of {root.BuffersLength()}")
    raw = _contents(root.Buffers(index), file)
    return Tensor(name, dtype, shape, _data(raw, dtype, shape), _grid(tensor))


def _contents(buffer: Any, file: bytes) -> Array | None:
    """Return the bytes of a buffer, which may lie behind the FlatBuffer where that is full."""
    place, size = buffer.Offset(), buffer.Size()
    if place > 1:  # schema.fbs: 0 where there are none, 1 while a file is being written
        if place + size > len(file):
            raise ValueError(f"a constant lies at {place} of {len(file)} bytes")
        return np.frombuffer(file, np.uint8, size, place)
    raw = buffer.DataAsNumpy()
    return None if isinstance(raw, int) else np.asarray(raw.view(np.uint8))


def _data(array: Array | None, dtype: DType, shape: tuple[int, ...]) -> Any:
    if array is None or array.size == 0 or dtype in (DType.UNDEFINED, DType.STRING):
        return None
    wanted = int(np.prod(shape, dtype=np.float64)) * dtype.numpy.itemsize
    if array.size != wanted:
        return array if dtype.name.endswith("INT4") else _wrong(array.size, wanted)
    return np.frombuffer(array, dtype.numpy).reshape(shape)


def _wrong(size: int, wanted: int) -> Any:
    raise ValueError(f"a constant has {size} bytes where its shape needs {wanted}")


def _grid(tensor: Any) -> QuantParams | None:
    quantization = tensor.Quantization()
    scales = None if quantization is None else quantization.ScaleAsNumpy()
    if quantization is None or scales is None or isinstance(scales, int) or not scales.size:
        return None
    zeros = quantization.ZeroPointAsNumpy()
    points = [0] * scales.size if isinstance(zeros, int) else [int(z) for z in zeros]
    axis = quantization.QuantizedDimension() if scales.size > 1 else None
    return QuantParams(tuple(float(s) for s in scales), tuple(points), axis)
