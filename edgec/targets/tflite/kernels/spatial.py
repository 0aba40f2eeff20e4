"""Lines, images and volumes in the form that window kernels take: channels last, 4 or 5 axes.

TFLite's kernels have no form for lines, so a line is an image of one row. Its reshapes move
nothing, and those between two kernels in a row cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgec.ir import Array, DType, Node, QuantParams, Value
from edgec.ops.window import Pads
from edgec.targets.tflite.kernels.kernel import cast
from edgec.targets.tflite.lower import Lowering, Perm

__all__ = [
    "as_image",
    "as_weights",
    "channels_last",
    "image_fields",
    "joined",
    "padded",
    "parts",
    "put_image",
    "sliced",
]


def channels_last(rank: int) -> Perm:
    """Return the order in which the channels of ``[N, C, ...]`` come last."""
    return (0, *range(2, rank), 1)


def as_image(b: Lowering, value: Value, *, integer: bool = False) -> int:
    """Return ``[N, H, W, C]``, of one row if `value` is a line, or ``[N, D, H, W, C]``."""
    tensor = b.get(value, channels_last(value.type.rank), integer=integer)
    return _with_row(b, tensor, 1) if value.type.rank == 3 else tensor


def as_weights(b: Lowering, value: Value, perm: Perm, *, integer: bool = False) -> int:
    """Return weights in the order `perm`; those of a line get a row before their last axis.

    That is where H belongs in the layouts ``OHWI`` and ``1HWC`` both, if `perm` ends in
    ``..., W, last``.
    """
    tensor = b.get(value, perm, integer=integer)
    return _with_row(b, tensor, 1) if value.type.rank == 3 else tensor


def _with_row(b: Lowering, tensor: int, axis: int) -> int:
    info = b.info(tensor)
    shape = (*info.shape[:axis], 1, *info.shape[axis:])
    if info.data is None:
        return b.reshaped(tensor, shape)
    quant = info.quant
    if quant is not None and quant.axis is not None and quant.axis >= axis:
        quant = QuantParams(quant.scale, quant.zero_point, quant.axis + 1)
    return b.constant(info.name, np.ascontiguousarray(info.data).reshape(shape), quant)


def put_image(
    b: Lowering,
    node: Node,
    write: Callable[[int], None],
    *,
    form: Sequence[int] = (),
    dtype: DType | None = None,
) -> None:
    """Let `write` fill a node's output.

    Parameters
    ----------
    form
        The shape that `write` fills, if that is not the form of `as_image`.
    dtype
        The element type that `write` fills; the output is cast from it.
    """
    value = node.output
    perm = channels_last(value.type.rank)
    n, *size, c = (value.type.ints[axis] for axis in perm)
    image = b.flat(node, form or (n, *(1,) * (len(size) == 1), *size, c))
    held = b.info(image)
    if dtype is None or dtype is held.dtype:
        write(image)
    else:
        wide = b.tensor(f"{held.name}/{dtype.value}", dtype, held.shape)
        write(wide)
        image = cast(b, wide, held.dtype)
    b.settle(node, image, perm)


_FURTHEST = 1 << 30


def image_fields(**fields: Sequence[int]) -> dict[str, int]:
    """Return options such as ``strideH`` from the lengths ``stride``, one an axis.

    ``X`` in a name stands for the axis: D, H or W. A window that fits once, or is one element
    wide, may step as far as it likes: further than 32 bits hold, too.
    """
    found: dict[str, int] = {}
    for name, lengths in fields.items():
        full = (1, *lengths) if len(lengths) == 1 else tuple(lengths)
        found |= {
            name.replace("X", axis): min(length, _FURTHEST)
            for axis, length in zip("DHW"[-len(full) :], full, strict=True)
        }
    return found


def padded(b: Lowering, tensor: int, pads: Pads, fill: Array | None = None) -> int:
    """Return a tensor in the form of `as_image` padded along its spatial axes.

    Parameters
    ----------
    pads
        In the order of `Pads`; those of a line are for its columns.
    fill
        Zero unless given.
    """
    if not any(pads):
        return tensor
    info = b.info(tensor)
    axes = len(pads) // 2
    pairs = [(pads[i], pads[i + axes]) for i in range(axes)]
    if axes == 1:
        pairs = [(0, 0), *pairs]
    pairs = [(0, 0), *pairs, (0, 0)]
    shape = [d + before + after for d, (before, after) in zip(info.shape, pairs, strict=True)]
    out = b.tensor(f"{info.name}/padded", info.dtype, shape, quant=info.quant)
    amounts = b.ints("pads", pairs)
    version = 2 if info.dtype is DType.INT8 else 1
    if fill is None:
        b.operator("PAD", [tensor, amounts], [out], "Pad", version)
    else:
        value = b.constant(f"{b.layer}/fill", fill, info.quant)
        b.operator("PADV2", [tensor, amounts, value], [out], "PadV2", version)
    return out


def parts(b: Lowering, tensor: int, axis: int, count: int) -> list[int]:
    """Return equal parts of a tensor along an axis; constants are cut here and now."""
    info = b.info(tensor)
    if count == 1:
        return [tensor]
    shape = list(info.shape)
    shape[axis] //= count
    if info.data is not None:
        cuts = np.split(info.data, count, axis)
        return [b.constant(f"{info.name}/part", np.ascontiguousarray(cut)) for cut in cuts]
    out = [
        b.tensor(f"{info.name}/part", info.dtype, shape, quant=info.quant) for _ in range(count)
    ]
    where = b.ints("axis", axis)
    version = 2 if info.dtype is DType.INT8 else 1
    b.operator("SPLIT", [where, tensor], out, "Split", version, numSplits=count)
    return out


def joined(b: Lowering, tensors: Sequence[int], target: int, axis: int) -> None:
    """Fill `target` with `tensors` one after the other along an axis."""
    b.operator(
        "CONCATENATION",
        tensors,
        [target],
        "Concatenation",
        2 if b.info(target).dtype is DType.INT8 else 1,
        axis=axis,
        fusedActivationFunction=0,
    )


def sliced(
    b: Lowering,
    tensor: int,
    shape: Sequence[int],
    begin: Sequence[int] = (),
    target: int | None = None,
    steps: Sequence[int] = (),
) -> int:
    """Return the part of a tensor that has this shape and begins there; at its start if not.

    Parameters
    ----------
    target
        What to fill; a new tensor if not given.
    steps
        From one element to the next, 1 unless given.
    """
    info = b.info(tensor)
    if target is None and info.shape == tuple(shape):
        return tensor
    begin, steps = begin or (0,) * len(shape), steps or (1,) * len(shape)
    end = [
        start + step * (d - 1) + 1 for start, step, d in zip(begin, steps, shape, strict=True)
    ]
    if target is None:
        target = b.tensor(f"{info.name}/part", info.dtype, shape, quant=info.quant)
    where = [b.ints("begin", begin), b.ints("end", end), b.ints("steps", steps)]
    version = 2 if info.dtype is DType.INT8 else 1
    b.operator("STRIDED_SLICE", [tensor, *where], [target], "StridedSlice", version)
    return target
