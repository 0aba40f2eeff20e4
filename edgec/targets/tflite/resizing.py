"""Which resizes TFLite's own kernels compute."""

from __future__ import annotations

import numpy as np

from edgec.ir import Node
from edgec.ops import Resize
from edgec.ops.resize import Line

__all__ = ["builtin_form"]

_FORMS = {
    "half": {"alignCorners": False, "halfPixelCenters": True},
    "corners": {"alignCorners": True, "halfPixelCenters": False},
    "plain": {"alignCorners": False, "halfPixelCenters": False},
}


def builtin_form(op: Resize, node: Node) -> dict[str, bool] | None:
    """Return the options with which TFLite computes just this resize, or ``None``.

    "nearest" is compared index by index; "linear" needs the same coordinates, which TFLite
    takes from the two sizes and never from a scale.
    """
    lines = op.lines(node.inputs[0].type)
    plain = op.mode in ("nearest", "linear") and not op.antialias and not op.roi
    if not plain or op.axes != (2, 3) or node.inputs[0].type.rank != 4:
        return None
    for name, form in _FORMS.items():
        if all(_agrees(line, name) for line in lines):
            return form
    return None


def _agrees(line: Line, form: str) -> bool:
    length, out = line.length, line.out
    i = np.arange(out, dtype=np.float64)
    step = length / out
    if form == "corners":
        step = (length - 1) / (out - 1) if out > 1 else 0.0
    if line.op.mode == "linear":
        theirs = (i + 0.5) * step - 0.5 if form == "half" else i * step
        ours, theirs = np.clip([line.places(), theirs], 0, length - 1)
        return bool(np.allclose(ours, theirs, rtol=0, atol=1e-6))
    # tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h
    x = np.float32(i + (0.5 if form == "half" else 0)) * np.float32(step)
    index = np.floor(x + 0.5) if form == "corners" else np.floor(x)
    return bool(np.array_equal(np.clip(index, 0, length - 1), line.nearest()))
