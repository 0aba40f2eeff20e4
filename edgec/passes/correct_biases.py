"""Biases of a quantized graph, corrected by what its float model computes on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, Node, Value
from edgec.numerics import sqnr
from edgec.ops import ReduceMean
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.channel_means import Yielded, best_bias, places
from edgec.passes.judging import LEAST_SAMPLES, judged
from edgec.passes.quantized_layers import (
    Parameters,
    QuantizedLayer,
    quantized_layers,
    with_parameters,
)
from edgec.passes.walk import Walk

__all__ = ["CorrectBiases"]


@dataclass(frozen=True, slots=True)
class CorrectBiases(Pass):
    """Add to each layer's bias what quantization takes off its result on average.

    Rounded weights move the mean of a channel, and so do the layers before. The bias of each
    channel moves until the mean of what its layer yields, over the samples and all places, is
    that of the float model: with an activation the mean behind it, which is what the next layer
    reads. Layers are taken in order, each on what the corrected layers before it yield. Scales
    stay; a bias stays on its grid.

    Every fourth sample is held out: a layer whose means are no nearer on those keeps its bias,
    and the whole graph is as it was if its outputs are no nearer.

    Lossy: the graph computes something else, in the mean what the float model does. The ratios
    on record are those of the channels' means on the samples held out.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.

    References
    ----------
    Nagel et al., arXiv:1906.04721, section 4.2; empirical form.
    """

    name: ClassVar[str] = "correct-biases"
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
        names = {layer.name for layer in layers.values()}
        wanted = _means(self.reference, names, self.samples)
        walk = Walk(graph, self.samples)
        changes: dict[str, tuple[QuantizedLayer, Parameters]] = {}
        records: list[LayerRecord] = []
        for node in walk.nodes:
            layer = layers.get(node.outputs[0].name)
            want = None if layer is None else wanted.get(layer.name)
            if layer is None or want is None:
                walk.hold(node, walk.run(node))
                continue
            old, name = layer.stored, node.output.name
            found = Yielded([r[name] for r in walk.run(*layer.plain(old))], layer.bounds)
            steps = np.array(layer.bias_grid(old.grid).scale)
            before = old.bias.astype(np.float64)
            bias, *off = best_bias(found, want, steps, [before])
            records.append(_record(layer, want, *off, changed=(bias != before).any()))
            if (bias != before).any():
                changes[name] = layer, replace(old, bias=bias.astype(np.int32))
            moved = (bias - before) * steps
            walk.hold(node, ({name: y} for y in found.moved(moved)))
        made = with_parameters(graph, changes)
        return judged(self.reference, graph, made, self.samples, records)


def _record(
    layer: QuantizedLayer, want: Array, before: Array, after: Array, *, changed: bool
) -> LayerRecord:
    signal = float((want.mean(axis=0) ** 2).sum())
    then, now = (sqnr(signal, float((off**2).sum())) for off in (before, after))
    return LayerRecord(layer.node.layer, then, now, "corrected" if changed else "plain")


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
            reduce = ReduceMean(places(value.type.rank), keepdims=False)
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
