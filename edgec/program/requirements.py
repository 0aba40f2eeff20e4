"""What the rules for layers are made of: operands there, of the right type, grid and shape."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ir import DType, QuantParams
from edgec.program.faults import Fault, require
from edgec.program.program import Layer
from edgec.program.tensors import Tensor

__all__ = [
    "GRID_BITS",
    "MOVED",
    "require_alike",
    "require_constant",
    "require_counts",
    "require_factor",
    "require_numbers",
    "require_one_type",
    "require_shape",
    "require_type",
    "require_zero_points",
]

MOVED = (
    DType.FLOAT32,
    DType.INT8,
    DType.UINT8,
    DType.INT16,
    DType.INT32,
    DType.INT64,
    DType.BOOL,
)
GRID_BITS = {DType.INT8: 8, DType.UINT8: 8, DType.INT16: 16}
MOST_FACTOR = 2.0**16
"""A result moves by less than that from one integer of an accumulator to the next."""

_MOST_SCALE = 2.0**60  # products of two fit float32


def require_factor(factor: float) -> None:
    """Require a factor between scales that leaves something of what it is applied to."""
    require(factor < MOST_FACTOR, f"its scales lead to a factor of {factor:g}")


def require_counts(layer: Layer, least: int, most: int, results: int | None = 1) -> None:
    """Require so many operands, the first ones all there, and so many results."""
    given = len(layer.inputs)
    require(least <= given <= most, f"it has {given} operands")
    require(all(x is not None for x in layer.inputs[:least]), "an operand is missing")
    if results is not None:
        require(len(layer.outputs) == results, f"it has {len(layer.outputs)} results")


def require_type(tensor: Tensor, kinds: Sequence[DType]) -> None:
    """Require one of some element types, with a grid that suits it if it has one."""
    if tensor.dtype not in kinds:
        raise Fault(
            f"{tensor.name} is of the type {tensor.dtype.name.lower()}, which it does not take",
            "quantize the model to int8",
            valid=True,
        )
    grid = tensor.grid
    if grid is None or tensor.dtype not in GRID_BITS:
        return
    require_zero_points(tensor, grid)
    require(
        max(grid.scale) < _MOST_SCALE,
        f"the scale of {tensor.name} is {max(grid.scale):g}",
    )
    require(
        tensor.dtype is not DType.INT16 or not any(grid.zero_point),
        f"the zero point of {tensor.name} is {grid.zero_point[0]}; int16 has 0",
    )
    if grid.axis is not None:
        axes = len(tensor.shape)
        require(
            0 <= grid.axis < axes and tensor.shape[grid.axis] == len(grid.scale),
            f"the scales of {tensor.name} do not fit its shape",
        )


def require_numbers(
    tensor: Tensor, kinds: Sequence[DType] = (DType.FLOAT32, *GRID_BITS)
) -> None:
    """Require a tensor of numbers: real ones, or integers on one grid."""
    require_type(tensor, kinds)
    if tensor.dtype in GRID_BITS:
        require(
            tensor.grid is not None,
            f"{tensor.name} holds integers, and nothing tells what they stand for",
        )
        assert tensor.grid is not None
        require(tensor.grid.axis is None, f"{tensor.name} has several scales")


def require_one_type(x: Tensor, y: Tensor) -> None:
    """Require two tensors of one element type."""
    given, made = x.dtype.name.lower(), y.dtype.name.lower()
    require(x.dtype is y.dtype, f"it turns {given} into {made}")


def require_zero_points(tensor: Tensor, grid: QuantParams) -> None:
    """Require zero points that are of the type of the integers."""
    low, high = tensor.dtype.limits
    kind = tensor.dtype.name.lower()
    for zero in grid.zero_point:
        require(
            low <= zero <= high, f"the zero point of {tensor.name} is {zero}, outside of {kind}"
        )


def require_alike(layer: Layer) -> tuple[Tensor, Tensor]:
    """Return operand and result, which have to be numbers of one type."""
    x, y = layer.input(0), layer.output
    require_numbers(x)
    require_numbers(y)
    require_one_type(x, y)
    return x, y


def require_shape(tensor: Tensor, shape: Sequence[int], what: str) -> None:
    """Require a shape."""
    require(
        tensor.shape == tuple(shape),
        f"{what} {tensor.name} has the shape {list(tensor.shape)} instead of {list(shape)}",
    )


def require_constant(tensor: Tensor) -> None:
    """Require a tensor that is known now."""
    require(
        tensor.data is not None,
        f"{tensor.name} is computed while the model runs; it has to be a constant",
        valid=True,
    )
