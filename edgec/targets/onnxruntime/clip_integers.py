"""Clip integers as integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, Graph, Node, Value
from edgec.ops import Activation, Binary, Clip, Convolution, FullyConnected, Quantize, Relu
from edgec.passes import Exact, Pass, Promise

__all__ = ["ClipIntegers"]


@dataclass(frozen=True, slots=True)
class ClipIntegers(Pass):
    """Rewrite ``Quantize(Clip(x))`` as ``Clip(Quantize(x))`` where saturation clips less.

    The bounds become integers, ``round(bound / s) + z``: rounding keeps the order, so that it
    may come first. On a symmetric grid zero is in the middle, and a ReLU cuts off half of it.
    ONNX Runtime computes a layer on integers only where its quantize comes next.

    Exact: the integers are the same.
    """

    name: ClassVar[str] = "clip-integers"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._move(b, graph, node):
                b.copy(node)
        return b.finish()

    def _move(self, b: Builder, graph: Graph, node: Node) -> bool:
        op = node.op
        if isinstance(op, Quantize):
            source = graph.producers.get(node.inputs[0])
            bounds = None if source is None else _bounds(source)
            if (
                source is None
                or bounds is None
                or not _is_read_as_integers(graph, source.output)
            ):
                return False
            names = [b.fresh(f"{node.output.name}.whole")]
            (whole,) = b.add(op, b.now(node.inputs[0]), names=names, absorbs=(node,))
            b.add(_on_grid(bounds, op), whole, like=node, absorbs=(source,))
            return True
        if _bounds(node) is None or not _is_read_as_integers(graph, node.output):
            return False
        if isinstance(op, Convolution | FullyConnected | Binary):
            plain = replace(op, activation=Activation.NONE)
            b.add(plain, *map(b.now, node.inputs), like=node)
        else:
            b.replace(node.output, b.now(node.inputs[0]))
        return True


def _bounds(node: Node) -> tuple[float, float] | None:
    """Return the bounds that a node's result is clipped to; ``None`` if it is not."""
    match node.op:
        case Convolution() | FullyConnected() | Binary():
            act = node.op.activation
            return None if act is Activation.NONE else act.bounds
        case Relu():
            return 0.0, np.inf
        case Clip(low, high):
            return low, high
    return None


def _is_read_as_integers(graph: Graph, value: Value) -> bool:
    """Whether all readers quantize a value, each to one scale."""
    readers = graph.users.get(value, ())
    plain = all(isinstance(n.op, Quantize) and n.op.params.axis is None for n in readers)
    return bool(readers) and plain and value not in graph.outputs


def _on_grid(bounds: tuple[float, float], op: Quantize) -> Clip:
    """Return the clip of integers; a bound is infinite where saturation clips as much."""
    least, most = op.dtype.limits
    places = np.rint(np.array(bounds, np.float32) / np.float32(op.params.scale[0]))
    low, high = np.clip(places + op.params.zero_point[0], least, most)
    return Clip(
        -np.inf if low == least else float(low), np.inf if high == most else float(high)
    )
