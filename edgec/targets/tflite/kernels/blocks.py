"""Operators that take images apart into blocks and put them together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir import Array, DType, Node
from edgec.ops import Col2Im, DepthToSpace, SpaceToDepth
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel, cast, is_integer
from edgec.targets.tflite.kernels.moves import gathered, step
from edgec.targets.tflite.lower import NHWC, Lowering, Stored, identity
from edgec.targets.tflite.model import is_wide

__all__ = ["CONSTRAINTS", "LOWERINGS"]

_AS = {DType.INT16: DType.INT32, DType.BOOL: DType.UINT8}
"""Types that the kernels lack, and one that holds the same numbers."""


def _space_to_depth(b: Lowering, node: Node, op: SpaceToDepth) -> None:
    _blocks(b, node, "SPACE_TO_DEPTH", "SpaceToDepth", op.block)


def _depth_to_space(b: Lowering, node: Node, op: DepthToSpace) -> None:
    out = node.output.type.ints[1]
    order = None
    if op.column_first and out > 1 and op.block > 1:
        # The builtin wants depth last within a channel block: permute the channels first.
        blocks = op.block**2
        order = np.arange(out * blocks).reshape(out, blocks).T.ravel()
    _blocks(b, node, "DEPTH_TO_SPACE", "DepthToSpace", op.block, order)


def _blocks(
    b: Lowering,
    node: Node,
    code: str,
    options: str,
    block: int,
    order: Array | None = None,
) -> None:
    integer = is_integer(b, node)
    source = b.get(node.inputs[0], NHWC, integer=integer)
    given = b.info(source).dtype
    if order is not None:
        source = gathered(b, source, order, 3)
    shape = [node.output.type.ints[axis] for axis in NHWC]
    if block == 1:
        result = b.reshaped(source, shape)
    elif is_wide(b.info(source)):
        result = _rearranged(b, source, block, shape, code == "DEPTH_TO_SPACE")
    else:
        source = cast(b, source, _AS.get(given, given))
        result = cast(b, step(b, code, [source], shape, options, blockSize=block), given)
    b.alias(node, Stored(result, NHWC), quantized=integer)


def _rearranged(
    b: Lowering, source: int, block: int, shape: Sequence[int], to_space: bool
) -> int:
    """Swap the rows of blocks with the columns of images: the kernels know no int16."""
    n, height, width, c = b.info(source).shape
    if to_space:
        apart = (n * height, width, block, c // block)
    else:
        apart = (n * height // block, block, width // block, block * c)
    perm = b.ints("perm", (0, 2, 1, 3))
    turned = [apart[axis] for axis in (0, 2, 1, 3)]
    moved = step(b, "TRANSPOSE", [b.reshaped(source, apart), perm], turned, "Transpose")
    return b.reshaped(moved, shape)


def _col2im(b: Lowering, node: Node, op: Col2Im) -> None:
    """Add the elements of blocks where they belong; those in the padding are left out."""
    x, out = node.inputs[0], node.output.type.ints
    places = op.places()
    images = out[0] * out[1]
    columns = b.reshaped(b.row_major(x, integer=False), (images, places.size))
    rows = b.in_order(Stored(columns, (0, 1)), (1, 0))
    inside = np.flatnonzero(places.ravel() >= 0)
    if len(inside) < places.size:
        rows = gathered(b, rows, inside, 0)
    given = b.info(rows).dtype
    native = given in (DType.FLOAT32, DType.INT32, DType.INT64)
    rows = cast(b, rows, given if native else DType.INT32)
    where = b.ints("places", places.ravel()[inside, None])
    shape = (int(np.prod(op.image)), images)
    tensors = [where, rows, b.ints("shape", shape)]
    total = step(b, "SCATTER_ND", tensors, shape, "ScatterNd", dtype=b.info(rows).dtype)
    turned = b.in_order(Stored(cast(b, total, given), (0, 1)), (1, 0))
    b.alias(node, Stored(b.reshaped(turned, out), identity(len(out))), quantized=False)


LOWERINGS = {
    Col2Im: Kernel(_col2im, ANY, axes=8),
    DepthToSpace: Kernel(_depth_to_space, ANY),
    SpaceToDepth: Kernel(_space_to_depth, ANY),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
