"""What of a graph can be divided by which factors, and the graph divided by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.ops import Convolution, ConvTranspose, FullyConnected
from edgec.passes.factors import Cause, Factors

__all__ = ["LAYERS", "Part", "Trace"]

LAYERS = (Convolution, ConvTranspose, FullyConnected)
"""Layers whose channels are along the second axis of what they read and make."""

_NONE = Cause("what it makes", "meets a value that cannot be scaled")


@dataclass(frozen=True, slots=True)
class Part:
    """A constant operand that takes factors up: it is multiplied by some, divided by others.

    Parameters
    ----------
    read, made
        Numbers of factors that broadcast with the constant: those that what the node reads is
        divided by, and those that its result is divided by.
    is_weight
        Whether this is the matrix or kernel of a layer.
    """

    node: Node
    operand: int
    read: Array
    made: Array
    is_weight: bool = False


@dataclass
class Trace:
    """What can be divided by which factors.

    Every place of a value has the number of a factor: ``numbers[value]`` has an axis for each
    of the value's, of length 1 where all places along it have the same.

    Attributes
    ----------
    parts
        By the first output of a node: the constants that take factors up.
    causes
        By the first output of a node: why the node itself lets none of its results be divided.
    least
        Numbers of factors, and how small each may be.
    """

    graph: Graph
    factors: Factors = field(default_factory=Factors)
    numbers: dict[Value, Array] = field(default_factory=dict)
    parts: dict[Value, list[Part]] = field(default_factory=dict)
    causes: dict[Value, Cause] = field(default_factory=dict)
    least: list[tuple[Array, Array]] = field(default_factory=list)

    @property
    def weights(self) -> Iterator[Part]:
        """The kernels and matrices of all layers, in order."""
        return (p for parts in self.parts.values() for p in parts if p.is_weight)

    def refused(self) -> Iterator[tuple[Node, Cause]]:
        """Yield the layers of whose channels none has a free factor, and why."""
        layers = {part.node.outputs[0] for part in self.weights}
        for node in self.graph.nodes:
            made = self.numbers[node.outputs[0]]
            is_layer = node.outputs[0] in layers or isinstance(node.op, LAYERS)
            if is_layer and not self.factors.free(made).any():
                cause = self.causes.get(node.outputs[0])
                cause = cause or self.factors.cause(int(made.flat[0]))
                yield node, cause if cause is not None and cause.layer else _NONE

    def rescaled(self, by: Array) -> Graph:
        """Return the graph with every place of a value divided by its factor.

        Values that are not as they were get other names.

        Parameters
        ----------
        by
            A factor for each number; what counts is that of the number that stands for it.
        """
        b = Builder(self.graph)
        shared: dict[tuple[str, bytes], Value] = {}
        for node in self.graph.nodes:
            inputs = [b.now(v) for v in node.inputs]
            for part in self.parts.get(node.outputs[0], ()):
                array = self.graph.constant(node.inputs[part.operand])
                if array is None:
                    continue
                read, made = (by[self.factors.find(n)] for n in (part.read, part.made))
                factor = read / made
                if (factor == 1).all() or not array.any():
                    continue
                old = node.inputs[part.operand].name
                key = old, factor.tobytes()
                if key not in shared:
                    new = (array.astype(np.float64) * factor).astype(array.dtype)
                    shared[key] = b.constant(new, near=f"{old}.scaled")
                inputs[part.operand] = shared[key]
            moved = [(by[self.factors.find(self.numbers[v])] != 1).any() for v in node.outputs]
            if inputs == list(node.inputs) and not any(moved):
                b.copy(node)
                continue
            names = [
                b.fresh(f"{v.name}.scaled") if other else v.name
                for v, other in zip(node.outputs, moved, strict=True)
            ]
            made_values = b.add(node.op, *inputs, names=names, absorbs=(node,))
            for old_value, new_value in zip(node.outputs, made_values, strict=True):
                b.replace(old_value, new_value)
        return b.finish()
