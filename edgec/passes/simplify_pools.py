"""One form for the mean over an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node
from edgec.ops import AveragePool, GlobalAveragePool, ReduceMean, Reshape
from edgec.passes.base import Pass, Promise, Within

__all__ = ["SimplifyPools"]


@dataclass(frozen=True, slots=True)
class SimplifyPools(Pass):
    """Write every mean over all of an image as ``GlobalAveragePool``.

    An ``AveragePool`` whose window covers the image exactly, without padding, and a
    ``ReduceMean`` over H and W become one, followed by a reshape where the axes are dropped.
    Runtimes have faster kernels for that form, and for int8 XNNPACK has no windowed one at
    all. Only f32: ONNX Runtime has
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
                self._pool(b, node)
            else:
                b.copy(node)
        return b.finish()

    def _pool(self, b: Builder, node: Node) -> None:
        x = b.now(node.inputs[0])
        if node.output.type.rank == 4:
            b.add(GlobalAveragePool(), x, like=node)
            return
        names = [b.fresh(f"{node.output.name}.pooled")]
        (pooled,) = b.add(GlobalAveragePool(), x, names=names, absorbs=(node,))
        b.add(Reshape(node.output.type.ints), pooled, like=node)


def _is_global(node: Node) -> bool:
    x = node.inputs[0].type if node.inputs else None
    if x is None or x.dtype is not DType.FLOAT32 or not x.is_static or x.rank != 4:
        return False
    match node.op:
        case AveragePool(kernel=kernel, pad=pad):
            return kernel == x.ints[2:] and not any(pad) and node.output.type.ints[2:] == (1, 1)
        case ReduceMean(axes):
            return axes == (2, 3)
    return False
