"""Scales of quantized weights, corrected by what their layers are to yield."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Graph, QuantParams
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.layer_recovery import Choice, Seen, recovered
from edgec.passes.quantized_layers import QuantizedLayer

__all__ = ["CorrectScales"]

_LEAST, _MOST = 2 / 3, 1.5
"""Factors of a scale; kernels bear no wide range of them."""

_NOTHING = 1e-6
"""A scale that small beside the largest belongs to a channel of weights that are all zero."""


@dataclass(frozen=True, slots=True)
class CorrectScales(Pass):
    """Stretch each channel of a layer until it varies as the float layer's does.

    The integers of the weights stay, and their scale ``s`` becomes ``k s`` with
    ``k = cov(y, q) / var(q)``, where ``q`` is what the quantized channel yields and ``y`` what
    the float layer does: the least squares. The bias follows from the means, on its new grid.
    Where all channels have one scale it gets one factor. Layers are taken in order, each on
    what the corrected layers before it yield.

    Every fourth sample is held out and judges: each output channel, which keeps its scale if
    it is worse with another; and the whole graph. Left alone are layers whose weights others
    share, asymmetric weights, transposed convolutions, and layers with more than 2304 inputs to
    a sum; of these only biases are corrected. Not for schemes whose scales are powers of two.

    Lossy: the graph computes something else, nearer to the float model. The ratios on record
    are those of each layer's results before its activation, on samples held out.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    """

    name: ClassVar[str] = "correct-scales"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        return recovered(graph, self.reference, self.samples, _stretched)


def _stretched(layer: QuantizedLayer, weight: Array, seen: Seen) -> Choice:
    """Return a layer with other scales where held-out samples are nearer with them."""
    del weight  # what it is to yield is enough
    stored, fit, judge = layer.stored, seen.fit, seen.judge
    shape = fit.yx.shape
    scale = np.broadcast_to(stored.grid.scale, shape[0] * shape[1]).reshape(shape[:2])
    steps = np.broadcast_to(layer.bias_grid(stored.grid).scale, scale.size).reshape(shape[:2])
    product = stored.weight.astype(np.float64).reshape(shape) * scale[:, :, None]
    before = judge.error(product, stored.bias.reshape(shape[:2]) * steps)

    hessian, crossed = fit.centred()
    spread = np.einsum("gon,gon->go", product @ hessian, product)
    along = np.einsum("gon,gon->go", product, crossed)
    if stored.grid.axis is None:
        spread, along = (np.full(shape[:2], v.sum()) for v in (spread, along))
    factor = np.clip(along / np.maximum(spread, np.finfo(np.float64).tiny), _LEAST, _MOST)
    factor[(spread <= 0) | (scale < _NOTHING * scale.max())] = 1.0
    stretched = (scale * factor).astype(np.float32).astype(np.float64)
    after, bias = _judged(layer, seen, stretched)
    worse = after >= before if stored.grid.axis == 0 else after.sum() >= before.sum()
    worse = np.broadcast_to(worse | (np.abs(bias) >= 2.0**30), shape[:2])
    if stored.grid.axis is None:
        worse = np.broadcast_to(worse.any(), shape[:2])
    if worse.all():
        return Choice.plain(layer)
    grid = _grid(layer, np.where(worse, scale, stretched))
    bias = np.where(worse, stored.bias.reshape(shape[:2]), bias)
    return Choice("stretched", stored.weight, bias.reshape(-1), grid)


def _judged(layer: QuantizedLayer, seen: Seen, scale: Array) -> tuple[Array, Array]:
    """Return the error of each channel with other scales, and its bias in steps."""
    shape = seen.fit.yx.shape
    steps = np.broadcast_to(layer.bias_grid(_grid(layer, scale)).scale, scale.size)
    steps = steps.reshape(shape[:2])
    product = layer.stored.weight.astype(np.float64).reshape(shape) * scale[:, :, None]
    bias = np.rint(seen.fit.bias(product) / steps)
    return seen.judge.error(product, bias * steps), bias


def _grid(layer: QuantizedLayer, scale: Array) -> QuantParams:
    """Return the grid of the weights with other scales, as many as there were."""
    old = layer.stored.grid
    scales = scale.reshape(-1)[: len(old.scale)]
    return QuantParams(tuple(map(float, scales)), old.zero_point, old.axis)
