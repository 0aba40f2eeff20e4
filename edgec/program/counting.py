"""What a layer costs: multiply-accumulates and bytes of weights."""

from __future__ import annotations

import hashlib

from edgec.program import operators as ops
from edgec.program.program import Layer, Program

__all__ = ["layer_macs", "program_macs", "program_weight_bytes", "weight_bytes"]


def layer_macs(layer: Layer) -> int:
    """Return how many products a layer adds up; 0 for one that only moves or compares."""
    if isinstance(layer.op, (ops.Conv, ops.FullyConnected)):
        w = layer.input(1)
        return layer.output.size * (w.size // w.shape[0])
    if isinstance(layer.op, ops.DepthwiseConv):
        w = layer.input(1)
        return layer.output.size * w.shape[1] * w.shape[2]
    if isinstance(layer.op, ops.BatchMatMul):
        depth = layer.input(0).shape[-2 if layer.op.transpose_x else -1]
        return layer.output.size * depth
    if isinstance(layer.op, ops.Svdf):
        return layer.input(1).size * layer.input(0).shape[0] + layer.input(4).size
    if isinstance(layer.op, ops.UnidirectionalLstm):
        x = layer.input(0)
        gates = (*range(1, 5), *range(5, 9))
        return sum(layer.input(k).size for k in gates) * x.shape[0] * x.shape[1]
    return 0


def weight_bytes(layer: Layer) -> int:
    """Return the bytes of a layer's weights, without its biases."""
    if isinstance(layer.op, (ops.Conv, ops.DepthwiseConv, ops.FullyConnected)):
        return layer.input(1).size_bytes
    return 0


def program_macs(program: Program) -> int:
    """Return the multiply-accumulates of one run."""
    return sum(map(layer_macs, program.layers()))


def program_weight_bytes(program: Program) -> int:
    """Return the bytes of all weights of convolutions and matrix products.

    What several layers share counts once, and so do equal weights: TFLite files hold them once.
    """
    found: dict[tuple[str, bytes], int] = {}
    for layer in program.layers():
        if isinstance(layer.op, (ops.Conv, ops.DepthwiseConv, ops.FullyConnected)):
            w = layer.input(1)
            assert w.data is not None
            digest = hashlib.sha256(w.data.tobytes()).digest()
            found[w.dtype.name, digest] = w.size_bytes
    return sum(found.values())
