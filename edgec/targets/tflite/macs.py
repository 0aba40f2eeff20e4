"""Multiply-accumulates of TFLite operators."""

from __future__ import annotations

import math

from edgec.targets.tflite.model import Model, Operator

__all__ = ["macs"]


def macs(model: Model, op: Operator) -> int:
    """Return the multiply-accumulates of one evaluation; additions alone count as none."""
    shapes = [model.tensors[i].shape if i >= 0 else () for i in op.inputs]
    out = model.tensors[op.outputs[0]].shape if op.outputs else ()
    match op.code:
        case "CONV_2D" | "CONV_3D" if len(shapes) > 1 and len(out) > 1:
            # OHWI; a grouped layer's filters have the channels of their group only
            inner = shapes[1][1:] if op.code == "CONV_2D" else shapes[1][:-1]
            return math.prod(out) * math.prod(inner)
        case "DEPTHWISE_CONV_2D" if len(shapes) > 1 and len(shapes[1]) == 4:
            return math.prod(out) * shapes[1][1] * shapes[1][2]
        case "TRANSPOSE_CONV" if len(shapes) > 2 and len(shapes[1]) == 4:
            return math.prod(shapes[2]) * math.prod(shapes[1][:3])
        case "FULLY_CONNECTED" if len(shapes) > 1 and shapes[1]:
            return math.prod(out) * shapes[1][-1]
        case "BATCH_MATMUL" if len(shapes) > 1 and shapes[0] and out:
            # whichever side is adjoint, the axis summed over is the one the result lacks
            return math.prod(out) * math.prod(shapes[0][-2:]) // max(out[-2], 1)
    return 0
