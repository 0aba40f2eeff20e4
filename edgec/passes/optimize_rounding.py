"""Weights of a quantized graph, rounded up or down by gradient descent."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Graph
from edgec.ops import Convolution, FullyConnected
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.compensated_rounding import damped, pulled
from edgec.passes.layer_recovery import MOST_INPUTS, Choice, Seen, recovered
from edgec.passes.patches import groups_of
from edgec.passes.quantized_layers import QuantizedLayer

__all__ = ["ITERATIONS", "OptimizeRounding", "optimizing_seconds"]

ITERATIONS = 1000
"""More of them find no better rounding of the benchmarks' models."""

_PULLS = (10.0, 1.0, 0.1, 0.01)
_DAMPING = 0.01
_PROBED = 4


@dataclass(frozen=True, slots=True)
class OptimizeRounding(Pass):
    """Round each weight up or down, all of a layer at once, by what that does to its results.

    Each weight may become ``s (b + h)``, with ``b`` such that the integer it has and the next
    one towards its real number are ``b`` and ``b + 1``. ``h`` begins between these two, and is
    ``clip(1.2 sigmoid(v) - 0.1, 0, 1)``. Descent along ``v`` makes ``(t - q) H (t - q)^T``
    small, with ``q`` the weights, ``H`` the covariance of what the layer reads and ``t`` the
    weights pulled towards those with which the layer comes nearest to the float model's
    results, as far as held-out samples say that it pays. A penalty ``1 - |2 h - 1|^b`` drives
    ``h`` to 0 or 1 at last: it waits for a fifth of the iterations, and ``b`` falls from 20
    to 2.

    The covariance tells all that there is to know of a product, and nothing is drawn by chance.
    That an activation cuts some results off is left out: to fit those that are left takes draws
    of few, whose noise costs more than that gains.

    Scales and bits are those that the graph has. Every fourth sample is held out and judges:
    each output channel, which keeps its integers if it is worse with others; and the whole
    graph. So this comes last: it can only add to what :class:`RoundWeights` finds. Left alone
    are the layers that are left alone there.

    Lossy: the graph computes something else, nearer to the float model. The ratios on record
    are those of each layer's results before its activation, on samples held out.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    iterations
        How many steps each layer's weights take.

    References
    ----------
    Nagel et al., arXiv:2004.10568 (AdaRound). Kingma and Ba, arXiv:1412.6980 (Adam).
    """

    name: ClassVar[str] = "optimize-rounding"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    iterations: int = ITERATIONS

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        return recovered(graph, self.reference, self.samples, self._optimized)

    def _optimized(self, layer: QuantizedLayer, weight: Array, seen: Seen) -> Choice:
        """Return other integers where held-out samples are nearer with them."""
        stored, fit, judge = layer.stored, seen.fit, seen.judge
        shape = fit.yx.shape
        top = int(np.abs(stored.weight.astype(np.int64)).max(initial=0))
        lowest, highest = layer.dtype.limits
        limits = max(-top, lowest), min(top, highest)
        if limits[0] >= limits[1]:
            return Choice.plain(layer)
        scale = np.broadcast_to(stored.grid.scale, shape[0] * shape[1]).reshape(shape[:2])
        steps = np.broadcast_to(layer.bias_grid(stored.grid).scale, scale.size)
        steps = steps.reshape(shape[:2])
        old = stored.weight.astype(np.float64).reshape(shape)
        target = _target(weight.astype(np.float64).reshape(shape), seen) / scale[:, :, None]
        descent = _Descent(old, target, fit.centred()[0], limits)
        for k in range(self.iterations):
            descent.step(k / self.iterations)
        found = np.where((weight == 0).reshape(shape), old, descent.integers())
        product = found * scale[:, :, None]
        bias, before = np.rint(fit.bias(product) / steps), stored.bias.reshape(shape[:2])
        now = judge.error(product, bias * steps)
        worse = now >= judge.error(old * scale[:, :, None], before * steps)
        if worse.all():
            return Choice.plain(layer)
        found, bias = np.where(worse[:, :, None], old, found), np.where(worse, before, bias)
        integers = found.reshape(stored.weight.shape).astype(np.int32)
        bias = np.clip(bias.reshape(-1), -(2**31), 2**31 - 1)
        return Choice("optimized", integers.astype(stored.weight.dtype), bias, stored.grid)


def _target(weight: Array, seen: Seen) -> Array:
    """Return the real weights that held-out samples are nearest with."""
    hessian, crossed = seen.fit.centred()
    offered = [weight, *(pulled(weight, hessian, crossed, d) for d in _PULLS)]
    errors = [float(seen.judge.error(w, seen.fit.bias(w)).sum()) for w in offered]
    return offered[int(np.argmin(errors))]


_LOW, _HIGH = np.float32(-0.1), np.float32(1.1)
"""What the sigmoid is stretched to, so that it reaches 0 and 1."""

_RATE = np.float32(0.01)
_MEAN, _SQUARE, _TINY = np.float32(0.9), np.float32(0.999), np.float32(1e-12)
_WAIT = 0.2
_FIRST_POWER, _LAST_POWER = 20.0, 2.0
_PENALTY = 0.3
"""Beside the curvature along one weight, which is 1."""


class _Descent:
    """Weights between two integers each, which settle for one of them step by step.

    Parameters
    ----------
    old
        The integers to begin with, ``[G, O, n]``.
    target
        Real numbers that they are to come near to, in steps of the grid.
    hessian
        How much it costs to be off, ``[G, n, n]``.
    limits
        The least and the largest integer.
    """

    def __init__(
        self, old: Array, target: Array, hessian: Array, limits: tuple[int, int]
    ) -> None:
        below = np.where(target >= old, old, old - 1)
        self._base = np.clip(below, limits[0], limits[1] - 1).astype(np.float32)
        self._target = target.astype(np.float32)
        whole = damped(hessian, _DAMPING)
        each = np.einsum("gnn->g", whole) / whole.shape[1]
        self._hessian = (whole / each[:, None, None]).astype(np.float32)
        start = ((old - self._base) + np.clip(target - self._base, 0, 1)) / 2
        start = np.clip(start, 0.02, 0.98)
        self._v = -np.log((_HIGH - _LOW) / (start - _LOW) - 1).astype(np.float32)
        self._mean, self._square = np.zeros_like(self._v), np.zeros_like(self._v)
        self._count = 0

    def step(self, done: float) -> None:
        """Move on; `done` is the share of the steps behind."""
        sigmoid = 1 / (1 + np.exp(-self._v))
        stretched = (_HIGH - _LOW) * sigmoid + _LOW
        h = np.clip(stretched, 0, 1)
        slope = (self._base + h - self._target) @ self._hessian
        if done > _WAIT:
            along = (1 + math.cos(math.pi * (done - _WAIT) / (1 - _WAIT))) / 2
            power = _LAST_POWER + (_FIRST_POWER - _LAST_POWER) * along
            d = 2 * h - 1
            slope -= (
                np.float32(2 * _PENALTY * power)
                * np.abs(d) ** np.float32(power - 1)
                * (np.sign(d))
            )
        slope *= (_HIGH - _LOW) * sigmoid * (1 - sigmoid) * (stretched == h)
        self._count += 1
        self._mean += (1 - _MEAN) * (slope - self._mean)
        self._square += (1 - _SQUARE) * (slope * slope - self._square)
        mean = self._mean / (1 - _MEAN**self._count)
        square = self._square / (1 - _SQUARE**self._count)
        self._v -= _RATE * mean / (np.sqrt(square) + _TINY)

    def integers(self) -> Array:
        """Return what the weights are nearest to, ``[G, O, n]``, float64."""
        return np.asarray(self._base + (self._v >= 0), np.float64)


def optimizing_seconds(graph: Graph, iterations: int = ITERATIONS) -> tuple[float, int]:
    """Return how long this machine will take for the layers of a float graph, and how many.

    A few steps are taken for each shape of weights that there is.
    """
    seconds, layers = 0.0, 0
    known: dict[tuple[int, int, int], float] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Convolution | FullyConnected):
            continue
        weight, channels = graph.constant(node.inputs[1]), node.inputs[0].type.shape[1]
        if weight is None or not isinstance(channels, int):
            continue
        groups, inner = groups_of(node.op, channels), weight[0].size
        if groups is None or inner > MOST_INPUTS:
            continue
        shape = groups, len(weight) // groups, inner
        if shape not in known:
            known[shape] = _probed(shape)
        seconds += known[shape] * iterations
        layers += 1
    return seconds, layers


def _probed(shape: tuple[int, int, int]) -> float:
    """Return how long a step takes for weights of a shape."""
    groups, _, inner = shape
    hessian = np.broadcast_to(np.eye(inner), (groups, inner, inner))
    descent = _Descent(np.zeros(shape), np.full(shape, 0.4), hessian, (-7, 7))
    descent.step(0.9)  # with memory that is new to the process, the first takes longer
    start = time.perf_counter()
    for _ in range(_PROBED):
        descent.step(0.9)
    return (time.perf_counter() - start) / _PROBED
