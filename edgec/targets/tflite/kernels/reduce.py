"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable

from edgec.ir import Node
from edgec.ops import ReduceMax, ReduceMean, ReduceMin, ReduceSum, Reduction
from edgec.targets.tflite.kernels.kernel import Constraint, Kernel, is_int8
from edgec.targets.tflite.lower import Lowering, identity

__all__ = ["CONSTRAINTS", "LOWERINGS", "reduction"]


def reduction(
    b: Lowering, node: Node, code: str, axes: tuple[int, ...], *, keepdims: bool
) -> None:
    """Add a reduction along axes of the value, wherever these are stored."""
    integer = is_int8(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    kept = perm
    if not keepdims:
        rest = [axis for axis in perm if axis not in axes]
        kept = tuple(sorted(rest).index(axis) for axis in rest)
    target = b.put(node, kept)
    stored = b.ints("axes", sorted(perm.index(axis) for axis in axes))
    version = 2 if integer else 1
    b.operator(code, [source, stored], [target], "Reducer", version, keepDims=keepdims)


def _reduce(code: str) -> Callable[[Lowering, Node, Reduction], None]:
    def run(b: Lowering, node: Node, op: Reduction) -> None:
        reduction(b, node, code, op.axes, keepdims=op.keepdims)

    return run


LOWERINGS = {
    ReduceMax: Kernel(_reduce("REDUCE_MAX")),
    ReduceMean: Kernel(_reduce("MEAN")),
    ReduceMin: Kernel(_reduce("REDUCE_MIN")),
    ReduceSum: Kernel(_reduce("SUM")),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
