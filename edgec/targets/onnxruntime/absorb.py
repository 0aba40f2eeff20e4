"""Drop activations that quantization already does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, Graph, Node, Value
from edgec.ops import Activation, Binary, Clip, Convolution, FullyConnected, Quantize, Relu
from edgec.passes import Exact, Pass, Promise

__all__ = ["AbsorbActivations"]


@dataclass(frozen=True, slots=True)
class AbsorbActivations(Pass):
    """Rewrite ``Quantize(Relu(x))`` as ``Quantize(x)`` where saturation clips just as much.

    With zero point ``z`` and scale ``s``, saturation clips to ``[(qmin - z) s, (qmax - z) s]``
    before rounding. Where the activation's bounds round to those ends, or lie outside of them,
    it changes nothing. Without it ONNX Runtime sees the layer next to its quantize and
    computes both in one integer kernel.

    Exact: the integers are the same.
    """

    name: ClassVar[str] = "absorb-activations"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._absorb(b, graph, node):
                b.copy(node)
        return b.finish()

    def _absorb(self, b: Builder, graph: Graph, node: Node) -> bool:
        op = node.op
        if isinstance(op, Convolution | FullyConnected | Binary):
            bounds = op.activation.bounds
            if op.activation is Activation.NONE or not _saturates(graph, node.output, bounds):
                return False
            plain = replace(op, activation=Activation.NONE)
            b.add(plain, *map(b.now, node.inputs), like=node)
            return True
        if not isinstance(op, Relu | Clip):
            return False
        bounds = (0.0, np.inf) if isinstance(op, Relu) else (op.low, op.high)
        if not _saturates(graph, node.output, bounds):
            return False
        b.replace(node.output, b.now(node.inputs[0]))
        return True


def _saturates(graph: Graph, value: Value, bounds: tuple[float, float]) -> bool:
    """Whether all readers quantize `value` to grids that end where `bounds` do."""
    readers = graph.users.get(value, ())
    if not readers or value in graph.outputs:
        return False
    return all(isinstance(n.op, Quantize) and _ends_within(n.op, bounds) for n in readers)


def _ends_within(op: Quantize, bounds: tuple[float, float]) -> bool:
    if op.params.axis is not None:
        return False
    least, most = op.dtype.limits
    scale, zero = op.params.scale[0], op.params.zero_point[0]
    low, high = bounds
    low_kept = low == -np.inf or np.rint(low / scale) + zero <= least
    high_kept = high == np.inf or np.rint(high / scale) + zero >= most
    return bool(low_kept and high_kept)
