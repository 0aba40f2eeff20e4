"""Operators on images."""

from __future__ import annotations

import numpy as np

from edgec.errors import InternalError
from edgec.ir import Graph, Node
from edgec.ops import DepthToSpace, Resize
from edgec.targets.tflite.kernels.kernel import Constraint, Kernel
from edgec.targets.tflite.lower import NHWC, Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def resize_form(op: Resize, node: Node) -> dict[str, bool] | None:
    """Return the options with which TFLite computes just this resize, or ``None``.

    "nearest" is compared index by index; "linear" needs the same coordinates, which TFLite
    takes from the two sizes and never from a scale.
    """
    size, out = node.inputs[0].type.ints[2:], node.output.type.ints[2:]
    forms = {
        "half": {"alignCorners": False, "halfPixelCenters": True},
        "corners": {"alignCorners": True, "halfPixelCenters": False},
        "plain": {"alignCorners": False, "halfPixelCenters": False},
    }
    for name, form in forms.items():
        if all(_agrees(op, name, size[i], out[i], i) for i in (0, 1)):
            return form
    return None


def _agrees(op: Resize, form: str, length: int, out: int, axis: int) -> bool:
    i = np.arange(out, dtype=np.float64)
    step = length / out
    if form == "corners":
        step = (length - 1) / (out - 1) if out > 1 else 0.0
    if op.mode == "linear":
        theirs = (i + 0.5) * step - 0.5 if form == "half" else i * step
        ours = op.places(length, out, axis)
        ours, theirs = np.clip(ours, 0, length - 1), np.clip(theirs, 0, length - 1)
        return bool(np.allclose(ours, theirs, rtol=0, atol=1e-6))
    # tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h
    x = np.float32(i + (0.5 if form == "half" else 0)) * np.float32(step)
    index = np.floor(x + 0.5) if form == "corners" else np.floor(x)
    index = np.clip(index, 0, length - 1)
    return bool(np.array_equal(index, op.nearest(length, out, axis)))


def _resize(b: Lowering, node: Node, op: Resize) -> None:
    form = resize_form(op, node)
    if form is None:
        raise InternalError(f"{node.layer} has no TFLite form, which the check overlooked")
    source = b.get(node.inputs[0], NHWC)
    size = b.ints("size", node.output.type.ints[2:])
    target = b.put(node, NHWC)
    nearest = op.mode == "nearest"
    code = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    options = "ResizeNearestNeighbor" if nearest else "ResizeBilinear"
    version = 3 if form["halfPixelCenters"] else 1
    b.operator(code, [source, size], [target], options, version, **form)


def _depth_to_space(b: Lowering, node: Node, op: DepthToSpace) -> None:
    source = b.get(node.inputs[0], NHWC)
    out = node.output.type.ints[1]
    if op.column_first and out > 1 and op.block > 1:
        # The builtin wants depth last within a channel block: permute the channels first.
        blocks = op.block**2
        order = np.arange(out * blocks).reshape(out, blocks).T.ravel()
        info = b.info(source)
        turned = b.tensor(f"{b.layer}/turned", info.dtype, info.shape)
        indices = b.constant(f"{b.layer}/order", order.astype(np.int32))
        b.operator("GATHER", [source, indices], [turned], "Gather", axis=3)
        source = turned
    target = b.put(node, NHWC)
    if op.block == 1:
        shape = b.ints("shape", b.info(target).shape)
        b.operator("RESHAPE", [source, shape], [target], "Reshape",
                   newShape=list(b.info(target).shape))  # fmt: skip
        return
    b.operator("DEPTH_TO_SPACE", [source], [target], "DepthToSpace", blockSize=op.block)


def _exact_resize(graph: Graph, node: Node) -> str | None:
    """A resize takes its places from the two sizes alone, in a way TFLite has."""
    op = node.op
    if not isinstance(op, Resize) or resize_form(op, node) is not None:
        return None
    return f"it is {op.mode}, {op.coordinates}, {op.rounding}"


LOWERINGS = {DepthToSpace: Kernel(_depth_to_space), Resize: Kernel(_resize)}

CONSTRAINTS = (
    Constraint(
        (Resize,), _exact_resize, 'export it as "half_pixel" or "asymmetric" with sizes'
    ),
)
