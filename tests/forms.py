"""Real models in other forms: other floats, other ways to be quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from benchmarks.models import DATA

__all__ = [
    "FLOATS",
    "MODELS",
    "in_block_products",
    "in_floats",
    "in_qoperators",
    "model_path",
    "with_stored_weights",
]

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


_GRIDS = {8: np.dtype(np.int8), 4: np.dtype(ml_dtypes.int4)}


def with_stored_weights(model: onnx.ModelProto, bits: int, block: int = 0) -> onnx.ModelProto:
    """The model with weights of layers stored as integers that it dequantizes itself.

    There is one scale an output, or one for each block of what is multiplied.
    """
    model = version_converter.convert_version(model, 21)
    graph, top = model.graph, (1 << (bits - 1)) - 1
    held = {t.name: t for t in graph.initializer}
    added: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul") or node.input[1] not in held:
            continue
        name, stem = node.input[1], f"{node.input[1]}.{node.output[0]}"
        w = numpy_helper.to_array(held[name])
        inner = 0 if node.op_type == "MatMul" else 1
        blocked = block if node.op_type == "MatMul" else 0
        attributes = {"axis": inner if blocked else 1 - inner}
        if blocked:
            attributes["block_size"] = blocked
            starts = range(0, w.shape[inner], blocked)
            peaks = np.maximum.reduceat(np.abs(w), starts, inner)
            scale = np.asarray(peaks / top + 1e-9, np.float32)
            wide = np.repeat(scale, blocked, inner)[: len(w)]
        else:
            rest = tuple(k for k in range(w.ndim) if k != 1 - inner)
            wide = np.asarray(np.abs(w).max(rest, keepdims=True) / top + 1e-9, np.float32)
            scale = wide.reshape(-1)
        stored = np.rint(w / wide).astype(_GRIDS[bits])
        graph.initializer.append(numpy_helper.from_array(stored, f"{stem}.stored"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{stem}.scale"))
        inputs = [f"{stem}.stored", f"{stem}.scale"]
        real = helper.make_node("DequantizeLinear", inputs, [f"{stem}.real"])
        real.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        added.append(real)
        node.input[1] = real.output[0]
    return _rewritten(model, [*added, *graph.node])


def in_block_products(
    model: onnx.ModelProto, bits: int, block: int, *, zeros: bool, level: int = 0
) -> onnx.ModelProto:
    """The model with ONNX Runtime's products of packed weights in place of `MatMul`."""
    graph, top = model.graph, (1 << bits) - 1
    held = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in held:
            continue
        name = node.input[1]
        w = numpy_helper.to_array(held[name])
        k, n = w.shape
        count = -(-k // block)
        parts = np.pad(w.T, ((0, 0), (0, count * block - k))).reshape(n, count, block)
        zero = np.full((n, count), 1 << (bits - 1))
        scale = np.asarray(np.abs(parts).max(2) / (top // 2) + 1e-9, np.float32)
        if zeros:
            low, high = np.minimum(parts.min(2), 0), np.maximum(parts.max(2), 0)
            scale = np.asarray((high - low) / top + 1e-9, np.float32)
            zero = np.rint(-low / scale)
        q = np.clip(np.rint(parts / scale[..., None]) + zero[..., None], 0, top)
        packed = _packed(q.reshape(n * count, block), bits).reshape(n, count, -1)
        arrays: dict[str, NDArray[Any]] = {"packed": packed, "scale": scale}
        if zeros:
            arrays["zero"] = _packed(zero, bits)
        for key, array in arrays.items():
            graph.initializer.append(numpy_helper.from_array(array, f"{name}.{key}"))
        inputs = [node.input[0], *(f"{name}.{key}" for key in arrays)]
        made = helper.make_node(
            "MatMulNBits", inputs, list(node.output), node.name, domain="com.microsoft",
            K=k, N=n, bits=bits, block_size=block, accuracy_level=level,
        )  # fmt: skip
        node.CopyFrom(made)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    del graph.value_info[:]  # of other domains nobody says what they compute
    return _rewritten(model, list(graph.node))


def _packed(numbers: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Numbers of a few bits in bytes, row by row, the first in the lowest bits."""
    each = 8 // bits
    rows = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % each))).astype(np.uint8)
    apart = rows.reshape(len(rows), -1, each) << np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(apart, 2), np.uint8)


def _rewritten(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The model with other nodes, and without the initializers that none of them reads."""
    graph = model.graph
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    read = {name for n in kept for name in n.input}
    tensors = [t for t in graph.initializer if t.name in read]
    inputs = [v for v in graph.input if v.name not in {t.name for t in graph.initializer}]
    for field in ("node", "initializer", "input"):
        graph.ClearField(field)
    graph.node.extend(kept)
    graph.initializer.extend(tensors)
    graph.input.extend(inputs)
    return model
