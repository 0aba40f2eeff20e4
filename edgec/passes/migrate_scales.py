"""Large activations, made smaller at the cost of the weights that they meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, Value
from edgec.passes.base import LayerRecord, Pass, Promise, Within
from edgec.passes.equalize_layers import LEAST_FACTOR, MOST_FACTOR, decibels, refusals
from edgec.passes.factor_moves import ranked
from edgec.passes.factor_trace import Part, Trace
from edgec.passes.factor_tracing import trace

__all__ = ["MigrateScales"]

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class MigrateScales(Pass):
    """Divide channels with large activations, and multiply the weights that read them.

    One scale for all of an activation has to span its largest channel, and transformers have
    few channels that are many times as large as all others. Channel ``j`` of what a layer reads
    is divided by ``s = x^a / w^(1 - a)``, where ``x`` is the largest activation in the channel
    and ``w`` the largest weight that reads it, each relative to the largest of all channels;
    the strength ``a`` says how much of the difference weights take over. What made the channel
    takes the factor up: scale and offset of a LayerNorm or RMSNorm, a factor for each channel,
    or a layer with weights before it, through all that :class:`EqualizeLayers` goes through,
    attention from values to the product behind included.

    Layers that read one value have one factor for each of its channels. If anything else reads
    it that takes the values as they are, such as the residual sum behind a LayerNorm of BERT,
    it stays. Within rounding. Ratios on record are those of what each layer reads, the largest
    of each channel to the rounding error of 8 bits: their mean in decibels.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample.
    strength
        ``a``, from 0 to 1.

    References
    ----------
    Xiao et al., arXiv:2211.10438 (SmoothQuant).
    """

    name: ClassVar[str] = "migrate-scales"
    promise: ClassVar[Promise] = Within(1e-4)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    strength: float = 0.5

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        found = trace(graph)
        reads = _reads(found, self.samples)
        by = self._factors(found, reads)
        if np.abs(np.log(by)).max() < np.log(LEAST_FACTOR):
            return graph, ()
        return found.rescaled(by), tuple(read.record(by) for read in reads)

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return refusals(trace(graph))

    def _factors(self, found: Trace, reads: Sequence[_Read]) -> Array:
        """Return the factor of each number."""
        x, w = np.zeros((2, found.factors.count))
        for read in reads:
            np.maximum.at(x, read.numbers, read.tops / max(float(read.tops.max()), _TINY))
            if read.weights is not None:
                tops = read.weights / max(float(read.weights.max()), _TINY)
                np.maximum.at(w, read.weight_numbers, tops)
        some = (x > _TINY) & found.factors.free(np.arange(len(x)))
        w[w <= _TINY] = 1.0  # weights of none have to do with the channel
        by = np.ones(len(x))
        by[some] = x[some] ** self.strength / w[some] ** (1 - self.strength)
        return np.clip(by, 1 / MOST_FACTOR, MOST_FACTOR)


class _Read(NamedTuple):
    """What a layer reads.

    Parameters
    ----------
    numbers, tops
        Factors of the channels, and the largest activations there.
    weight_numbers, weights
        Factors of the channels as they lie along the weights, and the largest weights;
        ``None`` where each channel has weights of its own, whose scales are its own too.
    """

    part: Part
    numbers: Array
    tops: Array
    weight_numbers: Array
    weights: Array | None

    def record(self, by: Array) -> LayerRecord:
        """Return what the factors do to what the layer reads."""
        before, after = (
            decibels(size / max(float(size.max()), _TINY))
            for size in (self.tops, self.tops / by[self.numbers])
        )
        kept = "migrated" if (by[self.numbers] != 1).any() else "plain"
        return LayerRecord(self.part.node.layer, before, after, kept)


def _reads(found: Trace, samples: Sequence[Mapping[str, Array]]) -> list[_Read]:
    """Return what each layer reads that can be scaled."""
    parts: list[tuple[Part, Value, Array]] = []
    for part in found.weights:
        value = part.node.inputs[1 - part.operand]
        weight = found.graph.constant(part.node.inputs[part.operand])
        if weight is not None and found.factors.free(found.numbers[value]).any():
            parts.append((part, value, weight))
    tops = _tops(found, list(dict.fromkeys(value for _, value, _ in parts)), samples)
    reads: list[_Read] = []
    for part, value, weight in parts:
        if value.name not in tops:
            continue
        read, made = (ranked(n, weight.ndim) for n in (part.read, part.made))
        largest: Array | None = None
        if read.shape != made.shape or read.size == 1:
            axes = tuple(i for i, n in enumerate(read.shape) if n == 1)
            largest = np.abs(weight).max(axes, keepdims=True)
            largest = np.broadcast_to(largest, read.shape)
        numbers = found.factors.find(found.numbers[value])
        reads.append(_Read(part, numbers, tops[value.name], found.factors.find(read), largest))
    return reads


def _tops(
    found: Trace, values: Sequence[Value], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """Return the largest magnitude at the places of each factor, by value."""
    computed = [v for v in values if v in found.graph.producers]
    if not computed:
        return {}
    evaluator = Evaluator(found.graph, computed, optimize=True)
    shapes = {v.name: found.numbers[v].shape for v in computed}
    tops: dict[str, Array] = {}
    for sample in samples:
        for name, array in evaluator.run(sample).items():
            axes = tuple(i for i, n in enumerate(shapes[name]) if n == 1)
            top = np.abs(array).max(axes, keepdims=True)
            tops[name] = np.maximum(tops.get(name, top), top)
    return tops
