"""Inputs and outputs of the file: in the caller's layout and element type."""

from __future__ import annotations

from typing import Literal

from edgec.errors import Diagnostic, UnsupportedError
from edgec.ir import UNKNOWN, DType, Node, QuantParams, Value
from edgec.ops import Convolution, Dequantize, Pool, Quantize, Reshape, Transpose
from edgec.targets.base import Port
from edgec.targets.tflite.lower import NHWC, Lowering, Perm, Stored, identity

__all__ = ["IoDtype", "IoLayout", "bind_inputs", "bind_outputs"]

IoDtype = Literal["float32", "int8", "uint8"]
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
    grids = {n.op.params for n in readers if isinstance(n.op, Quantize)}
    if len(grids) != 1 or not all(isinstance(n.op, Quantize) for n in readers):
        problem = Diagnostic("is read by a float operator", f"input {value.name}", _HINT)
        raise UnsupportedError(f"--io-dtype {io_dtype} needs a quantized input", [problem])
    (grid,) = grids
    index, outer = _boundary(b, value.name, shape, grid, io_dtype)
    b.model.inputs.append((value.name, index))
    if io_dtype == "uint8":
        inner = b.tensor(f"{value.name}/int8", DType.INT8, shape, quant=grid)
        b.operator("QUANTIZE", [index], [inner], "Quantize")
        index = inner
    for node in readers:
        b.stored[node.output] = Stored(index, perm)
    return Port(value.name, DType[io_dtype.upper()], shape, perm, outer)


def _given_grid(b: Lowering, value: Value) -> QuantParams | None:
    """Return how an input of the model that is stored on integers is to be understood."""
    readers = b.graph.users.get(value, ())
    grids = {n.op.params for n in readers if isinstance(n.op, Dequantize)}
    if len(grids) > 1:
        problem = Diagnostic(f"is dequantized in {len(grids)} ways", f"input {value.name}")
        raise UnsupportedError("an integer input has one scale", [problem])
    return next(iter(grids), None)


def _boundary(
    b: Lowering, name: str, shape: tuple[int, ...], grid: QuantParams, io_dtype: IoDtype
) -> tuple[int, QuantParams]:
    """Add a quantized tensor at the interface; uint8 is int8 moved up by 128."""
    if io_dtype == "uint8":
        grid = QuantParams(grid.scale, (grid.zero_point[0] + 128,))
    return b.tensor(name, DType[io_dtype.upper()], shape, quant=grid), grid


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
    if io_dtype == "uint8" and grid is not None:
        outer, grid = _boundary(b, value.name, info.shape, grid, io_dtype)
        b.operator("QUANTIZE", [index], [outer], "Quantize")
        index = outer
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
