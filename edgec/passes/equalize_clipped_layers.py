"""Layers behind which results are clipped, scaled where samples never reach the clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph
from edgec.ops import Activation, Convolution, FullyConnected
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.channel_means import places
from edgec.passes.equalize_layers import equalized, refusals
from edgec.passes.factor_tracing import trace

__all__ = ["EqualizeClippedLayers"]


@dataclass(frozen=True, slots=True)
class EqualizeClippedLayers(Pass):
    """Equalize layers as :class:`EqualizeLayers` does, through activations that clip as well.

    ``min(y / s, 6)`` is ``min(y, 6 s) / s``: to divide a channel by ``s`` moves its clip from 6
    to ``6 s``. That changes nothing in a channel whose results stay below both. So channels
    that come near their clip on any sample stay as they are, as do those that are always zero,
    and no other is divided by less than its largest result, with some room, over the clip.

    Lossy: the same on the samples, and another clip for results that are larger than any of
    them. To take the clips away altogether would be worse: models trained with ReLU6 rely on
    them. Ratios on record are those of :class:`EqualizeLayers`.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample.
    room
        How much larger than on the samples results may become.
    """

    name: ClassVar[str] = "equalize-clipped-layers"
    promise: ClassVar[Promise] = Lossy()
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    room: float = 1.25

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        return equalized(trace(graph, self._peaks(graph)))

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return refusals(trace(graph, self._peaks(graph)))

    def _peaks(self, graph: Graph) -> dict[str, Array]:
        """Return the largest results to expect in each channel of clipped layers, by name."""
        values = [
            node.output
            for node in graph.nodes
            if isinstance(node.op, Convolution | FullyConnected)
            and node.op.activation not in (Activation.NONE, Activation.RELU)
        ]
        if not values:
            return {}
        evaluator = Evaluator(graph, values, optimize=True)
        found: dict[str, Array] = {}
        for sample in self.samples:
            for name, array in evaluator.run(sample).items():
                peaks = array.max(places(array.ndim), initial=0.0)
                found[name] = np.maximum(found.get(name, peaks), peaks)
        return {name: peaks * self.room for name, peaks in found.items()}
