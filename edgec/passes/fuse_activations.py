"""Let layers carry the activation that follows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Builder, Graph, Node
from edgec.ops import Activation, Binary, Clip, Convolution, FullyConnected, Relu
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["FuseActivations"]


@dataclass(frozen=True, slots=True)
class FuseActivations(Pass):
    """Rewrite ``Relu``, ``Clip(0, 6)`` and ``Clip(-1, 1)`` as part of the layer before them.

    These are what the runtimes can fuse. The layer must have no activation of its own but one
    that the new one includes, and no other reader. Exact: a fused activation is exported as
    the node it was.
    """

    name: ClassVar[str] = "fuse-activations"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._fuse(b, node):
                b.copy(node)
        return b.finish()

    def _fuse(self, b: Builder, node: Node) -> bool:
        match node.op:
            case Relu():
                activation: Activation | None = Activation.RELU
            case Clip(low, high):
                activation = Activation.of_bounds(low, high)
            case _:
                return False
        layer = b.producer(b.now(node.inputs[0]))
        if activation is None or layer is None or not isinstance(layer.op, _CARRIERS):
            return False
        if not b.source.is_only_read_by(node.inputs[0], node):
            return False
        if not node.output.type.dtype.is_float:  # runtimes compute small integers in wider ones
            return False
        joined = _both(layer.op.activation, activation)
        if joined is None:
            return False
        op = replace(layer.op, activation=joined)
        b.add(op, *layer.inputs, like=node, absorbs=(layer,))
        return True


_CARRIERS = (Binary, Convolution, FullyConnected)


def _both(first: Activation, second: Activation) -> Activation | None:
    """Return the one activation that does what two do, if there is one."""
    (a, b), (c, d) = first.bounds, second.bounds
    if max(a, c) > min(b, d):
        return None
    return Activation.of_bounds(max(a, c), min(b, d))
