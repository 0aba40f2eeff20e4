"""Whether layers that only move numbers make sense: pads, slices, joins and the like."""

from __future__ import annotations

from edgec.ir import DType
from edgec.program import operators as ops
from edgec.program.faults import require
from edgec.program.program import Layer
from edgec.program.requirements import (
    GRID_BITS,
    MOVED,
    require_counts,
    require_factor,
    require_numbers,
    require_one_type,
    require_shape,
    require_type,
)
from edgec.program.tensors import Tensor

__all__ = [
    "check_concatenation",
    "check_pad",
    "check_reshape",
    "check_slice",
    "check_split",
    "check_transpose",
]


def _same_type(layer: Layer) -> tuple[Tensor, Tensor]:
    require_counts(layer, 1, 1)
    x, y = layer.input(0), layer.output
    for t in (x, y):
        require_type(t, MOVED)
    require_one_type(x, y)
    return x, y


def check_pad(layer: Layer) -> None:
    """Raise a ``Fault`` if a layer of this kind makes no sense."""
    assert isinstance(layer.op, ops.Pad)
    x, y = _same_type(layer)
    pads = layer.op.pads
    require(len(pads) == len(x.shape), "it has not one pair of paddings for each axis")
    require(all(a >= 0 and b >= 0 for a, b in pads), "its padding is negative")
    require_shape(y, [d + a + b for d, (a, b) in zip(x.shape, pads, strict=True)], "the result")
    if y.dtype.is_float or y.dtype is DType.BOOL:
        return
    low, high = y.dtype.limits
    require(low <= layer.op.value <= high, f"it pads with {layer.op.value}")


def check_concatenation(layer: Layer) -> None:
    """Raise a ``Fault`` if a layer of this kind makes no sense."""
    assert isinstance(layer.op, ops.Concatenation)
    require_counts(layer, 1, 1 << 10)
    y, axis = layer.output, layer.op.axis
    require(0 <= axis < len(y.shape), f"it has no axis {axis}")
    total = 0
    for k in range(len(layer.inputs)):
        require(layer.inputs[k] is not None, "an operand is missing")
        x = layer.input(k)
        require_type(x, MOVED)
        require(
            x.dtype is y.dtype, f"it turns {x.dtype.name.lower()} into {y.dtype.name.lower()}"
        )
        require(
            x.shape[:axis] + x.shape[axis + 1 :] == y.shape[:axis] + y.shape[axis + 1 :]
            and len(x.shape) == len(y.shape),
            f"{x.name} of the shape {list(x.shape)} does not fit into {list(y.shape)}",
        )
        if x.grid != y.grid:
            require_numbers(x)
            require_numbers(y)
            require_factor(x.scale / y.scale if x.dtype in GRID_BITS else 1)
        total += x.shape[axis]
    require_type(y, MOVED)
    require(total == y.shape[axis], f"its operands have a length of {total} together")


def check_reshape(layer: Layer) -> None:
    """Raise a ``Fault`` if a layer of this kind makes no sense."""
    x, y = _same_type(layer)
    require(x.size == y.size, f"it makes {list(y.shape)} of {list(x.shape)}")


def check_transpose(layer: Layer) -> None:
    """Raise a ``Fault`` if a layer of this kind makes no sense."""
    assert isinstance(layer.op, ops.Transpose)
    x, y = _same_type(layer)
    perm = layer.op.perm
    require(sorted(perm) == list(range(len(x.shape))), f"{list(perm)} is no order of its axes")
    require_shape(y, [x.shape[a] for a in perm], "the result")


def check_slice(layer: Layer) -> None:
    """Raise a ``Fault`` if a layer of this kind makes no sense."""
    assert isinstance(layer.op, ops.Slice)
    x, y = _same_type(layer)
    begin, strides = layer.op.begin, layer.op.strides
    require(
        len(begin) == len(strides) == len(x.shape) == len(y.shape), "it does not tell all axes"
    )
    for length, start, stride, count in zip(x.shape, begin, strides, y.shape, strict=True):
        last = start + (count - 1) * stride
        require(
            0 <= start < length and 0 <= last < length and stride != 0,
            f"it reads from {start} to {last} of {length}",
        )


def check_split(layer: Layer) -> None:
    """Raise a ``Fault`` if a layer of this kind makes no sense."""
    assert isinstance(layer.op, ops.Split)
    require_counts(layer, 1, 1, None)
    require(1 <= len(layer.outputs) <= 1 << 10, f"it has {len(layer.outputs)} results")
    x, axis = layer.input(0), layer.op.axis
    require_type(x, MOVED)
    require(0 <= axis < len(x.shape), f"it has no axis {axis}")
    for y in layer.outputs:
        require(
            y.dtype is x.dtype, f"it turns {x.dtype.name.lower()} into {y.dtype.name.lower()}"
        )
        require(
            len(y.shape) == len(x.shape)
            and x.shape[:axis] + x.shape[axis + 1 :] == y.shape[:axis] + y.shape[axis + 1 :],
            f"{y.name} of the shape {list(y.shape)} is no part of {list(x.shape)}",
        )
    total = sum(y.shape[axis] for y in layer.outputs)
    require(total == x.shape[axis], f"its results have a length of {total} together")
