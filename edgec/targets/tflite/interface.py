"""Inputs and outputs of the file: in the caller's layout and element type."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgec.errors import Diagnostic, UnsupportedError
from edgec.ir import UNKNOWN, DType, Node, QuantParams, Value
from edgec.ops import Convolution, Dequantize, Pool, Quantize, Reshape, Transpose
from edgec.targets.base import Port
from edgec.targets.tflite.lower import NHWC, Lowering, Perm, Stored, identity

__all__ = ["IoDtype", "IoLayout", "bind_inputs", "bind_outputs"]

IoDtype = Literal["float32", "int8", "uint8", "int16"]
IoLayout = Literal["keep", "nhwc"]

_HINT = "leave it out, or quantize the model with --recipe static_wi8_ai8"


def bind_inputs(b: Lowering, io_dtype: IoDtype, io_layout: IoLayout) -> list[Port]:
    """Add the input tensors and return what they are."""
    return [_input(b, value, io_dtype, io_layout) for value in b.graph.inputs]


def _input(b: Lowering, value: Value, io_dtype: IoDtype, io_layout: IoLayout) -> Port:
    rank = value.type.rank
    perm = identity(rank)
    if io_layout == "nhwc" and rank == 4 and _wanted(b, value) == NHWC:
        perm = NHWC
    shape = tuple(value.type.ints[axis] for axis in perm)
    b.layer = value.name
    if io_dtype == "float32" or value.type.dtype is not DType.FLOAT32:
        index = b.tensor(value.name, value.type.dtype, shape, quant=_given_grid(b, value))
        b.stored[value] = Stored(index, perm)
        b.model.inputs.append((value.name, index))
        return Port(value.name, value.type.dtype, shape, perm)
    readers = b.graph.users.get(value, ())
    found = {n.output: n.op for n in readers if isinstance(n.op, Quantize)}
    if not found or len(found) < len(readers):
        problem = Diagnostic("is read by a float operator", f"input {value.name}", _HINT)
        raise UnsupportedError(f"--io-dtype {io_dtype} needs a quantized input", [problem])
    # Of several grids the caller's is the one of his type, or else the coarsest.
    dtype = DType[io_dtype.upper()]
    nearest = min(found.values(), key=lambda op: (op.dtype is not dtype, -op.params.scale[0]))
    outer = _boundary(nearest, dtype)
    index = b.tensor(value.name, dtype, shape, quant=outer)
    b.model.inputs.append((value.name, index))
    inner = {op: _regridded(b, index, op.dtype, op.params) for op in found.values()}
    b.stored |= {read: Stored(inner[op], perm) for read, op in found.items()}
    return Port(value.name, dtype, shape, perm, outer)


def _regridded(
    b: Lowering, tensor: int, dtype: DType, grid: QuantParams, name: str | None = None
) -> int:
    """Return a tensor with the same real numbers on another grid.

    No kernel steps from uint8 to int16 or back: int8 is between them.
    """
    info = b.info(tensor)
    if info.quant is None or (info.dtype, info.quant) == (dtype, grid):
        return tensor
    if {info.dtype, dtype} == {DType.UINT8, DType.INT16}:
        unsigned = grid if dtype is DType.UINT8 else info.quant
        between = QuantParams(unsigned.scale, (unsigned.zero_point[0] - 128,))
        tensor = _regridded(b, tensor, DType.INT8, between)
    name = name or f"{info.name}/{dtype.name.lower()}"
    out = b.tensor(name, dtype, info.shape, quant=grid)
    b.operator("QUANTIZE", [tensor], [out], "Quantize")
    return out


def _given_grid(b: Lowering, value: Value) -> QuantParams | None:
    """Return how an input of the model that is stored on integers is to be understood."""
    readers = b.graph.users.get(value, ())
    grids = {n.op.params for n in readers if isinstance(n.op, Dequantize)}
    if len(grids) > 1:
        problem = Diagnostic(f"is dequantized in {len(grids)} ways", f"input {value.name}")
        raise UnsupportedError("an integer input has one scale", [problem])
    return next(iter(grids), None)


def _boundary(inner: Quantize, dtype: DType) -> QuantParams:
    """Return the grid at the interface of what is stored on another inside.

    uint8 is int8 moved up by 128. From 16 bits to 8 and back it is one around zero that reaches
    as far.
    """
    grid = inner.params
    (lowest, _), (_, highest) = inner.dtype.limits, dtype.limits
    if inner.dtype is dtype:
        return grid
    if DType.INT16 not in (inner.dtype, dtype):
        return QuantParams(grid.scale, (grid.zero_point[0] + 128,))
    middle = 128 if dtype is DType.UINT8 else 0
    reach = max(abs(lowest - grid.zero_point[0]), inner.dtype.limits[1] - grid.zero_point[0])
    reach -= inner.dtype is DType.INT16  # its grids go as far below zero as above
    scale = float(np.float32(grid.scale[0] * reach / (highest - middle)))
    return QuantParams((scale,), (middle,))


def _wanted(b: Lowering, value: Value, depth: int = 0) -> Perm | None:
    """Return the order that the first consumer with an opinion wants `value` in."""
    for node in b.graph.users.get(value, ()):
        found = _wanted_by(b, node, value, depth)
        if found is not None:
            return found
    return None


def _wanted_by(b: Lowering, node: Node, value: Value, depth: int) -> Perm | None:
    match node.op:
        case Convolution() | Pool():
            return NHWC if node.inputs[0] == value else None
        case Transpose(perm):
            after = _wanted(b, node.output, depth + 1) if depth < 50 else None
            return None if after is None else tuple(perm[axis] for axis in after)
        case Reshape():
            return None
    same_rank = len(node.outputs) == 1 and node.output.type.rank == value.type.rank
    return _wanted(b, node.output, depth + 1) if same_rank and depth < 50 else None


def bind_outputs(b: Lowering, io_dtype: IoDtype, io_layout: IoLayout) -> list[Port]:
    """Choose the output tensors and return what they are."""
    ports = [_output(b, value, io_dtype, io_layout) for value in b.graph.outputs]
    fed = {index for _, index in b.model.inputs}
    for name, index in b.model.outputs:
        for other, tensor in enumerate(b.model.tensors):
            # The interface has the first claim to its names.
            if tensor.name == name and other != index and other not in fed:
                tensor.name = f"{name};inner"
        b.info(index).name = name
    return ports


def _output(b: Lowering, value: Value, io_dtype: IoDtype, io_layout: IoLayout) -> Port:
    b.layer = value.name
    integer = io_dtype != "float32" and value.type.dtype is DType.FLOAT32
    if integer and b.pair_before(value) is None:
        problem = Diagnostic("is computed in float", f"output {value.name}", _HINT)
        raise UnsupportedError(f"--io-dtype {io_dtype} needs a quantized output", [problem])
    perm = identity(value.type.rank)
    held = b.perm_of(value, integer=integer)
    if io_layout == "nhwc" and held == NHWC:
        perm = NHWC
    index = b.get(value, perm, integer=integer)
    info = b.info(index)
    grid = info.quant if integer else None
    dtype = DType[io_dtype.upper()]
    if grid is not None and info.dtype is not dtype:
        grid = _boundary(Quantize(grid, info.dtype), dtype)
        index = _regridded(b, index, dtype, grid, value.name)
    taken = {i for _, i in (*b.model.inputs, *b.model.outputs)}
    if index in taken or info.data is not None:
        index = _copied(b, index)
    b.model.outputs.append((value.name, index))
    held_shape = b.info(index).shape
    shape = tuple(UNKNOWN if length < 0 else length for length in held_shape)
    return Port(value.name, b.info(index).dtype, shape, perm, grid)


def _copied(b: Lowering, index: int) -> int:
    """Return a tensor of its own with the same contents: an output must be computed."""
    info = b.info(index)
    copy = b.tensor(f"{info.name}/copy", info.dtype, info.shape, quant=info.quant)
    shape = b.ints("shape", info.shape)
    b.operator("RESHAPE", [index, shape], [copy], "Reshape", newShape=list(info.shape))
    return copy
