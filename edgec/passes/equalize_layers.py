"""Layers whose channels are scaled so that the weights of each are alike in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.ir import Array, Graph
from edgec.passes.base import LayerRecord, Pass, Promise, Within
from edgec.passes.factor_trace import Part, Trace
from edgec.passes.factor_tracing import trace

__all__ = [
    "LEAST_FACTOR",
    "MOST_FACTOR",
    "EqualizeLayers",
    "decibels",
    "equalized",
    "refusals",
]

_SWEEPS = 20
_SETTLED = 1e-3
LEAST_FACTOR = 1.05
"""What changes no factor by more gains nothing."""

MOST_FACTOR = 1024.0
"""Factors stay between this and its inverse: what is next to nothing stays so."""

_STEPS = 127
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class EqualizeLayers(Pass):
    """Scale channels so that the weights of each layer are alike in size.

    With one scale for all weights of a layer, the largest of them decides how fine the others
    are. A channel that one layer makes and another reads can be divided by ``s`` in the first
    and multiplied by ``s`` in the second; nothing else changes if what comes between is linear
    or positively homogeneous. ``s = sqrt(r1 / r2)``, where ``r1`` and ``r2`` are the largest
    weights of the channel in either, relative to those of their layer: so both come out alike.
    A channel that several layers make or read, as a residual sum is, has the largest of each.
    All layers take turns until the factors settle.

    Goes through convolutions of all kinds, fully connected layers and products with constant
    matrices, ReLU, leaky and parametric ReLU, poolings, zero padding, resizes, sums, factors,
    and whatever moves channels about. A clip at a number, as in ReLU6, is the same for all
    channels: that ends a chain here, and :class:`EqualizeClippedLayers` goes further.

    Within rounding. Values that are not as they were have other names. Ratios on record are
    those of the weights, for each pair of channels the largest, to the rounding error of 8 bits
    with one scale: their mean in decibels.

    References
    ----------
    Nagel et al., arXiv:1906.04721, section 4.1.
    """

    name: ClassVar[str] = "equalize-layers"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        return equalized(trace(graph))

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return refusals(trace(graph))


def refusals(found: Trace) -> tuple[Diagnostic, ...]:
    """Return which layers cannot be equalised, and why."""
    return tuple(
        Diagnostic(f"its channels cannot be scaled: {cause}", node.layer)
        for node, cause in found.refused()
    )


def equalized(found: Trace) -> tuple[Graph, tuple[LayerRecord, ...]]:
    """Return the graph with weights that are alike, and what that did to each layer."""
    layers: list[_Layer] = []
    for part in found.weights:
        weight = found.graph.constant(part.node.inputs[part.operand])
        if weight is not None and weight.size:
            layers.append(_Layer(part, weight, found))
    by = _factors(found, layers)
    if np.abs(np.log(by)).max() < np.log(LEAST_FACTOR):
        return found.graph, ()
    return found.rescaled(by), tuple(layer.record(by) for layer in layers)


class _Side:
    """The factors on one side of a layer: those of what it reads, or of what it makes."""

    def __init__(self, numbers: Array, rank: int) -> None:
        self.numbers = numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)
        self.found, self._places = np.unique(numbers, return_inverse=True)
        self._axes = tuple(i for i, n in enumerate(self.numbers.shape) if n == 1)

    def largest(self, size: Array) -> Array:
        """Return the largest of some sizes for each factor found."""
        tops = np.broadcast_to(size.max(self._axes, keepdims=True), self.numbers.shape)
        largest = np.zeros(len(self.found))
        np.maximum.at(largest, self._places.reshape(-1), tops.reshape(-1))
        return largest


class _Layer:
    """The largest weights of a layer for each pair of factors."""

    def __init__(self, part: Part, weight: Array, found: Trace) -> None:
        self.node = part.node
        self.read, self.made = (
            _Side(found.factors.find(n), weight.ndim) for n in (part.read, part.made)
        )
        shape = np.broadcast_shapes(self.read.numbers.shape, self.made.numbers.shape)
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
        self.size = np.abs(weight).max(axes, keepdims=True, initial=0.0).astype(np.float32)

    def factor(self, by: Array) -> Array:
        """Return what the weights are multiplied by."""
        return np.asarray(by[self.read.numbers] / by[self.made.numbers])

    def scaled(self, by: Array) -> Array:
        """Return the largest weights, relative to the largest of all."""
        size = self.size * self.factor(by)
        return np.asarray(size / max(float(size.max()), _TINY))

    def record(self, by: Array) -> LayerRecord:
        """Return what the factors do to the layer."""
        before, after = (decibels(self.scaled(b)) for b in (np.ones_like(by), by))
        kept = "equalized" if (self.factor(by) != 1).any() else "plain"
        return LayerRecord(self.node.layer, before, after, kept)


def decibels(size: Array) -> float:
    """Return how far sizes are above what rounding to 8 bits takes off, on average.

    Parameters
    ----------
    size
        Relative to the largest of all, which has the last step of the grid.
    """
    noise = 1 / (_STEPS * np.sqrt(12))
    some = size[size > 0]
    return float(20 * np.log10(some / noise).mean()) if some.size else 0.0


def _factors(found: Trace, layers: Sequence[_Layer]) -> Array:
    """Return the factor of each number with which weights are alike."""
    by = np.ones(found.factors.count)
    lowest = np.full(len(by), 1 / MOST_FACTOR)
    for numbers, least in found.least:
        np.maximum.at(lowest, found.factors.find(numbers), least)
    blocks = [_Block(layer, layers, found) for layer in layers]
    for _ in range(_SWEEPS):
        before = by.copy()
        for block in blocks:
            block.settle(by)
            np.clip(by, lowest, MOST_FACTOR, out=by)
        if np.abs(np.log(by / before)).max() < _SETTLED:
            break
    return by


class _Block:
    """The free factors of what a layer makes, with all layers that make or read them."""

    def __init__(self, layer: _Layer, layers: Sequence[_Layer], found: Trace) -> None:
        self._mine = layer.made.found[found.factors.free(layer.made.found)]
        sides = [[(o, side) for o, side in ((o, o.made), (o, o.read))] for o in layers]
        self._makers, self._readers = (
            [pair[k] for pair in sides if np.isin(pair[k][1].found, self._mine).any()]
            for k in (0, 1)
        )

    def settle(self, by: Array) -> None:
        """Set the factors so that the largest weights on either side are alike."""
        if not self._makers or not self._readers:
            return
        made, read = np.zeros_like(by), np.zeros_like(by)
        for tops, some in ((made, self._makers), (read, self._readers)):
            for layer, side in some:
                largest = side.largest(layer.scaled(by))
                tops[side.found] = np.maximum(tops[side.found], largest)
        both = self._mine[(made[self._mine] > 0) & (read[self._mine] > 0)]
        by[both] *= np.sqrt(made[both] / read[both])
