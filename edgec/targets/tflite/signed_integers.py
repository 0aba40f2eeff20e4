"""Store signed what a model stores as unsigned 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node, QuantParams, Value
from edgec.ops import Dequantize, Quantize
from edgec.passes import Exact, Pass, Promise
from edgec.passes.decompose_quantization import is_paired

__all__ = ["SignedIntegers"]

_SHIFT = 128


@dataclass(frozen=True, slots=True)
class SignedIntegers(Pass):
    """Move uint8 grids down by 128, so that every quantized value is int8.

    TFLite's kernels are specified for int8. A uint8 grid with zero point ``z`` holds the same
    real numbers as an int8 grid with ``z - 128``; stored constants are moved alike. A uint8
    input or output of the model stays, with a step to and from int8 beside it.

    Values that something reads as plain integers keep their type.
    Exact: the real numbers are the same.
    """

    name: ClassVar[str] = "signed-integers"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        moved = {v for v in _unsigned(graph) if _is_movable(graph, v)}
        b = Builder(graph)
        for node in graph.nodes:
            match node.op:
                case Quantize(params, DType.UINT8) if node.output in moved:
                    b.add(Quantize(_signed(params)), b.now(node.inputs[0]), like=node)
                case Quantize(params, DType.UINT8) if node.output in graph.outputs:
                    inner = _through(b, node, params, b.now(node.inputs[0]))
                    b.add(node.op, inner, like=node)
                case Dequantize(params, DType.UINT8) if node.inputs[0] in moved:
                    source = b.now(node.inputs[0])
                    if (array := graph.constant(node.inputs[0])) is not None:
                        shifted = np.asarray(array.astype(np.int16) - _SHIFT, np.int8)
                        source = b.constant(shifted, near=node.inputs[0].name)
                    b.add(Dequantize(_signed(params)), source, like=node)
                case Dequantize(params, DType.UINT8) if _begins(graph, node):
                    names = [b.fresh(f"{node.output.name}.unsigned")]
                    (real,) = b.add(node.op, b.now(node.inputs[0]), names=names, like=node)
                    b.replace(node.output, _through(b, node, params, real))
                case _:
                    b.copy(node)
        return b.finish()


def _begins(graph: Graph, node: Node) -> bool:
    """Whether a node dequantizes an input for something else to read."""
    return node.inputs[0] in graph.inputs and node.output not in graph.outputs


def _unsigned(graph: Graph) -> set[Value]:
    """Return the 8-bit values without a sign that a pair stands around."""
    found: set[Value] = set()
    for node in graph.nodes:
        if isinstance(node.op, Quantize | Dequantize) and node.op.dtype is DType.UINT8:
            found.add(node.output if isinstance(node.op, Quantize) else node.inputs[0])
    return found


def _is_movable(graph: Graph, value: Value) -> bool:
    """Whether the stored integers are the file's own, and nothing but pairs sees them."""
    return is_paired(graph, value) and value not in (*graph.inputs, *graph.outputs)


def _signed(params: QuantParams) -> QuantParams:
    zeros = tuple(z - _SHIFT for z in params.zero_point)
    return QuantParams(params.scale, zeros, params.axis)


def _through(b: Builder, node: Node, params: QuantParams, real: Value) -> Value:
    """Return a real value after a step to int8 and back, which changes nothing on its grid."""
    grid = _signed(params)
    near = node.output.name
    names = [b.fresh(f"{near}.signed")]
    (stored,) = b.add(Quantize(grid), real, names=names, absorbs=(node,))
    (back,) = b.add(Dequantize(grid), stored, names=[b.fresh(f"{near}.real")], absorbs=(node,))
    return back
