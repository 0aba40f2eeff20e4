"""From nodes of the graph to TFLite builtins: one module a family of operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgec.ir import Node, Op
from edgec.targets.tflite.kernels import (
    activations,
    blocks,
    conv,
    conv_transpose,
    cumulative,
    elementwise,
    functions,
    generate,
    index,
    integers,
    linear,
    logic,
    normalization,
    pool,
    positions,
    power,
    reduce,
    resize,
    scatter,
    select,
    shape,
    suppression,
    written_out,
)
from edgec.targets.tflite.kernels.kernel import Constraint, Kernel
from edgec.targets.tflite.lower import Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS", "lower"]

_FAMILIES = (
    activations,
    normalization,
    blocks,
    conv,
    conv_transpose,
    cumulative,
    elementwise,
    generate,
    functions,
    index,
    integers,
    linear,
    logic,
    pool,
    power,
    positions,
    reduce,
    resize,
    scatter,
    select,
    shape,
    suppression,
    written_out,
)

_POINTWISE = (activations, elementwise, functions, logic)
"""Families that look along no axis, and so take as many as any builtin does."""

LOWERINGS: Mapping[type[Op], Kernel] = {
    op: replace(kernel, axes=8) if family in _POINTWISE else kernel
    for family in _FAMILIES
    for op, kernel in family.LOWERINGS.items()
}

CONSTRAINTS: tuple[Constraint, ...] = tuple(
    rule for family in _FAMILIES for rule in family.CONSTRAINTS
)
"""What single operators cannot be; checked after the rules for all operators."""


def lower(b: Lowering, node: Node) -> None:
    """Add the operators of one node; none if nothing comes out of it."""
    if all(v.type.is_static and v.type.size == 0 for v in node.outputs):
        for output in range(len(node.outputs)):
            b.put_empty(node, output)
        return
    LOWERINGS[type(node.op)].lower(b, node, node.op)
