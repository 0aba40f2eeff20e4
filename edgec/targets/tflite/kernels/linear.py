"""Matrix products."""

from __future__ import annotations

import math
from itertools import zip_longest

import numpy as np

from edgec.ir import DType, Graph, Node, Value
from edgec.ops import FullyConnected, MatMul
from edgec.targets.tflite.kernels.kernel import (
    FUSED,
    Constraint,
    Kernel,
    bias_of,
    constant_parameters,
    is_integer,
    short_sums,
)
from edgec.targets.tflite.lower import Lowering, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]

_MOST_AXES = 5  # of BATCH_MATMUL's own kernel


def _fully_connected(b: Lowering, node: Node, op: FullyConnected) -> None:
    """Add a layer; a value that was ``[..., I]`` just before is taken as it is.

    Its result then is ``[..., O]``, and the reshapes around the layer are not written.
    """
    integer = is_integer(b, node)
    units, length = node.inputs[1].type.ints
    source = b.unreshaped(b.get(node.inputs[0], (0, 1), integer=integer))
    shape = b.info(source).shape
    if len(shape) < 2 or shape[-1] != length:
        source, shape = b.get(node.inputs[0], (0, 1), integer=integer), (0, 0)
    hybrid = b.is_hybrid(node)
    weight = b.get(node.inputs[1], (0, 1), integer=integer or hybrid)
    bias = bias_of(b, node, integer, source, weight)
    grid = b.info(weight).quant
    per_channel = grid is not None and len(grid.scale) > 1
    keep = len(shape) > 2 and math.prod(shape[:-1]) > 1
    version = 12 if per_channel else 5 if keep else 4 if integer else 1
    if b.info(weight).dtype is DType.INT4:
        version = max(version, 10)
    if hybrid:
        version = max(version, 9)
    short = short_sums(b, source, bias)
    if short:
        version = max(version, 11)
    target = b.flat(node, (*shape[:-1], units) if keep else node.output.type.ints)
    b.operator(
        "FULLY_CONNECTED",
        [source, weight, bias],
        [target],
        "FullyConnected",
        version,
        fusedActivationFunction=FUSED[op.activation],
        keepNumDims=keep,
        asymmetricQuantizeInputs=hybrid,
        **short,
    )
    b.settle(node, target)


def _matmul(b: Lowering, node: Node, op: MatMul) -> None:
    integer = is_integer(b, node)
    (x, swap_x), (y, swap_y) = (_swapped(b, v, integer=integer) for v in node.inputs)
    left, right = _matrices(node)
    if max(len(left), len(right)) > _MOST_AXES:
        outer = _groups(left[:-2], right[:-2])
        left = (*(a for a, _ in outer), *left[-2:])
        right = (*(c for _, c in outer), *right[-2:])
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    x = b.reshaped(x, (*left[:-2], *_turned(left[-2:], swap_x)))
    y = b.reshaped(y, (*right[:-2], *_turned(right[-2:], swap_y)))
    target = b.flat(node, (*batch, left[-2], right[-1]))
    version = 2 if integer else 1
    b.operator("BATCH_MATMUL", [x, y], [target], "BatchMatMul", version,
               adjX=swap_x, adjY=swap_y)  # fmt: skip
    b.settle(node, target)


def _turned(lengths: tuple[int, ...], swap: bool) -> tuple[int, ...]:
    return lengths[::-1] if swap else lengths


def _swapped(b: Lowering, value: Value, *, integer: bool) -> tuple[int, bool]:
    """Return an operand, and whether its last two axes are stored in the other order."""
    rank = value.type.rank
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if rank > 1 and b.perm_of(value, integer=integer) == swapped:
        return b.get(value, swapped, integer=integer), True
    return b.get(value, identity(rank), integer=integer), False


def _matrices(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the operands, with vectors as matrices."""
    left, right = (v.type.ints for v in node.inputs)
    if len(left) == 1:
        left = (1, *left)
    if len(right) == 1:
        right = (*right, 1)
    return left, right


def _groups(left: tuple[int, ...], right: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the fewest axes that broadcast as those before the matrices do."""
    pairs = list(zip_longest(reversed(left), reversed(right), fillvalue=1))
    groups: list[tuple[int, int]] = []
    for a, c in reversed(pairs):
        if a == c == 1:
            continue
        if groups and _broadcasts(*groups[-1]) == _broadcasts(a, c):
            groups[-1] = groups[-1][0] * a, groups[-1][1] * c
        else:
            groups.append((a, c))
    return groups


def _broadcasts(left: int, right: int) -> tuple[bool, bool]:
    """Return which side is repeated; lengths are not both 1."""
    return left == 1, right == 1


def _few_axes(graph: Graph, node: Node) -> str | None:
    """The axes before the matrices fall into at most three groups that broadcast alike."""
    left, right = _matrices(node)
    if max(len(left), len(right)) <= _MOST_AXES:
        return None
    count = len(_groups(left[:-2], right[:-2]))
    return f"there are {count}" if count + 2 > _MOST_AXES else None


LOWERINGS = {FullyConnected: Kernel(_fully_connected), MatMul: Kernel(_matmul, axes=8)}

CONSTRAINTS = (
    Constraint((FullyConnected,), constant_parameters, "store the weights in the model"),
    Constraint((MatMul,), _few_axes),
)
