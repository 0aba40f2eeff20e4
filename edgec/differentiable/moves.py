"""Operators that move, pick or place values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgec import ops
from edgec.differentiable.elementwise import TORCH_TYPES
from edgec.differentiable.rule import Rule
from edgec.ir import DType, Op, TensorType

__all__ = ["MOVES"]


def _type_of(x: Tensor) -> TensorType:
    """Return the shape of a tensor as the operators want it; the element type is none."""
    return TensorType(DType.FLOAT32, tuple(x.shape))


def _ends(ends: Sequence[tuple[int, int]]) -> list[int]:
    """Return what is padded in the order of PyTorch, which begins with the last axis."""
    return [e for pair in reversed(ends) for e in pair]


def _pad(op: ops.Pad, x: Tensor) -> Tensor:
    value = op.value if x.is_floating_point() else int(op.value)
    return functional.pad(x, _ends(op.ends()), value=value)


def _continued(op: ops.MirrorPad | ops.WrapPad, x: Tensor) -> Tensor:
    for axis, (before, after) in enumerate(op.ends()):
        if before or after:
            places = torch.from_numpy(op.places(x.shape[axis], before, after))
            x = torch.index_select(x, axis, places)
    return x


def _slice(op: ops.Slice, x: Tensor) -> Tensor:
    for axis, kept in op.ranges(_type_of(x)).items():
        if kept.step == 1:
            x = x.narrow(axis, kept.start if len(kept) else 0, len(kept))
        else:
            x = torch.index_select(x, axis, torch.tensor(list(kept), dtype=torch.int64))
    return x


def _split(op: ops.Split, x: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.split(x, list(op.sizes), op.axis))


def _expand(op: ops.Expand, x: Tensor) -> Tensor:
    return x.broadcast_to(torch.broadcast_shapes(x.shape, op.shape))


def _from_front(indices: Tensor, length: int) -> Tensor:
    wide = indices.to(torch.int64)
    return torch.where(wide < 0, wide + length, wide)


def _gather(op: ops.Gather, x: Tensor, indices: Tensor) -> Tensor:
    places = _from_front(indices, x.shape[op.axis])
    return x[(*(slice(None),) * op.axis, places)]


def _gather_elements(op: ops.GatherElements, x: Tensor, indices: Tensor) -> Tensor:
    return torch.gather(x, op.axis, _from_front(indices, x.shape[op.axis]))


def _flat_places(shape: Sequence[int], indices: Tensor) -> Tensor:
    """Return the places in row-major order that the last axis of indices names."""
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for axis in range(indices.shape[-1]):
        flat = flat * shape[axis] + _from_front(indices[..., axis], shape[axis])
    return flat


def _gather_nd(op: ops.GatherND, x: Tensor, indices: Tensor) -> Tensor:
    depth, batch = indices.shape[-1], op.batch_dims
    shape = x.shape[batch : batch + depth]
    rest = x.shape[batch + depth :]
    places = _flat_places(shape, indices)
    counts = [math.prod(d) for d in (x.shape[:batch], shape, rest)]
    table = x.reshape(counts)
    lead = places.reshape(counts[0], -1, 1)
    found = torch.gather(table, 1, lead.expand(-1, -1, counts[2]))
    return found.reshape(*indices.shape[:-1], *rest)


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scattered(x: Tensor, axis: int, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return torch.scatter(x, axis, places, updates)
    return torch.scatter_reduce(x, axis, places, updates, _REDUCTIONS[reduction])


def _scatter_elements(
    op: ops.ScatterElements, x: Tensor, indices: Tensor, updates: Tensor
) -> Tensor:
    places = _from_front(indices, x.shape[op.axis])
    return _scattered(x, op.axis, places, updates, op.reduction)


def _scatter_nd(op: ops.ScatterND, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    depth = indices.shape[-1]
    rest = math.prod(x.shape[depth:])
    places = _flat_places(x.shape, indices).reshape(-1, 1).expand(-1, rest)
    table = x.reshape(-1, rest)
    found = _scattered(table, 0, places, updates.reshape(-1, rest), op.reduction)
    return found.reshape(x.shape)


def _depth_to_space(op: ops.DepthToSpace, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b, depth = op.block, c // op.block**2
    if op.column_first:
        parts = x.reshape(n, depth, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(n, b, b, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, depth, h * b, w * b)


def _space_to_depth(op: ops.SpaceToDepth, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = op.block
    parts = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * b * b, h // b, w // b)


def _resize(op: ops.Resize, x: Tensor) -> Tensor:
    lines = op.lines(_type_of(x))
    beyond = torch.zeros((1,) * x.ndim, dtype=torch.bool)
    for axis, line in zip(op.axes, lines, strict=True):
        if op.mode == "nearest":
            x = torch.index_select(x, axis, torch.from_numpy(line.nearest()))
        else:
            matrix = torch.from_numpy(line.matrix()).to(x.dtype)
            x = torch.movedim(torch.movedim(x, axis, -1) @ matrix.T, -1, axis)
        shape = [1] * x.ndim
        shape[axis] = -1
        beyond = beyond | torch.from_numpy(line.outside()).reshape(shape)
    if not bool(beyond.any()):
        return x
    return torch.where(beyond, torch.tensor(op.beyond, dtype=x.dtype), x)


def _one_hot(op: ops.OneHot, indices: Tensor) -> Tensor:
    axis = op.axis if op.axis >= 0 else op.axis + indices.ndim + 1
    places = _from_front(indices, op.depth).unsqueeze(axis)
    shape = [1] * places.ndim
    shape[axis] = -1
    hot = places == torch.arange(op.depth).reshape(shape)
    on, off = (torch.tensor(v).to(TORCH_TYPES[op.dtype]) for v in (op.on, op.off))
    return torch.where(hot, on, off)


def _triangle(op: ops.Trilu, x: Tensor) -> Tensor:
    mask = torch.from_numpy(op.mask(x.shape[-2], x.shape[-1]))
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype))


def _reversed(op: ops.ReverseSequence, x: Tensor, lengths: Tensor) -> Tensor:
    steps = torch.arange(x.shape[op.time_axis])
    places = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    shape = [1] * x.ndim
    shape[op.batch_axis], shape[op.time_axis] = places.shape
    if op.time_axis < op.batch_axis:
        places = places.T
    return torch.gather(x, op.time_axis, places.reshape(shape).expand(x.shape))


def _top(op: ops.TopK, x: Tensor) -> tuple[Tensor, Tensor]:
    found = torch.sort(x, dim=op.axis, descending=op.largest, stable=True)
    return found.values.narrow(op.axis, 0, op.k), found.indices.narrow(op.axis, 0, op.k)


def _eye(op: ops.EyeLike, x: Tensor) -> Tensor:
    dtype = x.dtype if op.dtype is None else TORCH_TYPES[op.dtype]
    return torch.from_numpy(np.eye(x.shape[0], x.shape[1], op.k)).to(dtype)


def _shape(op: ops.Shape, x: Tensor) -> Tensor:
    return torch.tensor(tuple(x.shape)[op.start : op.end], dtype=torch.int64)


MOVES: dict[type[Op], Rule] = {
    ops.Concat: lambda op, *values: torch.cat(values, op.axis),
    ops.DepthToSpace: _depth_to_space,
    ops.Expand: _expand,
    ops.EyeLike: _eye,
    ops.Gather: _gather,
    ops.GatherElements: _gather_elements,
    ops.GatherND: _gather_nd,
    ops.MirrorPad: _continued,
    ops.OneHot: _one_hot,
    ops.Pad: _pad,
    ops.Reshape: lambda op, x: x.reshape(op.shape),
    ops.Resize: _resize,
    ops.ReverseSequence: _reversed,
    ops.ScatterElements: _scatter_elements,
    ops.ScatterND: _scatter_nd,
    ops.Shape: _shape,
    ops.Size: lambda op, x: torch.tensor(x.numel(), dtype=torch.int64),
    ops.Slice: _slice,
    ops.SpaceToDepth: _space_to_depth,
    ops.Split: _split,
    ops.SymmetricResize: _resize,
    ops.Tile: lambda op, x: x.repeat(op.repeats),
    ops.TopK: _top,
    ops.Transpose: lambda op, x: x.permute(op.perm),
    ops.Trilu: _triangle,
    ops.WrapPad: _continued,
}
