"""Pooling."""

from __future__ import annotations

import numpy as np

from edgec.ir import Array, Graph, Node
from edgec.ops import Activation, AveragePool, GlobalAveragePool, MaxPool, Pool
from edgec.targets.tflite.kernels.kernel import (
    SAME,
    VALID,
    Constraint,
    Kernel,
    is_int8,
    padded,
    positive_stride,
)
from edgec.targets.tflite.kernels.reduce import reduction
from edgec.targets.tflite.lower import NHWC, Lowering
from edgec.targets.tflite.padding import Padding, padding

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _pool(b: Lowering, node: Node, op: Pool) -> None:
    integer = is_int8(b, node)
    x = node.inputs[0]
    out = node.output.type.ints
    pads = padding(op.window, (x.type.ints[2], x.type.ints[3]), op.pad, (out[2], out[3]))
    source = b.get(x, NHWC, integer=integer)
    if isinstance(op, MaxPool):
        code, fill = "MAX_POOL_2D", _lowest(b, node, source)
    else:
        code, fill = "AVERAGE_POOL_2D", None
        if any(op.pad) and isinstance(op, AveragePool) and op.count_include_pad:
            pads = Padding(same=False, explicit=op.pad)
    source = padded(b, source, pads.explicit, fill)
    target = b.put(node, NHWC)
    b.operator(
        code,
        [source],
        [target],
        "Pool2D",
        2 if integer else 1,
        padding=SAME if pads.same else VALID,
        strideH=op.stride[0],
        strideW=op.stride[1],
        filterHeight=op.kernel[0],
        filterWidth=op.kernel[1],
        fusedActivationFunction=0,
    )


def _lowest(b: Lowering, node: Node, source: int) -> Array | None:
    """Return what never wins a maximum; ``None`` where zero does not either."""
    info = b.info(source)
    if info.quant is not None:
        lowest = np.iinfo(info.dtype.numpy).min  # type: ignore[type-var]
        return None if info.quant.zero_point[0] == lowest else np.array(lowest, np.int8)
    producer = b.graph.producers.get(node.inputs[0])
    activation = getattr(producer.op, "activation", None) if producer else None
    if activation in (Activation.RELU, Activation.RELU6):
        return None
    return np.array(np.finfo(np.float32).min, np.float32)


def _mean(b: Lowering, node: Node, op: GlobalAveragePool) -> None:
    reduction(b, node, "MEAN", tuple(range(2, node.inputs[0].type.rank)), keepdims=True)


def _undilated(graph: Graph, node: Node) -> str | None:
    """The window of a pool is not dilated."""
    op = node.op
    return (
        f"dilation is {op.dilation}" if isinstance(op, Pool) and op.dilation != (1, 1) else None
    )


def _average_padding(graph: Graph, node: Node) -> str | None:
    """The padding of an average counts as zeros, or is none, or is that of SAME."""
    op, x = node.op, node.inputs[0].type
    if not isinstance(op, AveragePool):
        return None
    if op.count_include_pad and any(op.pad):
        return "it is in ceil mode with padding" if op.ceil_mode else None
    (h, w), (oh, ow) = x.ints[2:], node.output.type.ints[2:]
    explicit = padding(op.window, (h, w), op.pad, (oh, ow)).explicit
    return f"pads are {list(explicit)}, not counted" if any(explicit) else None


LOWERINGS = {
    AveragePool: Kernel(_pool),
    GlobalAveragePool: Kernel(_mean),
    MaxPool: Kernel(_pool),
}

_POOLS = (AveragePool, MaxPool)
CONSTRAINTS = (
    Constraint(_POOLS, _undilated),
    Constraint((AveragePool,), _average_padding, "export it with count_include_pad=True"),
    Constraint(_POOLS, positive_stride),
)
