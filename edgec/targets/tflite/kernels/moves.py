"""Steps that move the elements of one tensor into another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from edgec.ir import Array, DType
from edgec.targets.tflite.lower import Lowering

__all__ = ["gathered", "padded_axes", "sliced", "step"]


def step(
    b: Lowering,
    code: str,
    inputs: Sequence[int],
    shape: Sequence[int] | None = None,
    options: str = "",
    out: int | None = None,
    *,
    dtype: DType | None = None,
    **fields: Any,
) -> int:
    """Add a builtin that writes to `out`, or to a tensor of its own; return which.

    The result has the elements of ``inputs[0]`` and broadcasts all inputs, unless `dtype` and
    `shape` are given.
    """
    if out is None:
        like = b.info(inputs[0])
        if shape is None:
            shape = np.broadcast_shapes(*(b.info(t).shape for t in inputs))
        kept = dtype in (None, like.dtype)
        quant = like.quant if kept else None
        out = b.tensor(f"{b.layer}/{code.lower()}", dtype or like.dtype, shape, quant=quant)
    b.operator(code, inputs, [out], options, **fields)
    return out


def sliced(b: Lowering, tensor: int, ranges: Sequence[range], out: int | None = None) -> int:
    """Return the indices of each axis that `ranges` name."""
    tensors = [b.ints("begin", [r.start for r in ranges])]
    tensors.append(b.ints("end", [r.stop for r in ranges]))
    tensors.append(b.ints("strides", [r.step for r in ranges]))
    # -1 would count from the end, so what runs back to index 0 says "to the end" instead.
    whole = sum(1 << axis for axis, r in enumerate(ranges) if r.stop < 0)
    shape = [len(r) for r in ranges]
    return step(
        b, "STRIDED_SLICE", [tensor, *tensors], shape, "StridedSlice", out, endMask=whole
    )


def gathered(
    b: Lowering, tensor: int, indices: Array, axis: int, out: int | None = None
) -> int:
    """Return the elements at these indices of one axis."""
    where = b.ints("indices", indices)
    shape = list(b.info(tensor).shape)
    shape[axis : axis + 1] = indices.shape
    return step(b, "GATHER", [tensor, where], shape, "Gather", out, axis=axis)


def padded_axes(
    b: Lowering,
    tensor: int,
    pads: Sequence[tuple[int, int]],
    fill: float,
    out: int | None = None,
) -> int:
    """Return a tensor with `fill` before and after each axis.

    The kernels take few axes: neighbours that keep their length are one to them, and if there
    are still too many, one axis is padded after the other.
    """
    info = b.info(tensor)
    shape = [n + before + after for n, (before, after) in zip(info.shape, pads, strict=True)]
    flat: list[int] = []
    few: list[tuple[int, int]] = []
    for kept, group in groupby(range(len(pads)), key=lambda axis: tuple(pads[axis]) == (0, 0)):
        axes = list(group)
        flat += [prod(info.shape[a] for a in axes)] if kept else [info.shape[a] for a in axes]
        few += [(0, 0)] if kept else [pads[a] for a in axes]
    if len(few) > _PAD_AXES:
        axis = next(a for a, ends in enumerate(pads) if tuple(ends) != (0, 0))
        alone = [ends if a == axis else (0, 0) for a, ends in enumerate(pads)]
        rest = [(0, 0) if a == axis else ends for a, ends in enumerate(pads)]
        return padded_axes(b, padded_axes(b, tensor, alone, fill), rest, fill, out)
    if len(pads) <= _PAD_AXES:
        return _pad(b, tensor, pads, shape, fill, out)
    shorter = b.reshaped(tensor, flat)
    sizes = [n + before + after for n, (before, after) in zip(flat, few, strict=True)]
    return b.reshaped(_pad(b, shorter, few, sizes, fill), shape, out)


_PAD_AXES = 5


def _pad(
    b: Lowering,
    tensor: int,
    pads: Sequence[tuple[int, int]],
    shape: Sequence[int],
    fill: float,
    out: int | None = None,
) -> int:
    amounts = b.ints("pads", pads)
    if fill == 0:
        return step(b, "PAD", [tensor, amounts], shape, "Pad", out)
    dtype = b.info(tensor).dtype
    value = b.constant(f"{b.layer}/fill", np.array(fill).astype(dtype.numpy))
    return step(b, "PADV2", [tensor, amounts, value], shape, "PadV2", out)
