"""Operators on images."""

from __future__ import annotations

import numpy as np

from edgec.ir import Node
from edgec.ops import DepthToSpace
from edgec.targets.tflite.kernels.kernel import Constraint, Kernel
from edgec.targets.tflite.lower import NHWC, Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS"]


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


LOWERINGS = {DepthToSpace: Kernel(_depth_to_space)}

CONSTRAINTS: tuple[Constraint, ...] = ()
