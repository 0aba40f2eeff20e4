"""Suppression of overlapping boxes."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, Graph, Node
from edgec.ops import NonMaxSuppression
from edgec.targets.tflite.kernels.kernel import FLOAT, Constraint, Kernel, cast
from edgec.targets.tflite.kernels.moves import sliced, step
from edgec.targets.tflite.lower import Lowering, Stored, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]

_MOST_CLASSES = 256


def _non_max_suppression(b: Lowering, node: Node, op: NonMaxSuppression) -> None:
    boxes, scores = (b.get(v, identity(3)) for v in node.inputs)
    batches, classes, count = b.info(scores).shape
    kept: list[int] = []
    for batch in range(batches):
        own = _row(b, boxes, [range(batch, batch + 1), range(count), range(4)], (count, 4))
        corners = _solid(b, _corners(b, own) if op.centers else own)
        for kind in range(classes):
            part = [range(batch, batch + 1), range(kind, kind + 1), range(count)]
            kept.append(_selected(b, op, corners, _row(b, scores, part, (count,)), batch, kind))
    joined = kept[0]
    if len(kept) > 1:
        fields = {"axis": 0, "fusedActivationFunction": 0}
        joined = b.tensor(f"{b.layer}/joined", DType.INT32, (-1, 3))
        b.operator("CONCATENATION", kept, [joined], "Concatenation", **fields)
    result = Stored(cast(b, joined, DType.INT64), (0, 1))
    b.alias(node, result, quantized=False)


def _row(b: Lowering, tensor: int, part: list[range], shape: tuple[int, ...]) -> int:
    whole = all(len(r) == n for r, n in zip(part, b.info(tensor).shape, strict=True))
    return b.reshaped(tensor if whole else sliced(b, tensor, part), shape)


def _corners(b: Lowering, boxes: int) -> int:
    """Return boxes by two corners, given by center and size; less than nothing is nothing.

    The kernel would take the corners of such a box for those of one that is as large.
    """
    count = b.info(boxes).shape[0]
    center, size = (sliced(b, boxes, [range(count), r]) for r in (range(2), range(2, 4)))
    size = step(b, "RELU", [size])
    two = b.constant(f"{b.layer}/two", np.array(2, np.float32))
    half = step(b, "DIV", [size, two], None, "Div", fusedActivationFunction=0)
    low = step(b, "SUB", [center, half], None, "Sub", fusedActivationFunction=0)
    high = step(b, "ADD", [center, half], None, "Add", fusedActivationFunction=0)
    ends = [low, high]
    fields = {"axis": 1, "fusedActivationFunction": 0}
    out = b.tensor(f"{b.layer}/corners", DType.FLOAT32, (count, 4))
    b.operator("CONCATENATION", ends, [out], "Concatenation", **fields)
    return out


def _solid(b: Lowering, boxes: int) -> int:
    """Return boxes none of which is empty: an empty one becomes one that overlaps none.

    The kernel takes a box again and again until it overlaps itself, which empty ones never do.
    """
    count = b.info(boxes).shape[0]
    first, second = (sliced(b, boxes, [range(count), r]) for r in (range(2), range(2, 4)))
    sides = step(b, "SUB", [second, first], None, "Sub", fusedActivationFunction=0)
    one, other = (sliced(b, sides, [range(count), range(i, i + 1)]) for i in (0, 1))
    area = step(b, "MUL", [one, other], None, "Mul", fusedActivationFunction=0)
    zero = b.constant(f"{b.layer}/zero", np.array(0, np.float32))
    empty = step(b, "EQUAL", [area, zero], None, "Equal", dtype=DType.BOOL)
    axes = b.ints("axes", [0, 1])
    edge = step(b, "REDUCE_MAX", [boxes, axes], (1, 1), "Reducer", keepDims=True)
    side_by_side = np.zeros((count, 4), np.float32)
    side_by_side[:, 1] = 2 * np.arange(count) + 1
    side_by_side[:, 2] = 1
    side_by_side[:, 3] = side_by_side[:, 1] + 1
    beyond = b.constant(f"{b.layer}/beyond", np.array([[0, 1, 0, 1]], np.float32))
    moved = step(b, "MUL", [edge, beyond], None, "Mul", fusedActivationFunction=0)
    places = b.constant(f"{b.layer}/places", side_by_side)
    other_boxes = step(b, "ADD", [places, moved], None, "Add", fusedActivationFunction=0)
    chosen = [empty, other_boxes, boxes]
    return step(b, "SELECT_V2", chosen, (count, 4), "SelectV2", dtype=DType.FLOAT32)


def _selected(
    b: Lowering, op: NonMaxSuppression, boxes: int, scores: int, batch: int, kind: int
) -> int:
    """Return the rows of one class: batch, class and box, the best first.

    Boxes come in order of their scores, the lower index first among equals, and their places
    in this order are what the kernel compares, as it breaks ties anyhow.
    """
    count = b.info(boxes).shape[0]
    most = min(op.most, count)
    order = b.tensor(f"{b.layer}/order", DType.INT32, (count,))
    values = b.tensor(f"{b.layer}/ordered", DType.FLOAT32, (count,))
    b.operator("TOPK_V2", [scores, b.ints("k", count)], [values, order], "TopKV2")
    ranks = b.constant(f"{b.layer}/ranks", np.arange(count, 0, -1).astype(np.float32))
    if op.least_score is not None:
        least = b.constant(f"{b.layer}/least", np.array(op.least_score, np.float32))
        above = step(b, "GREATER", [values, least], None, "Greater", dtype=DType.BOOL)
        none = b.constant(f"{b.layer}/none", np.array(-1, np.float32))
        chosen = [above, ranks, none]
        ranks = step(b, "SELECT_V2", chosen, (count,), "SelectV2", dtype=DType.FLOAT32)
    sorted_boxes = step(b, "GATHER", [boxes, order], (count, 4), "Gather", axis=0)
    # The kernel drops a box that overlaps by just the threshold, ONNX keeps it.
    overlap = np.nextafter(np.float32(op.overlap), np.float32(2))
    numbers = np.maximum(overlap, np.finfo(np.float32).tiny), np.float32(0)
    limits = [b.constant(f"{b.layer}/limit", np.array(n, np.float32)) for n in numbers]
    found = b.tensor(f"{b.layer}/found", DType.INT32, (most,))
    total = b.tensor(f"{b.layer}/total", DType.INT32, ())
    operands = [sorted_boxes, ranks, b.ints("most", most), *limits]
    b.operator("NON_MAX_SUPPRESSION_V4", operands, [found, total], "NonMaxSuppressionV4")
    own = step(b, "GATHER", [order, found], (most,), "Gather", axis=0)
    named = b.ints("named", np.tile([batch, kind], (most, 1)))
    rows = step(b, "CONCATENATION", [named, b.reshaped(own, (most, 1))], (most, 3),
                "Concatenation", axis=1, fusedActivationFunction=0)  # fmt: skip
    width = b.ints("width", 3)
    end = step(b, "PACK", [total, width], (2,), "Pack", valuesCount=2, axis=0)
    cut = [rows, b.ints("begin", [0, 0]), end, b.ints("strides", [1, 1])]
    return step(b, "STRIDED_SLICE", cut, (-1, 3), "StridedSlice")


def _few_classes(graph: Graph, node: Node) -> str | None:
    """The classes of all images, each of which is suppressed alone, are at most 256."""
    batches, classes, _ = node.inputs[1].type.ints
    many = batches * classes
    return f"there are {many}" if many > _MOST_CLASSES else None


def _overlap(graph: Graph, node: Node) -> str | None:
    """Boxes are suppressed from an overlap below 1 on."""
    overlap = getattr(node.op, "overlap", 0.0)
    return None if 0 <= overlap < 1 else f"the threshold is {overlap}"


LOWERINGS = {
    NonMaxSuppression: Kernel(_non_max_suppression, FLOAT | {DType.INT64}, dynamic=True)
}

CONSTRAINTS = (
    Constraint((NonMaxSuppression,), _few_classes, "suppress boxes after the model"),
    Constraint((NonMaxSuppression,), _overlap),
)
