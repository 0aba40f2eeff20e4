"""Whether recurrent layers make sense: their weights, and the state that they keep."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ir import DType
from edgec.program import operators as ops
from edgec.program.faults import require
from edgec.program.program import Layer
from edgec.program.requirements import require_zero_points
from edgec.program.tensors import Tensor

__all__ = ["check_lstm", "check_svdf"]


def _has(tensor: Tensor, shape: Sequence[int], kinds: Sequence[DType]) -> None:
    require(
        tensor.shape == tuple(shape),
        f"{tensor.name} has the shape {list(tensor.shape)} instead of {list(shape)}",
    )
    require(
        tensor.dtype in kinds,
        f"{tensor.name} is of the type {tensor.dtype.name.lower()}, which it does not take",
        "quantize the model to int8",
        valid=True,
    )
    if tensor.dtype in (DType.INT8, DType.INT16):
        require(tensor.grid is not None, f"{tensor.name} holds integers without a scale")
        assert tensor.grid is not None
        require_zero_points(tensor, tensor.grid)
        require(tensor.grid.axis is None, f"{tensor.name} has several scales", valid=True)


def _stored(tensor: Tensor, shape: Sequence[int], kinds: Sequence[DType]) -> None:
    require(tensor.data is not None, f"{tensor.name} has to be a constant", valid=True)
    _has(tensor, shape, kinds)


def check_svdf(layer: Layer) -> None:
    """Raise a ``Fault`` if a layer of filters of low rank makes no sense."""
    assert isinstance(layer.op, ops.Svdf)
    require(len(layer.inputs) == 5 and len(layer.outputs) == 1, "it has not 5 operands")
    for k in (0, 1, 2, 4):
        require(layer.inputs[k] is not None, f"operand {k} is missing")
    x, features, times, state = (layer.input(k) for k in (0, 1, 2, 4))
    y, bias = layer.output, layer.inputs[3]
    for t in (x, features, times, state):
        require(len(t.shape) == 2, f"{t.name} has not 2 axes")
    real = x.dtype is DType.FLOAT32
    byte = (DType.FLOAT32,) if real else (DType.INT8,)
    wide = (DType.FLOAT32,) if real else (DType.INT8, DType.INT16)
    filters, memory = times.shape
    require(
        layer.op.rank >= 1 and filters % layer.op.rank == 0,
        f"its rank is {layer.op.rank}, and it has {filters} filters",
    )
    units = filters // layer.op.rank
    _has(x, x.shape, byte)
    _stored(features, (filters, x.shape[1]), byte)
    _stored(times, (filters, memory), wide)
    if bias is not None:
        _stored(bias, (units,), (DType.FLOAT32,) if real else (DType.INT32,))
    _has(state, (x.shape[0], memory * filters), (times.dtype,))
    _has(y, (x.shape[0], units), byte)
    require(state.data is None, f"{state.name} has to be a variable")


def check_lstm(layer: Layer) -> None:
    """Raise a ``Fault`` if an LSTM makes no sense."""
    assert isinstance(layer.op, ops.UnidirectionalLstm)
    require(len(layer.inputs) == 24 and len(layer.outputs) == 1, "it has not 24 operands")
    for k in (0, 2, 3, 4, 6, 7, 8, 13, 14, 15, 18, 19):
        require(layer.inputs[k] is not None, f"operand {k} is missing")
    require(
        all(layer.inputs[k] is not None for k in (1, 5, 12)),
        "its input gate is missing",
        "train and export the plain LSTM",
        valid=True,
    )
    x, y = layer.input(0), layer.output
    hidden, cell = layer.input(18), layer.input(19)
    real, wide = x.dtype is DType.FLOAT32, x.dtype is DType.INT16
    require(
        len(x.shape) == len(y.shape) == 3 and len(hidden.shape) == 2,
        "its operand or its result has not 3 axes",
    )
    kinds = (DType.FLOAT32,) if real else ((DType.INT16,) if wide else (DType.INT8,))
    byte = (DType.FLOAT32,) if real else (DType.INT8,)
    biases = (
        (DType.FLOAT32,) if real else ((DType.INT64, DType.INT32) if wide else (DType.INT32,))
    )
    batch, depth = x.shape[1 if layer.op.time_major else 0], x.shape[2]
    units = hidden.shape[1]
    _has(x, x.shape, kinds)
    for k in (1, 2, 3, 4):
        _stored(layer.input(k), (units, depth), byte)
    for k in (5, 6, 7, 8):
        _stored(layer.input(k), (units, units), byte)
    for k in (12, 13, 14, 15):
        _stored(layer.input(k), (units,), biases)
    _has(hidden, (batch, units), kinds)
    _has(cell, (batch, units), (DType.FLOAT32,) if real else (DType.INT16,))
    _has(y, (*x.shape[:2], units), kinds)
    for t in (hidden, cell):
        require(t.data is None, f"{t.name} has to be a variable")
