"""Which operands of a layer are its weights."""

from __future__ import annotations

from edgec.ir import Graph, Node, Value
from edgec.ops import Convolution, ConvTranspose, FullyConnected, Gemm, MatMul, Opaque

__all__ = ["weight_values", "weights_of"]

_LAYERS = (Convolution, ConvTranspose, FullyConnected, Gemm)
_NAMES = {"Conv", "ConvTranspose", "Gemm", "LSTM", "GRU", "RNN"}


def weights_of(node: Node) -> tuple[Value, ...]:
    """Return the operands that hold what a layer has learnt, its bias included.

    Of a matrix product these are both, since either may be data.
    """
    op = node.op
    if isinstance(op, MatMul) or (isinstance(op, Opaque) and op.op_type == "MatMul"):
        return node.reads
    named = op.op_type if isinstance(op, Opaque) else op.onnx_name
    if isinstance(op, _LAYERS) or named in _NAMES:
        return tuple(v for v in node.inputs[1:] if v.name)
    return ()


def weight_values(graph: Graph) -> set[Value]:
    """Return the weights of all layers, and what only they are computed from."""
    found = {v for node in graph.nodes for v in weights_of(node)}
    outputs = set(graph.outputs)
    for node in reversed(graph.nodes):
        if found.issuperset(node.outputs):
            for value in node.reads:
                readers = graph.users[value]
                alone = all(found.issuperset(n.outputs) for n in readers)
                if alone and value not in outputs:
                    found.add(value)
    return found
