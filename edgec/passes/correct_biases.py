"""Biases of a quantized graph, corrected by what its float model computes on average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, Node, Value
from edgec.ops import Activation, ReduceMean
from edgec.passes.base import Lossy, Pass, Promise
from edgec.passes.quantized_layers import (
    Parameters,
    QuantizedLayer,
    quantized_layers,
    with_parameters,
)
from edgec.passes.walk import Walk, output_error

__all__ = ["CorrectBiases"]

_CHANNELS = 1
_TURNS = 6
_LEAST_SAMPLES = 8
_HELD_OUT = slice(3, None, 4)


@dataclass(frozen=True, slots=True)
class CorrectBiases(Pass):
    """Add to each layer's bias what quantization takes off its result on average.

    Rounded weights move the mean of a channel, and so do the layers before. The bias of each
    channel moves until the mean of what its layer yields, over the samples and all places, is
    that of the float model: with an activation the mean behind it, which is what the next layer
    reads. Layers are taken in order, each on what the corrected layers before it yield. Scales
    stay; a bias stays on its grid.

    A mean over few samples is a guess, and many small wrong corrections add up to noise. So a
    correction ``d`` with standard error ``e`` is shrunk to ``d * max(0, 1 - e^2 / d^2)``; every
    fourth sample is held out, and a layer whose means are no nearer on those keeps its bias, as
    the whole graph does if its outputs are no nearer.

    Lossy: the graph computes something else, in the mean what the float model does.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    samples
        One array for each graph input, for each sample. Fewer than eight are too few to hold
        some out, or to tell an error from chance: nothing is changed.

    References
    ----------
    Nagel et al., arXiv:1906.04721, section 4.2; empirical form. The factor is that of James
    and Stein (1961), for each channel alone.
    """

    name: ClassVar[str] = "correct-biases"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)

    @override
    def run(self, graph: Graph) -> Graph:
        layers = {layer.node.output.name: layer for layer in quantized_layers(graph)}
        if not layers or len(self.samples) < _LEAST_SAMPLES:
            return graph
        names = {layer.name for layer in layers.values()}
        wanted = _means(self.reference, names, self.samples)
        walk = Walk(graph, self.samples)
        changes: dict[str, tuple[QuantizedLayer, Parameters]] = {}
        for node in walk.nodes:
            layer = layers.get(node.outputs[0].name)
            want = None if layer is None else wanted.get(layer.name)
            if layer is None or want is None:
                walk.hold(node, walk.run(node))
                continue
            old = layer.stored
            results = [r[node.output.name] for r in walk.run(*layer.plain(old))]
            found = _Found(results, layer.bounds)
            steps = np.array(layer.bias_grid(old.grid).scale)
            lost = _lost(found, want)
            bias = np.clip(np.rint(old.bias + lost / steps), -(2**31), 2**31 - 1)
            moved = (bias - old.bias) * steps
            if _error(found.means(moved), want) < _error(found.means(0 * moved), want):
                changes[node.output.name] = layer, replace(old, bias=bias.astype(np.int32))
            else:
                moved *= 0
            walk.hold(node, ({node.output.name: y} for y in found.moved(moved)))
        made = with_parameters(graph, changes)
        held = self.samples[_HELD_OUT]
        plainly, now = (output_error(self.reference, g, held) for g in (graph, made))
        return made if now < plainly else graph


@dataclass(frozen=True, slots=True)
class _Found:
    """What a layer yields before its activation, on every sample."""

    results: Sequence[Array]
    bounds: tuple[float, float]

    def moved(self, by: Array) -> Iterator[Array]:
        """Yield the results behind the activation, with each channel's bias moved."""
        along = by.reshape(-1, *(1,) * (self.results[0].ndim - 2)).astype(np.float32)
        for y in self.results:
            yield np.clip(y + along, *self.bounds).astype(np.float32)

    def means(self, by: Array) -> Array:
        """Return the mean of each channel behind the activation, for each sample."""
        places = _places(self.results[0].ndim)
        return np.array([y.mean(places, dtype=np.float64) for y in self.moved(by)])

    def free(self, by: Array) -> Array:
        """Return the share of each channel that the activation does not cut off."""
        places = _places(self.results[0].ndim)
        low, high = self.bounds
        shares = [((y > low) & (y < high)).mean(places) for y in self.moved(by)]
        return np.asarray(np.array(shares).mean(axis=0))


def _lost(found: _Found, want: Array) -> Array:
    """Return what to add to each channel so that its mean behind the activation is right.

    Newton's method: what the activation cuts off does not move with the bias. A channel that is
    cut off nearly everywhere moves by no more than one of which a fifth is left would. What is
    found is shrunk by its standard error over the samples that are not held out.
    """
    fit = _fit(len(want))
    lost = np.zeros(want.shape[1])
    turns = 1 if found.bounds == Activation.NONE.bounds else _TURNS
    for _ in range(turns):
        slope = np.maximum(found.free(lost), 0.2)
        missing = (want - found.means(lost))[fit] / slope
        lost += missing.mean(axis=0)
    chance = missing.var(axis=0, ddof=1) / len(missing)
    return np.asarray(lost * np.maximum(0, 1 - chance / np.maximum(lost**2, 1e-30)))


def _fit(count: int) -> Array:
    """Return which samples a correction is computed from: those that are not held out."""
    fit = np.ones(count, bool)
    fit[_HELD_OUT] = False
    return fit


def _error(means: Array, want: Array) -> float:
    """Return how far means are from the float model's on the samples held out."""
    missing = (want - means)[_HELD_OUT].mean(axis=0)
    return float((missing**2).sum())


def _means(
    graph: Graph, names: set[str], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """Return the mean of each channel of what some layers yield, by name: ``[samples, C]``."""
    nodes: list[Node] = []
    found: dict[str, Value] = {}
    for node in graph.nodes:
        nodes.append(node)
        name, value = node.outputs[0].name, node.outputs[0]
        if name in names:
            reduce = ReduceMean(_places(value.type.rank), keepdims=False)
            found[name] = Value(f"{name}/mean", reduce.infer(value.type)[0])
            nodes.append(Node(reduce, (value,), (found[name],)))
    whole = replace(graph, nodes=tuple(nodes), outputs=tuple(found.values()))
    evaluator = Evaluator(whole, optimize=True)
    means: dict[str, list[Array]] = {name: [] for name in found}
    for sample in samples:
        result = evaluator.run(sample)
        for name, mean in found.items():
            means[name].append(result[mean.name].astype(np.float64))
    return {name: np.array(rows) for name, rows in means.items()}


def _places(rank: int) -> tuple[int, ...]:
    """Return all axes but that of the channels."""
    return tuple(axis for axis in range(rank) if axis != _CHANNELS)
