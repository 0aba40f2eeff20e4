"""Keep average pools with gaps in their window apart from the quantization around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, Graph
from edgec.ops import Dequantize, DilatedAveragePool, Max
from edgec.passes import Exact, Pass, Promise

__all__ = ["PartPools"]


@dataclass(frozen=True, slots=True)
class PartPools(Pass):
    """Rewrite ``DilatedAveragePool(x)`` as ``DilatedAveragePool(Max(x, lowest))``.

    Only in graphs that have integers. Of an average pool between a dequantization and a
    quantization ONNX Runtime 1.31 makes an integer pool, but its integer pools know of no
    dilation: it then refuses the whole model. It moves both kinds over reshapes and the like,
    so that the pool need not stand next to them; over a maximum it moves neither.

    Exact: no number is below the lowest there is.
    """

    name: ClassVar[str] = "part-pools"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        if not any(isinstance(node.op, Dequantize) for node in graph.nodes):
            return graph
        b = Builder(graph)
        for node in graph.nodes:
            if not isinstance(node.op, DilatedAveragePool):
                b.copy(node)
                continue
            x = b.now(node.inputs[0])
            before = b.producer(x)
            if before is None or not isinstance(before.op, Max):
                lowest = np.array(np.finfo(x.type.dtype.name.lower()).min)
                x = b.step(Max(), x, b.constant(lowest, "lowest"), of=node, near=x.name)
            b.add(node.op, x, like=node)
        return b.finish()
