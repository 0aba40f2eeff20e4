"""Weights of a quantized graph, taken from few integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.ir import Array, Graph, QuantParams
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.clustering import Clustered, Clustering
from edgec.passes.compensated_rounding import pulled
from edgec.passes.judging import too_few
from edgec.passes.layer_recovery import Choice, Seen, walked
from edgec.passes.quantized_layers import QuantizedLayer

__all__ = ["ShareWeights", "packed_bytes"]

_PULLS = (1.0, 0.1)


def packed_bytes(weights: int, letters: int, alphabets: int) -> int:
    """Return the bytes of indices with a fixed number of bits, and of the letters."""
    bits = max(letters - 1, 1).bit_length()
    return -(-weights * bits // 8) + letters * alphabets


@dataclass(frozen=True, slots=True)
class ShareWeights(Pass):
    """Let the weights of each layer be one of a few integers.

    The integers stay within int8 and keep their meaning, so that the kernels that ran the
    graph before run it now, as fast as before. What shrinks is what the weights compress to:
    a file sent or stored in packed form, and flash or memory traffic where a device reads
    compressed weights.

    The letters come from optimal k-means with weights from second derivatives, and the choice
    for each weight makes up for what others are off: :mod:`edgec.passes.clustering`. Layers
    are taken in order, each on what those before it yield by then, towards what the float layer
    yields; then the bias is set until means are right. Where all channels have one alphabet,
    each channel's scale is fitted, too, unless scales are powers of two.

    A layer stays as it is if the table of its letters would take the room that it saves, as
    that of a depthwise layer with an alphabet for each channel of nine weights; if other
    layers share its weights; and where :class:`RoundWeights` leaves layers alone.

    There is no alphabet for several layers: one takes next to nothing beside what it saves.
    Product quantization (several weights to an index) is left out, as kernels that look up
    have one weight to an index.

    Lossy: the outputs are further from the float model than with all integers, and nothing
    judges whether that is worth it: whoever runs the pass does. The ratios on record are those
    of each layer's results before its activation, on samples held out.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    count
        Letters of an alphabet.
    per_channel
        Whether each channel has an alphabet of its own, or each layer.
    counts
        Letters of some layers, by the name of a layer's result in the float graph, if not
        `count`; 0 leaves a layer as it is.

    References
    ----------
    Choi et al., arXiv:1612.01543 (clustering with second derivatives). Frantar et al.,
    arXiv:2210.17323 (GPTQ), whose grid is the alphabet here.
    """

    name: ClassVar[str] = "share-weights"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    count: int = 16
    per_channel: bool = False
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        return walked(graph, self.reference, self.samples, self._shared)

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        del graph
        return too_few(len(self.samples), "no weights are shared")

    def _shared(self, layer: QuantizedLayer, weight: Array, seen: Seen) -> Choice:
        """Return the weights of a layer as letters."""
        stored = layer.stored
        count = self.counts.get(layer.name, self.count)
        alphabets = len(stored.weight) if self.per_channel else 1
        if not count or not _pays(stored.weight, count, alphabets):
            return Choice.plain(layer)
        shape = seen.fit.yx.shape
        top = int(np.abs(stored.weight.astype(np.int64)).max(initial=0))
        lowest, highest = layer.dtype.limits
        limits = max(-top, lowest), min(top, highest)
        scale = np.broadcast_to(stored.grid.scale, shape[0] * shape[1]).reshape(shape[:2])
        target = _target(weight.astype(np.float64).reshape(shape), seen)
        zeros = weight.reshape(shape) == 0
        clustering = Clustering(
            target,
            seen.fit.centred()[0],
            scale,
            limits,
            _free(stored.grid),
            zeros if zeros.any() else None,
        )
        try:
            found = clustering.into(count, per_channel=self.per_channel)
        except np.linalg.LinAlgError:  # of rounding errors alone: there is nothing to go by
            return Choice.plain(layer)
        return _chosen(layer, found, seen)


def _pays(weight: Array, count: int, alphabets: int) -> bool:
    rows = weight.reshape(alphabets, -1)
    most = max(len(np.unique(row)) for row in rows)
    return most > count and packed_bytes(weight.size, count, alphabets) < weight.size


def _free(grid: QuantParams) -> bool:
    """Return whether scales may change: each channel has its own, and they are any numbers."""
    mantissas = np.frexp(np.array(grid.scale))[0]
    return len(grid.scale) > 1 and bool((mantissas != 0.5).any())


def _target(weight: Array, seen: Seen) -> Array:
    """Return the real weights that held-out samples are nearest with."""
    hessian, crossed = seen.fit.centred()
    offered = [weight, *(pulled(weight, hessian, crossed, d) for d in _PULLS)]
    errors = [float(seen.judge.error(w, seen.fit.bias(w)).sum()) for w in offered]
    return offered[int(np.argmin(errors))]


def _chosen(layer: QuantizedLayer, found: Clustered, seen: Seen) -> Choice:
    stored = layer.stored
    scale = found.scale.astype(np.float32).astype(np.float64)
    scales = scale.reshape(-1)[: len(stored.grid.scale)]
    grid = QuantParams(tuple(map(float, scales)), stored.grid.zero_point, stored.grid.axis)
    steps = np.broadcast_to(layer.bias_grid(grid).scale, scale.size).reshape(scale.shape)
    bias = np.rint(seen.fit.bias(found.integers * scale[:, :, None]) / steps)
    integers = found.integers.reshape(stored.weight.shape).astype(np.int32)
    each = "" if found.alphabet.ndim == 1 else " to a channel"
    return Choice(
        f"{found.alphabet.shape[-1]} values{each}",
        integers.astype(stored.weight.dtype),
        np.clip(bias.reshape(-1), -(2**31), 2**31 - 1),
        grid,
    )
