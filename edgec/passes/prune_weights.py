"""Single weights that become zero, where the others make up for it best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.ir import Array, Graph
from edgec.numerics import sqnr
from edgec.ops import DepthwiseConv
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.judging import LEAST_SAMPLES, too_few
from edgec.passes.layer_statistics import LayerStatistics, statistics, too_large
from edgec.passes.linear_layers import LinearLayer, linear_layers, with_weights
from edgec.passes.sparse_weights import Sparsity, mask_by_magnitude, pruned

__all__ = ["PruneWeights", "sparse_weights"]

_INSTEAD = "a recipe that stores weights in 8 or 4 bits makes it smaller instead"


@dataclass(frozen=True, slots=True)
class PruneWeights(Pass):
    """Set weights of a float graph to zero, and let those that are left make up for it.

    For the size of a package: zeros compress. It makes nothing faster on the targets of edgec,
    whose kernels multiply by zeros as by any number. XNNPACK has sparse kernels for float 1x1
    convolutions; its delegate asks for them only where weights are stored as sparse tensors
    behind DENSIFY, in a graph that begins with a 3x3 convolution of stride 2 on 3 channels,
    padded by 1 on each side, and ends in a global mean. LiteRT 2.3.0 computed such a graph on
    x86-64 in the same time, and to the same bits, with nine tenths zeros stored as sparse
    tensors as with all weights. So weights are stored whole, which every runtime reads.

    Which weights become zero, and what the others become, follows from the covariance of what
    the layer reads (:mod:`edgec.passes.sparse_weights`); the bias from the means. All layers
    look at what they read in the whole model. Layers that are not convolutions or products
    with weights of their own stay as they are, as do depthwise layers, which have few weights
    and need each, and layers that take too much memory to look at; each is named.

    Zeros stay zeros in what the passes behind this one make of them: integer grids of weights
    have a zero, and :class:`RoundWeights`, :class:`OptimizeRounding` and
    :class:`ShareWeights` leave weights alone that are exactly zero.

    Lossy. On record are the signal-to-noise ratios of each layer's results on samples held
    out: with the smallest weights set to zero and no other changed, and as it is then.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    sparsity
        How many weights of each layer become zero.
    layers
        Of some layers another share, by the name of their result; 0 leaves a layer as it is.
    """

    name: ClassVar[str] = "prune-weights"
    promise: ClassVar[Promise] = Lossy()
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    sparsity: Sparsity
    layers: Mapping[str, Sparsity] = field(default_factory=dict, hash=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        wanted = self.pruned_layers(graph)
        if not wanted or len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        changes: dict[str, tuple[Array, Array | None]] = {}
        records: list[LayerRecord] = []
        for name, found in statistics(graph, self.samples, names=wanted).layers.items():
            sparsity = self.layers.get(name, self.sparsity)
            weight, bias, record = _sparse(found, sparsity)
            changes[name] = weight, bias
            records.append(record)
        return (with_weights(graph, changes) if changes else graph), tuple(records)

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        if few := too_few(len(self.samples), "no weights are pruned"):
            return few
        layers = linear_layers(graph)
        why = {name: self._why_not(name, layer) for name, layer in layers.items()}
        large = too_large({n: layer for n, layer in layers.items() if why[n] is None})
        return tuple(
            Diagnostic(
                f"no weights are pruned: {large.get(name, why[name])}",
                layer.node.layer,
                _INSTEAD if name in large else "",
            )
            for name, layer in layers.items()
            if name in large or why[name] is not None
        )

    def pruned_layers(self, graph: Graph) -> tuple[str, ...]:
        """Return the names of the results of the layers whose weights may become zero.

        Of those that are too large they stay as they are.
        """
        layers = linear_layers(graph).items()
        return tuple(name for name, layer in layers if self._why_not(name, layer) is None)

    def _why_not(self, name: str, layer: LinearLayer) -> str | None:
        sparsity = self.layers.get(name, self.sparsity)
        if sparsity.pattern is None and sparsity.share <= 0:
            return "it is asked to stay as it is"
        if isinstance(layer.node.op, DepthwiseConv):
            return "it is depthwise, with few weights that each count"
        if layer.shared:
            return "other layers read the same weights"
        return None


def sparse_weights(
    found: LayerStatistics, sparsity: Sparsity, *, fit: bool = True
) -> tuple[Array, Array]:
    """Return weights of a layer of which so many are zero, and the bias that goes with them."""
    layer = found.layer
    try:
        hessian = found.fit.centred()[0]
        fitted = pruned(layer.weight, hessian, sparsity, _inner(layer), fit=fit)
    except np.linalg.LinAlgError:  # of rounding errors alone: there is nothing to go by
        fitted = _smallest(layer, sparsity)
    fitted = fitted.astype(np.float32).astype(np.float64)
    return fitted, found.fit.bias(fitted) if len(layer.node.inputs) > 2 else layer.bias


def _inner(layer: LinearLayer) -> int:
    """Return how many weights of a row belong to one input channel."""
    return math.prod(layer.node.inputs[1].type.ints[2:])


def _smallest(layer: LinearLayer, sparsity: Sparsity) -> Array:
    """Return the weights of a layer with the smallest set to zero."""
    kept = mask_by_magnitude(layer.weight, sparsity, _inner(layer))
    return np.where(kept, layer.weight, 0)


def _sparse(
    found: LayerStatistics, sparsity: Sparsity
) -> tuple[Array, Array | None, LayerRecord]:
    """Return weights, a bias and what is on record of a layer."""
    layer = found.layer
    weight, bias = sparse_weights(found, sparsity)
    plainly = found.error(_smallest(layer, sparsity), layer.bias)
    ratios = sqnr(found.power, plainly), sqnr(found.power, found.error(weight, bias))
    zeros = f"{100 * float((weight == 0).mean()):.1f} % zeros"
    has_bias = len(layer.node.inputs) > 2
    return weight, bias if has_bias else None, LayerRecord(layer.node.layer, *ratios, zeros)
