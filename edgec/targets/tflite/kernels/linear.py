"""Matrix products."""

from __future__ import annotations

from edgec.ir import Node
from edgec.ops import FullyConnected, MatMul
from edgec.targets.tflite.kernels.kernel import (
    FUSED,
    Constraint,
    Kernel,
    bias_of,
    constant_parameters,
    is_int8,
)
from edgec.targets.tflite.lower import Lowering, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _fully_connected(b: Lowering, node: Node, op: FullyConnected) -> None:
    integer = is_int8(b, node)
    source = b.get(node.inputs[0], (0, 1), integer=integer)
    weight = b.get(node.inputs[1], (0, 1), integer=integer)
    bias = bias_of(b, node, integer, source, weight)
    grid = b.info(weight).quant
    per_channel = grid is not None and len(grid.scale) > 1
    version = 12 if per_channel else 4 if integer else 1
    target = b.put(node, (0, 1))
    b.operator(
        "FULLY_CONNECTED",
        [source, weight, bias],
        [target],
        "FullyConnected",
        version,
        fusedActivationFunction=FUSED[op.activation],
    )


def _matmul(b: Lowering, node: Node, op: MatMul) -> None:
    integer = is_int8(b, node)
    operands = [b.get(v, identity(v.type.rank), integer=integer) for v in node.inputs]
    target = b.put(node, identity(node.output.type.rank))
    version = 2 if integer else 1
    b.operator("BATCH_MATMUL", operands, [target], "BatchMatMul", version)


LOWERINGS = {FullyConnected: Kernel(_fully_connected), MatMul: Kernel(_matmul)}

CONSTRAINTS = (
    Constraint((FullyConnected,), constant_parameters, "store the weights in the model"),
)
