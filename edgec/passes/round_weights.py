"""Weights of a quantized graph, rounded so that their errors make up for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Graph, Node
from edgec.numerics import sqnr
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.channel_means import Yielded, best_bias, places
from edgec.passes.compensated_rounding import Factor, Moments, pulled, round_compensated
from edgec.passes.judging import LEAST_SAMPLES, held_out, judged
from edgec.passes.patches import groups_of, patches, places_of
from edgec.passes.quantized_layers import (
    Parameters,
    QuantizedLayer,
    quantized_layers,
    with_parameters,
)
from edgec.passes.walk import Walk

__all__ = ["RoundWeights"]

_DAMPING = 0.01
_PULLS = (1.0, 0.1)
"""Dampings with which weights are moved before they are rounded."""

_WHOLE = 48
"""Samples up to which the float model's results are held in float32, which is faster."""

_MOST_INPUTS = 2304
_ROWS_PER_INPUT, _LEAST_ROWS = 32, 8192


@dataclass(frozen=True, slots=True)
class RoundWeights(Pass):
    """Choose the integers of each layer's weights by what they do to its results.

    Rounded to nearest, each weight is as near as can be, and their sum is not. Here the weights
    of an output channel are rounded one after the other, and those still to come make up for
    the errors of those before, as the covariance ``H`` of what the layer reads tells: small is
    ``(w - s q) H (w - s q)^T``. Layers are taken in order, each on what the rounded layers
    before it yield, and the float model's own results are what it is to come near to: the
    weights may first be pulled towards ``w + cov(y - w x, x) (H + d)^-1``, which undoes some of
    what the layers before have lost. Then the bias is set as :class:`CorrectBiases` does.

    Scales and bits are those that the graph has. Every fourth sample is held out and judges:
    which of several roundings a layer gets, plain rounding among them; each output channel,
    which keeps plain rounding if it is worse; and the whole graph. Left alone are layers whose
    weights others share, asymmetric weights, transposed convolutions, and layers with more
    than 2304 inputs to a sum.

    Lossy: the graph computes something else, nearer to the float model. The ratios on record
    are those of each layer's results before its activation, on samples held out.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.

    References
    ----------
    Frantar et al., arXiv:2210.17323 (GPTQ) and arXiv:2208.11580 (OBQ, sequential form).
    """

    name: ClassVar[str] = "round-weights"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        layers = {layer.node.output.name: layer for layer in quantized_layers(graph)}
        if not layers or len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        walk, beside = Walk(graph, self.samples), _Beside(self.reference, self.samples)
        changes: dict[str, tuple[QuantizedLayer, Parameters]] = {}
        records: list[LayerRecord] = []
        for node in walk.nodes:
            layer = layers.get(node.outputs[0].name)
            real = None if layer is None else beside.reach(layer)
            if layer is None or real is None:
                walk.hold(node, walk.run(node))
                continue
            now, record = _rounded(layer, real, walk, beside)
            records.append(record)
            if now is not layer.stored:
                changes[node.output.name] = layer, now
        made = with_parameters(graph, changes)
        return judged(self.reference, graph, made, self.samples, records)


class _Beside:
    """The float model, walked through beside the quantized one."""

    def __init__(self, graph: Graph, samples: Sequence[Mapping[str, Array]]) -> None:
        self.graph = graph
        self._walk = Walk(graph, samples, half=len(samples) > _WHOLE)
        self._left = {n.outputs[0].name: n for n in self._walk.nodes}

    def reach(self, layer: QuantizedLayer) -> Node | None:
        """Go on to the float layer that a layer was made from, and return it."""
        if layer.name not in self._left:
            return None
        for name, node in list(self._left.items()):
            if name == layer.name:
                return node
            self._walk.hold(node, self._walk.run(node))
            del self._left[name]
        return None

    def results(self, layer: QuantizedLayer, node: Node) -> Iterator[tuple[Array, Array]]:
        """Yield what a float layer yields on each sample, before and behind its activation."""
        plain, name = replace(node, op=layer.plain(layer.stored)[0].op), node.output.name
        found = (r[name] for r in self._walk.run(plain))
        both = ({name: layer.behind_activation(y), "": y} for y in found)
        for result in self._walk.passed(node, both):
            yield result[""], result[name]
        del self._left[name]


def _rounded(
    layer: QuantizedLayer, real: Node, walk: Walk, beside: _Beside
) -> tuple[Parameters, LayerRecord]:
    """Return what a layer is to store, and go on behind it in both walks."""
    weight = beside.graph.constant(real.inputs[1])
    seen, want = _seen(layer, walk, beside.results(layer, real))
    stored, name = layer.stored, layer.node.output.name
    choice = _Choice.plain(layer)
    if seen is not None and weight is not None and _may_round(layer):
        choice = _best(layer, weight, *seen)
    rounded = replace(stored, weight=choice.weight, bias=choice.bias.astype(np.int32))
    found = Yielded([r[name] for r in walk.run(*layer.plain(rounded))], layer.bounds)
    steps = np.array(layer.bias_grid(stored.grid).scale)
    biases = [choice.bias, stored.bias.astype(np.float64)]
    bias, *_ = best_bias(found, want, steps, biases)
    moved = (bias - choice.bias) * steps
    walk.hold(layer.node, ({name: y} for y in found.moved(moved)))
    now = replace(rounded, bias=bias.astype(np.int32))
    same = choice.weight is stored.weight, bool((now.bias == stored.bias).all())
    ratios = (0.0, 0.0) if seen is None else _ratios(layer, seen[1], stored, now)
    if all(same):
        return stored, LayerRecord(layer.node.layer, *ratios, "plain")
    kept = "corrected" if same[0] else choice.name
    return now, LayerRecord(layer.node.layer, *ratios, kept)


def _may_round(layer: QuantizedLayer) -> bool:
    grid = layer.stored.grid
    return not layer.shared and not any(grid.zero_point) and grid.axis in (None, 0)


def _seen(
    layer: QuantizedLayer, walk: Walk, results: Iterator[tuple[Array, Array]]
) -> tuple[tuple[Moments, Moments] | None, Array]:
    """Return moments to fit to and to judge by, and the means of the float layer's channels.

    Of large results some places are drawn: there are many more of them than weights.
    """
    op, kernel = layer.node.op, layer.stored.weight.shape
    inner = layer.stored.weight[0].size
    rng = np.random.default_rng(0)
    both: tuple[Moments, Moments] | None = None
    means: list[Array] = []
    held = held_out(walk.count)
    rows = -(-max(_ROWS_PER_INPUT * inner, _LEAST_ROWS) // walk.count)
    for k, (x, (y, z)) in enumerate(zip(walk.inputs(layer.node, 0), results, strict=True)):
        means.append(z.mean(places(z.ndim), dtype=np.float64))
        groups = groups_of(op, x.shape[1])
        if groups is None or inner > _MOST_INPUTS:
            continue
        if both is None:
            shape = groups, kernel[0] // groups, inner
            both = Moments.empty(*shape), Moments.empty(*shape)
        count = places_of(y)
        at = np.sort(rng.choice(count, min(rows, count), replace=False))
        both[int(held[k])].add(*patches(op, kernel, x, y, groups, at))
    return both, np.array(means)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Integers for a layer: the weights as stored, the bias in float64."""

    name: str
    weight: Array
    bias: Array

    @classmethod
    def plain(cls, layer: QuantizedLayer) -> _Choice:
        return cls("plain", layer.stored.weight, layer.stored.bias.astype(np.float64))


def _best(layer: QuantizedLayer, weight: Array, fit: Moments, judge: Moments) -> _Choice:
    """Return the rounding whose results are nearest to those of the float layer."""
    stored, shape = layer.stored, fit.yx.shape
    top = int(np.abs(stored.weight.astype(np.int64)).max(initial=0))
    lowest, highest = layer.dtype.limits
    limits = max(-top, lowest), min(top, highest)
    scale = np.broadcast_to(stored.grid.scale, shape[0] * shape[1]).reshape(shape[:2])
    steps = np.broadcast_to(layer.bias_grid(stored.grid).scale, scale.size).reshape(shape[:2])
    old = stored.weight.astype(np.float64).reshape(shape)
    bias = stored.bias.astype(np.float64).reshape(shape[:2])
    plainly = judge.error(old * scale[:, :, None], bias * steps)
    best = plainly, old, bias
    for q in _roundings(weight.astype(np.float64).reshape(shape), fit, scale, limits):
        product = q * scale[:, :, None]
        free = np.rint(fit.bias(product) / steps)
        error = judge.error(product, free * steps)
        if error.sum() < best[0].sum():
            best = error, q, free
    error, q, free = best
    if q is old:
        return _Choice.plain(layer)
    worse = error > plainly
    q, free = np.where(worse[:, :, None], old, q), np.where(worse, bias, free)
    integers = q.reshape(stored.weight.shape).astype(np.int32).astype(stored.weight.dtype)
    return _Choice("rounded", integers, np.clip(free.reshape(-1), -(2**31), 2**31 - 1))


def _roundings(
    weight: Array, fit: Moments, scale: Array, limits: tuple[int, int]
) -> Iterator[Array]:
    """Yield integers ``[G, O, n]`` that are worth to be judged."""
    hessian, crossed = fit.centred()
    try:
        factor = Factor.of(hessian, _DAMPING)
    except np.linalg.LinAlgError:  # of rounding errors alone: there is nothing to go by
        return
    yield round_compensated(weight, factor, scale, limits)
    for damping in _PULLS:
        moved = pulled(weight, hessian, crossed, damping)
        yield round_compensated(moved, factor, scale, limits)


def _ratios(
    layer: QuantizedLayer, judge: Moments, before: Parameters, after: Parameters
) -> tuple[float, float]:
    shape = judge.yx.shape
    found: list[float] = []
    for p in (before, after):
        grids = p.grid, layer.bias_grid(p.grid)
        scale, steps = (np.broadcast_to(g.scale, shape[0] * shape[1]) for g in grids)
        weight = p.weight.reshape(len(scale), -1) * scale[:, None]
        error = judge.error(weight.reshape(shape), (p.bias * steps).reshape(shape[:2]))
        found.append(sqnr(float(judge.yy.sum() / max(judge.count, 1)), float(error.sum())))
    return found[0], found[1]
