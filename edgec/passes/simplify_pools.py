"""One form for the mean over an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node
from edgec.ops import AveragePool2d, GlobalAveragePool, ReduceMean
from edgec.passes.base import Pass, Promise, Within

__all__ = ["SimplifyPools"]


@dataclass(frozen=True, slots=True)
class SimplifyPools(Pass):
    """Write every mean over all of an image as ``GlobalAveragePool``.

    An ``AveragePool2d`` whose window covers the image exactly, without padding, and a
    ``ReduceMean`` over H and W that keeps the axes become one. Runtimes have faster kernels
    for that form, and for int8 XNNPACK has no windowed one at all. Only f32: ONNX Runtime has
    ``GlobalAveragePool`` for nothing else.

    Within rounding: the sum may be taken in another order.
    """

    name: ClassVar[str] = "simplify-pools"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if _is_global(node):
                b.add(GlobalAveragePool(), b.now(node.inputs[0]), like=node)
            else:
                b.copy(node)
        return b.finish()


def _is_global(node: Node) -> bool:
    x = node.inputs[0].type if node.inputs else None
    if x is None or x.dtype is not DType.FLOAT32 or not x.is_static or x.rank != 4:
        return False
    match node.op:
        case AveragePool2d(kernel=kernel, pad=pad):
            return kernel == x.ints[2:] and not any(pad) and node.output.type.ints[2:] == (1, 1)
        case ReduceMean(axes, keepdims):
            return axes == (2, 3) and keepdims
    return False
