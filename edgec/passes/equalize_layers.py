"""Layers whose channels are scaled so that the weights of each are alike in size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.ir import Array, Graph
from edgec.passes.base import LayerRecord, Pass, Promise, Within
from edgec.passes.factor_tracing import Part, Trace, trace

__all__ = ["EqualizeLayers"]

_SWEEPS = 20
_SETTLED = 1e-3
_MOST = 1024.0
"""Factors stay between this and its inverse: what is next to nothing stays so."""


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
    channels, and so ends a chain. Within rounding. Ratios on record are those of the weights
    with 8 bits and one scale: of the squared weights to the squared rounding steps.
    """

    name: ClassVar[str] = "equalize-layers"
    promise: ClassVar[Promise] = Within(1e-4)
    peaks: object = None

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        found = trace(graph, self.peaks or {})
        by = _factors(found)
        if (by == 1).all():
            return graph, ()
        return found.rescaled(by), ()

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return tuple(
            Diagnostic(f"its channels cannot be scaled: {cause}", node.layer)
            for node, cause in trace(graph).refused()
        )


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
        self.read, self.made = (
            _Side(found.factors.find(n), weight.ndim) for n in (part.read, part.made)
        )
        shape = np.broadcast_shapes(self.read.numbers.shape, self.made.numbers.shape)
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
        self.size = np.abs(weight).max(axes, keepdims=True, initial=0.0).astype(np.float32)

    def scaled(self, by: Array) -> Array:
        """Return the largest weights, relative to the largest of all."""
        size = self.size * (by[self.read.numbers] / by[self.made.numbers])
        return np.asarray(size / max(float(size.max()), np.finfo(np.float32).tiny))


def _factors(found: Trace) -> Array:
    """Return the factor of each number with which weights are alike."""
    layers: list[_Layer] = []
    for part in found.weights:
        weight = found.graph.constant(part.node.inputs[part.operand])
        if weight is not None and weight.size:
            layers.append(_Layer(part, weight, found))
    by = np.ones(found.factors.count)
    lo, hi = np.full(len(by), 1/_MOST), np.full(len(by), _MOST)
    for numbers, least in found.least:
        roots = found.factors.find(numbers)
        np.maximum.at(lo, roots, np.minimum(least, 1))
        hi[roots[least >= 1]] = 1
    lo = np.minimum(lo, hi)
    for _ in range(_SWEEPS):
        before = by.copy()
        for layer in layers:
            mine = layer.made.found[found.factors.free(layer.made.found)]
            made, read = np.zeros_like(by), np.zeros_like(by)
            for other in layers:
                _raise(made, other.made, mine, other, by)
                _raise(read, other.read, mine, other, by)
            both = mine[(made[mine] > 0) & (read[mine] > 0)]
            by[both] *= np.sqrt(made[both] / read[both])
        by = np.clip(by, lo, hi)
        if np.abs(np.log(by / before)).max() < _SETTLED:
            break
    return by


def _raise(tops: Array, side: _Side, mine: Array, layer: _Layer, by: Array) -> None:
    """Raise the largest weights seen of some factors to those of a layer."""
    if len(np.intersect1d(side.found, mine)):
        tops[side.found] = np.maximum(tops[side.found], side.largest(layer.scaled(by)))
