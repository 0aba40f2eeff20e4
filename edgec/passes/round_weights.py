"""Weights of a quantized graph, rounded so that their errors make up for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Graph
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.compensated_rounding import Factor, Moments, pulled, round_compensated
from edgec.passes.layer_recovery import Choice, Seen, recovered
from edgec.passes.quantized_layers import QuantizedLayer

__all__ = ["RoundWeights"]

_DAMPING = 0.01
_PULLS = (1.0, 0.1)
"""Dampings with which weights are moved before they are rounded."""


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

    Scales and bits are those that the graph has, and weights that are zero stay zero. Every
    fourth sample is held out and judges: which of several roundings a layer gets, plain
    rounding among them; each output channel, which keeps plain rounding if it is worse; and the
    whole graph. Left alone are layers whose weights others share, asymmetric weights,
    transposed convolutions, and layers with more than 2304 inputs to a sum.

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
        return recovered(graph, self.reference, self.samples, _best)


def _best(layer: QuantizedLayer, weight: Array, seen: Seen) -> Choice:
    """Return the rounding whose results are nearest to those of the float layer."""
    fit, judge = seen.fit, seen.judge
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
    real = weight.astype(np.float64).reshape(shape)
    for q in _roundings(real, fit, scale, limits):
        product = q * scale[:, :, None]
        free = np.rint(fit.bias(product) / steps)
        error = judge.error(product, free * steps)
        if error.sum() < best[0].sum():
            best = error, q, free
    error, q, free = best
    if q is old:
        return Choice.plain(layer)
    worse = error > plainly
    q, free = np.where(worse[:, :, None], old, q), np.where(worse, bias, free)
    integers = q.reshape(stored.weight.shape).astype(np.int32).astype(stored.weight.dtype)
    free = np.clip(free.reshape(-1), -(2**31), 2**31 - 1)
    return Choice("rounded", integers, free, stored.grid)


def _roundings(
    weight: Array, fit: Moments, scale: Array, limits: tuple[int, int]
) -> Iterator[Array]:
    """Yield integers ``[G, O, n]`` that are worth to be judged."""
    hessian, crossed = fit.centred()
    try:
        factor = Factor.of(hessian, _DAMPING)
    except np.linalg.LinAlgError:  # of rounding errors alone: there is nothing to go by
        return
    zeros = weight == 0 if (weight == 0).any() else None
    yield round_compensated(weight, factor, scale, limits, zeros)
    for damping in _PULLS:
        moved = pulled(weight, hessian, crossed, damping)
        yield round_compensated(moved, factor, scale, limits, zeros)
