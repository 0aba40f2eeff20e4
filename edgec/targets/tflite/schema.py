"""Write a model as a TFLite FlatBuffer, with the schema that ships in ``ai-edge-litert``."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec import __version__
from edgec.ir import Array, DType, QuantParams
from edgec.program.tables import DTYPES
from edgec.targets.tflite.buffers import Buffers
from edgec.targets.tflite.model import Model, Operator, Tensor
from edgec.targets.tflite.runtimes import first_release

__all__ = ["TYPES", "min_runtime_version", "serialize"]

TYPES = {dtype: number for number, dtype in DTYPES.items()}

_FAR_RUNTIME = "2.15.0"  # reads contents outside the FlatBuffer: version 3c of the schema

_NO_TENSOR = -1  # what is no tensor shares no buffer with one


def serialize(model: Model) -> bytes:
    """Return the file; equal models give equal bytes."""
    root = schema.ModelT()
    root.version = 3
    root.description = f"edgec {__version__}"
    buffers = Buffers()
    codes = list(dict.fromkeys((op.code, op.version) for op in model.operators))
    root.operatorCodes = [_code(*pair) for pair in codes]
    graph = schema.SubGraphT()
    graph.name = model.name
    graph.tensors = [_tensor(t, buffers) for t in model.tensors]
    graph.inputs = [i for _, i in model.inputs]
    graph.outputs = [i for _, i in model.outputs]
    graph.operators = [
        _operator(op, codes.index((op.code, op.version))) for op in model.operators
    ]
    root.subgraphs = [graph]
    root.signatureDefs = [_signature(model)]
    versions = [min_runtime_version(model), *([_FAR_RUNTIME] if buffers.far else [])]
    root.metadata = [_metadata(buffers, max(versions, key=_release))]
    root.buffers = buffers.tables()
    builder = flatbuffers.Builder((1 << 16) + 1024 * len(model.tensors))
    builder.Finish(root.Pack(builder), b"TFL3")
    return buffers.file(builder.Output())


def min_runtime_version(model: Model) -> str:
    """Return the first TensorFlow release whose runtime reads all operators."""
    found = [first_release(op.code, op.version) for op in model.operators]
    return max([*found, first_release("", 1)], key=_release)


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _code(name: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # what readers before 2.4 look at
    code.version = version
    return code


def _tensor(tensor: Tensor, buffers: Buffers) -> Any:
    out = schema.TensorT()
    out.name = tensor.name
    out.shape = [max(length, 1) if length < 0 else length for length in tensor.shape]
    if -1 in tensor.shape:
        out.shapeSignature = list(tensor.shape)
    out.type = TYPES[tensor.dtype]
    out.buffer = 0
    if tensor.data is not None:
        data = _packed(tensor.data) if tensor.dtype is DType.INT4 else tensor.data
        out.buffer = buffers.add(data, out.type)
    if tensor.quant is not None:
        out.quantization = _quantization(tensor.quant)
    return out


def _packed(array: Array) -> Array:
    """Return 4-bit integers two in a byte, the first in the lower half."""
    halves = np.ascontiguousarray(array).reshape(-1).astype(np.int8).view(np.uint8) & 15
    if halves.size % 2:
        halves = np.append(halves, np.uint8(0))
    return np.asarray(halves[0::2] | halves[1::2] << 4, np.uint8)


def _quantization(params: QuantParams) -> Any:
    out = schema.QuantizationParametersT()
    out.scale = np.array(params.scale, np.float32)
    out.zeroPoint = np.array(params.zero_point, np.int64)
    out.quantizedDimension = params.axis or 0
    return out


def _operator(op: Operator, code: int) -> Any:
    out = schema.OperatorT()
    out.opcodeIndex = code
    out.inputs, out.outputs = list(op.inputs), list(op.outputs)
    table, fields = op.options
    if table:
        options = getattr(schema, f"{table}OptionsT")()
        for key, value in fields.items():
            setattr(options, key, TYPES[value] if isinstance(value, DType) else value)
        out.builtinOptionsType = getattr(schema.BuiltinOptions, f"{table}Options")
        out.builtinOptions = options
    return out


def _signature(model: Model) -> Any:
    out = schema.SignatureDefT()
    out.signatureKey = "serving_default"
    out.inputs = [_entry(name, index) for name, index in model.inputs]
    out.outputs = [_entry(name, index) for name, index in model.outputs]
    return out


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _metadata(buffers: Buffers, version: str) -> Any:
    out = schema.MetadataT()
    out.name = "min_runtime_version"
    text = np.frombuffer(version.encode().ljust(16, b"\0"), np.uint8)
    out.buffer = buffers.add(text, _NO_TENSOR)
    return out
