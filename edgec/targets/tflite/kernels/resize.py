"""Resizes.

What TFLite's two kernels for images do not compute is a gather along each axis, or a product
with the matrix of its weights.
"""

from __future__ import annotations

import math

import numpy as np

from edgec.ir import DType, Graph, Node
from edgec.ops import Resize, SymmetricResize
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel, is_integer
from edgec.targets.tflite.kernels.maps import mapped, picked
from edgec.targets.tflite.lower import NHWC, Lowering, Stored
from edgec.targets.tflite.resizing import builtin_form

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _resize(b: Lowering, node: Node, op: Resize) -> None:
    integer = is_integer(b, node)
    form = builtin_form(op, node) if node.output.type.dtype is DType.FLOAT32 else None
    if form is None:
        _by_axes(b, node, op, integer=integer)
        return
    source = b.get(node.inputs[0], NHWC, integer=integer)
    size = b.ints("size", node.output.type.ints[2:])
    nearest = op.mode == "nearest"
    code = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    options = "ResizeNearestNeighbor" if nearest else "ResizeBilinear"
    later = form["halfPixelCenters"] or (nearest and form["alignCorners"])
    version = 3 if later else 1 + integer
    b.operator(code, [source, size], [b.put(node, NHWC)], options, version, **form)


def _by_axes(b: Lowering, node: Node, op: Resize, *, integer: bool) -> None:
    x = node.inputs[0]
    perm = b.order_of(x, integer=integer)
    tensor = b.get(x, perm, integer=integer)
    lines = op.lines(x.type)
    for line in sorted(lines, key=lambda line: line.out / line.length):  # what shrinks first
        axis = perm.index(line.axis)
        if op.mode == "nearest" and not line.outside().any():
            tensor = picked(b, tensor, axis, line.nearest())
        else:
            tensor = mapped(b, tensor, axis, line.matrix())
    if op.beyond:
        inside = np.ones((1,) * x.type.rank, bool)
        for line in lines:
            along = [1] * x.type.rank
            along[perm.index(line.axis)] = line.out
            inside = inside & ~line.outside().reshape(along)
        if not inside.all():
            rest = b.constant(
                f"{b.layer}/beyond", np.where(inside, 0, op.beyond).astype(np.float32)
            )
            filled = b.tensor(f"{b.layer}/filled", DType.FLOAT32, b.info(tensor).shape)
            b.operator("ADD", [tensor, rest], [filled], "Add", fusedActivationFunction=0)
            tensor = filled
    b.alias(node, Stored(tensor, perm), quantized=integer)


def _settled(graph: Graph, node: Node) -> str | None:
    """All runtimes take a resize from the same places."""
    op = node.op
    if not isinstance(op, Resize):
        return None
    reasons = (line.unsettled for line in op.lines(node.inputs[0].type))
    return next(filter(None, reasons), None)


def _weighs_floats(graph: Graph, node: Node) -> str | None:
    """Values other than float32 are resized to the nearest, without weights."""
    op, x = node.op, node.inputs[0]
    weighed = isinstance(op, Resize) and (op.mode != "nearest" or op.roi)
    return f"{x} is {x.type}" if weighed and x.type.dtype is not DType.FLOAT32 else None


def _has_elements(graph: Graph, node: Node) -> str | None:
    """A resize leaves something."""
    return None if math.prod(node.output.type.ints) else f"the result is {node.output.type}"


_KERNEL = Kernel(_resize, ANY)

LOWERINGS = {Resize: _KERNEL, SymmetricResize: _KERNEL}

CONSTRAINTS = (
    Constraint((Resize,), _settled, 'export it as "half_pixel" or "asymmetric" with sizes'),
    Constraint((Resize,), _weighs_floats, "export the model in float32"),
    Constraint((Resize,), _has_elements),
)
