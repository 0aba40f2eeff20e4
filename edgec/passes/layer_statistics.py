"""What layers read, in sums: the statistics that all structural compression shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, TensorType
from edgec.ops import MatMul
from edgec.passes.compensated_rounding import Moments, damped
from edgec.passes.divergence import Divergence
from edgec.passes.judging import held_out
from edgec.passes.linear_layers import LinearLayer, linear_layers, with_weights
from edgec.passes.patches import patches, places_of
from edgec.passes.walk import each_sample

__all__ = ["ExchangeRates", "LayerStatistics", "Statistics", "statistics", "too_large"]

_MOST_INPUTS = 2304
_MOST_BYTES = 1 << 30
_ROWS_PER_INPUT, _LEAST_ROWS = 32, 8192
_ROWS_AT_ONCE = 1024
_NOISE = 1e-2
_DAMPING = 1e-3


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """What one layer reads and yields, in sums over places of its results.

    Parameters
    ----------
    fit, judge
        Of the samples to fit to, and of those held out (:func:`judging.held_out`): with what
        the layer yields before its activation.
    """

    layer: LinearLayer
    fit: Moments
    judge: Moments

    @property
    def mean(self) -> Array:
        """The mean of what the layer reads, ``[G, n]``."""
        return np.asarray(self.fit.x / max(self.fit.count, 1))

    @property
    def power(self) -> float:
        """The variance of what the layer yields, summed over its channels; held out."""
        moments = self.judge
        n = max(moments.count, 1)
        return float((moments.yy / n - (moments.y / n) ** 2).sum())

    @property
    def output_moments(self) -> tuple[Array, Array]:
        """The mean and the variance of each result before the activation, ``[G, O]``."""
        n = max(self.fit.count, 1)
        mean = self.fit.y / n
        return np.asarray(mean), np.asarray(np.maximum(self.fit.yy / n - mean**2, 0))

    def error(self, weight: Array, bias: Array | None = None) -> float:
        """Return the mean squared error of other weights, summed over results; held out.

        Parameters
        ----------
        weight
            ``[G, O, n]``.
        bias
            ``[G, O]``; the one with the right means on the samples to fit to if not given.
        """
        free = self.fit.bias(weight) if bias is None else bias
        return float(self.judge.error(weight, free).sum())

    @property
    def bytes(self) -> int:
        """What the sums take."""
        parts = (self.fit, self.judge)
        return sum(m.nbytes for p in parts for m in (p.xx, p.yx, p.x, p.y, p.yy))


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of the layers of a graph, by the names of their results.

    Parameters
    ----------
    left_out
        Why a layer has none, by the name of its result.
    """

    layers: Mapping[str, LayerStatistics]
    left_out: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """What all sums take."""
        return sum(s.bytes for s in self.layers.values())


def statistics(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    *,
    names: Collection[str] | None = None,
    most_bytes: int = _MOST_BYTES,
) -> Statistics:
    """Return the statistics of layers, from one pass over the samples.

    Samples are taken one at a time. Of a layer with ``n`` inputs to a sum and ``G`` groups
    ``2 G n^2`` numbers are held in float64, and ``2 G O n`` for its ``O`` results a group. Of
    large results some places are drawn, always the same: there are many more than weights.

    Parameters
    ----------
    names
        The results of the layers that are wanted; all if not given.
    most_bytes
        What the sums may take. Layers are left out that would take more, the largest first.
    """
    wanted = {
        name: layer
        for name, layer in linear_layers(graph).items()
        if names is None or name in names
    }
    left_out = too_large(wanted, most_bytes)
    sums = {
        name: _Sums(layer, len(samples))
        for name, layer in wanted.items()
        if name not in left_out
    }
    read = dict.fromkeys(s.layer.node.inputs[0] for s in sums.values())
    computed = [v for v in read if v not in graph.inputs]
    held = held_out(len(samples))
    if computed:
        results = each_sample(Evaluator(graph, computed, optimize=True), samples)
    else:
        results = ({} for _ in samples)
    for k, (feed, found) in enumerate(zip(samples, results, strict=True)):
        for each in sums.values():
            name = each.layer.node.inputs[0].name
            each.add(found[name] if name in found else np.asarray(feed[name]), bool(held[k]))
    return Statistics({name: s.result() for name, s in sums.items()}, left_out)


def too_large(
    layers: Mapping[str, LinearLayer], most_bytes: int = _MOST_BYTES
) -> dict[str, str]:
    """Return why some layers would have no :func:`statistics`, asked for together."""
    found: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for name, layer in layers.items():
        groups, outputs, n = layer.weight.shape
        sizes[name] = 2 * 8 * groups * (n * n + n * outputs + n + 2 * outputs)
        if n > _MOST_INPUTS:
            found[name] = f"{n} inputs to a sum are more than {_MOST_INPUTS}"
    left = [n for n in sizes if n not in found]
    total = sum(sizes[n] for n in left)
    for name in sorted(left, key=lambda n: -sizes[n]):
        if total <= most_bytes:
            break
        total -= sizes[name]
        found[name] = f"sums of {sizes[name] / 2**20:.1f} MiB are more than there is room for"
    return found


class _Sums:
    """The sums of one layer as they grow."""

    def __init__(self, layer: LinearLayer, samples: int) -> None:
        self.layer = layer
        groups, _, n = layer.weight.shape
        self._parts = Moments.empty(groups, 0, n), Moments.empty(groups, 0, n)
        self._rows = -(-max(_ROWS_PER_INPUT * n, _LEAST_ROWS) // max(samples, 1))
        self._rng = np.random.default_rng(0)
        self._waiting: tuple[list[Array], list[Array]] = ([], [])

    def add(self, x: Array, held: bool) -> None:
        part = int(held)
        self._waiting[part].append(self._patches(x))
        if sum(a.shape[1] for a in self._waiting[part]) >= _ROWS_AT_ONCE:
            self._take(part)

    def result(self) -> LayerStatistics:
        for part in (0, 1):
            self._take(part)
        fit, judge = (_completed(m, self.layer) for m in self._parts)
        return LayerStatistics(self.layer, fit, judge)

    def _take(self, part: int) -> None:
        if self._waiting[part]:
            x = np.concatenate(self._waiting[part], axis=1)
            self._parts[part].add(x, np.zeros((*x.shape[:2], 0), np.float32))
            self._waiting[part].clear()

    def _patches(self, x: Array) -> Array:
        """Return some patches of an input, ``[G, places, n]``."""
        node, (groups, _, n) = self.layer.node, self.layer.weight.shape
        if isinstance(node.op, MatMul):
            rows = x.reshape(1, -1, n)
            return np.ascontiguousarray(rows[:, self._drawn(rows.shape[1])])
        kernel = node.inputs[1].type.ints
        shape = TensorType(node.inputs[0].type.dtype, x.shape)
        made = node.op.infer(shape, node.inputs[1].type)[0].ints
        # Of the results only the shape is needed: they follow from the sums.
        y = np.broadcast_to(np.float32(0), (made[0], groups, *made[2:]))
        return patches(node.op, kernel, x, y, groups, self._drawn(places_of(y)))[0]

    def _drawn(self, count: int) -> Array:
        return np.sort(self._rng.choice(count, min(self._rows, count), replace=False))


def _completed(moments: Moments, layer: LinearLayer) -> Moments:
    """Return sums over inputs with those over what a layer yields for them."""
    weight, bias, n = layer.weight, layer.bias, moments.count
    yx = weight @ moments.xx + bias[:, :, None] * moments.x[:, None, :]
    summed = np.einsum("gon,gn->go", weight, moments.x)
    square = np.einsum("gon,gon->go", weight @ moments.xx, weight)
    yy = square + 2 * bias * summed + n * bias**2
    return replace(moments, yx=yx, y=summed + n * bias, yy=yy)


class ExchangeRates:
    """What errors of layers cost: nats of the outputs for each unit of squared error.

    By finite differences: one layer yields a little noise, of the kind that it could make of
    what it reads, and the divergence on samples held out is measured. Divergence is quadratic
    in small errors, so that the cost of an error is the rate times its square. It stands for
    the Fisher information of the layer's results, which would need gradients.

    Parameters
    ----------
    divergence
        On samples held out, from the graph itself.
    """

    def __init__(self, graph: Graph, found: Statistics, divergence: Divergence) -> None:
        self._graph, self._statistics, self._divergence = graph, found, divergence

    def of(self, name: str) -> float:
        """Return what noise of a layer costs: nats for each unit of squared error."""
        layer = self._statistics.layers[name]
        return self.with_weights(name, layer.layer.weight + _noise(layer))

    def with_weights(self, name: str, weight: Array, bias: Array | None = None) -> float:
        """Return what the error of given weights costs, for each unit of it."""
        layer = self._statistics.layers[name]
        error = layer.error(weight, bias)
        return self.nats(name, weight, bias) / error if error > 0 else 0.0

    def nats(self, name: str, weight: Array, bias: Array | None = None) -> float:
        """Return what the outputs lose with other weights in one layer."""
        layer = self._statistics.layers[name]
        free = layer.fit.bias(weight) if bias is None else bias
        changed = with_weights(self._graph, {name: (weight, free)})
        return float(self._divergence.of(changed).mean())


def _noise(found: LayerStatistics) -> Array:
    """Return changes of weights whose results are noise of a hundredth of the power."""
    covariance, _ = found.fit.centred()
    lower = np.linalg.cholesky(damped(covariance, _DAMPING))
    drawn = np.random.default_rng(0).standard_normal(found.layer.weight.shape)
    noise = np.linalg.solve(lower.transpose(0, 2, 1), drawn.transpose(0, 2, 1))
    change = noise.transpose(0, 2, 1)
    error = found.error(found.layer.weight + change)
    scale = np.sqrt(_NOISE * found.power / error) if error > 0 else 0.0
    return np.asarray(scale * change)
