"""Write a model as a TFLite FlatBuffer, with the schema that ships in ``ai-edge-litert``."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec import __version__
from edgec.ir import DType, QuantParams
from edgec.targets.tflite.buffers import Buffers
from edgec.targets.tflite.model import Model, Operator, Tensor

__all__ = ["TYPES", "min_runtime_version", "serialize"]

TYPES = {
    DType.FLOAT32: schema.TensorType.FLOAT32,
    DType.FLOAT16: schema.TensorType.FLOAT16,
    DType.INT8: schema.TensorType.INT8,
    DType.UINT8: schema.TensorType.UINT8,
    DType.INT16: schema.TensorType.INT16,
    DType.INT32: schema.TensorType.INT32,
    DType.INT64: schema.TensorType.INT64,
    DType.BOOL: schema.TensorType.BOOL,
}

_FAR_RUNTIME = "2.15.0"  # reads contents outside the FlatBuffer: version 3c of the schema

_NO_TENSOR = -1  # what is no tensor shares no buffer with one

# The first TensorFlow release that reads a version of an operator, where that is later than
# 1.14, the first with int8. Source: tensorflow/compiler/mlir/lite/tools/versioning/
# runtime_version.cc.
_RUNTIMES = {
    ("FULLY_CONNECTED", 5): "2.0.0",
    ("FULLY_CONNECTED", 12): "2.17.0",
    ("BATCH_MATMUL", 1): "2.3.0",
    ("BATCH_MATMUL", 2): "2.3.0",
    ("BROADCAST_TO", 2): "2.5.0",
    ("BROADCAST_TO", 3): "2.5.0",
    ("CAST", 3): "2.8.0",
    ("CONCATENATION", 3): "2.3.0",
    ("DEPTH_TO_SPACE", 1): "2.1.0",
    ("DEPTH_TO_SPACE", 2): "2.5.0",
    ("GATHER", 3): "1.15.0",
    ("GATHER", 4): "2.4.0",
    ("MIRROR_PAD", 2): "2.3.0",
    ("MIRROR_PAD", 3): "2.12.0",
    ("PAD", 3): "2.4.0",
    ("PAD", 4): "2.6.0",
    ("PAD", 5): "2.20.0",
    ("PADV2", 3): "2.4.0",
    ("PADV2", 4): "2.6.0",
    ("PADV2", 5): "2.20.0",
    ("SPLIT", 4): "2.3.0",
    ("SPLIT_V", 2): "2.3.0",
    ("STRIDED_SLICE", 3): "2.1.0",
    ("STRIDED_SLICE", 4): "2.2.0",
    ("TILE", 3): "2.8.0",
    ("TRANSPOSE", 3): "1.15.0",
    ("TRANSPOSE", 4): "2.3.0",
    ("TRANSPOSE", 5): "2.4.0",
    ("TRANSPOSE", 6): "2.12.0",
    ("CONV_2D", 6): "2.9.0",
    ("TRANSPOSE_CONV", 3): "2.3.0",
    ("RESIZE_BILINEAR", 3): "2.2.0",
    ("RESIZE_NEAREST_NEIGHBOR", 3): "2.3.0",
    ("GELU", 1): "2.9.0",
    ("HARD_SWISH", 1): "1.15.0",
    ("LEAKY_RELU", 2): "2.3.0",
    ("RELU", 2): "2.1.0",
    ("SELECT_V2", 1): "2.2.0",
    ("ABS", 2): "2.4.0",
    ("ABS", 4): "2.6.0",
    ("ABS", 5): "2.12.0",
    ("ADD", 4): "2.6.0",
    ("ARG_MAX", 3): "2.9.0",
    ("ARG_MIN", 3): "2.9.0",
    ("ATAN2", 1): "2.10.0",
    ("BITCAST", 1): "2.13.0",
    ("BITWISE_XOR", 1): "2.13.0",
    ("CAST", 2): "2.7.0",
    ("CAST", 4): "2.9.0",
    ("CAST", 5): "2.12.0",
    ("CUMSUM", 1): "2.4.0",
    ("DIV", 2): "2.3.0",
    ("MAXIMUM", 3): "2.3.0",
    ("MAXIMUM", 4): "2.3.0",
    ("MINIMUM", 3): "2.3.0",
    ("MINIMUM", 4): "2.3.0",
    ("MUL", 5): "2.6.0",
    ("REDUCE_ALL", 1): "2.6.0",
    ("REDUCE_MAX", 3): "2.5.0",
    ("REDUCE_MIN", 3): "2.5.0",
    ("REDUCE_PROD", 2): "2.6.0",
    ("RIGHT_SHIFT", 1): "2.13.0",
    ("RSQRT", 2): "2.5.0",
    ("SIGN", 1): "2.11.0",
    ("SIGN", 2): "2.12.0",
    ("SQRT", 2): "2.21.0",
    ("SUB", 3): "2.3.0",
    ("SUB", 4): "2.4.0",
}


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
    found = [_RUNTIMES.get((op.code, op.version), "1.14.0") for op in model.operators]
    return max([*found, "1.14.0"], key=_release)


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
    out.shape = list(tensor.shape)
    out.type = TYPES[tensor.dtype]
    out.buffer = 0
    if tensor.data is not None:
        out.buffer = buffers.add(tensor.data, out.type)
    if tensor.quant is not None:
        out.quantization = _quantization(tensor.quant)
    return out


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
