"""Biases of a quantized graph, corrected by what its float model computes on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import InternalError
from edgec.evaluate import Evaluator
from edgec.ir import Array, Builder, DType, Graph, Node, Op, QuantParams, Value
from edgec.ops import (
    Activation,
    Convolution,
    ConvTranspose,
    Dequantize,
    FullyConnected,
    Quantize,
    ReduceMean,
)
from edgec.passes.base import Lossy, Pass, Promise
from edgec.passes.walk import Walk

__all__ = ["CorrectBiases"]

_CHANNELS = 1
_TURNS = 6


@dataclass(frozen=True, slots=True)
class CorrectBiases(Pass):
    """Add to each layer's bias what quantization takes off its result on average.

    Rounded weights move the mean of a channel, and so do the layers before. The bias of each
    channel moves until the mean of what its layer yields, over the samples and all places, is
    that of the float model: with an activation the mean behind it, which is what the next layer
    reads. Layers are taken in order, each on what the corrected layers before it yield. Scales
    stay; a bias stays on its grid.

    Lossy: the graph computes something else, in the mean what the float model does.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    samples
        One array for each graph input, for each sample.

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
        names = {n.output.name: real for n in graph.nodes if (real := _layer(graph, n))}
        if not names or not self.samples:
            return graph
        wanted = _means(self.reference, set(names.values()), self.samples)
        walk = Walk(graph, self.samples)
        biases: dict[str, Array] = {}
        for node in walk.nodes:
            mean = wanted.get(names.get(node.output.name, ""))
            if mean is None:
                walk.hold(node, walk.run(node))
                continue
            plain, bounds = _without_activation(node.op)
            found = [r[node.output.name] for r in walk.run(node, plain)]
            lost = _lost(found, mean, bounds)
            steps = np.array(_bias_grid(graph, node).scale)
            before = _stored_bias(graph, node, len(mean)).astype(np.float64)
            after = np.clip(np.rint(before + lost / steps), -(2**31), 2**31 - 1)
            biases[node.output.name] = after.astype(np.int32)
            along = ((after - before) * steps).reshape(-1, *(1,) * (found[0].ndim - 2))
            moved = [np.clip(y + along, *bounds).astype(np.float32) for y in found]
            walk.hold(node, [{node.output.name: y} for y in moved])
        return _with_biases(graph, biases)


def _layer(graph: Graph, node: Node) -> str:
    """Return the name of a quantized layer's result in the float graph; empty if it is none."""
    if not isinstance(node.op, Convolution | ConvTranspose | FullyConnected):
        return ""
    sources = [graph.producers.get(v) for v in node.inputs]
    if not all(s is not None and isinstance(s.op, Dequantize) for s in sources):
        return ""
    if any(graph.constant(s.inputs[0]) is None for s in sources[1:] if s is not None):
        return ""
    users = graph.users.get(node.output, ())
    if len(users) != 1 or not isinstance(users[0].op, Quantize):
        return ""
    after = graph.users.get(users[0].output, ())
    return after[0].output.name if after and isinstance(after[0].op, Dequantize) else ""


def _lost(results: Sequence[Array], mean: Array, bounds: tuple[float, float]) -> Array:
    """Return what to add to each channel so that its mean behind the activation is `mean`.

    Newton's method: what the activation cuts off does not move with the bias. A channel that is
    cut off nearly everywhere moves by no more than one of which a fifth is left would.
    """
    shape = (-1, *(1,) * (results[0].ndim - 2))
    places = _places(results[0].ndim)
    lost = np.zeros(len(mean))
    for _ in range(1 if bounds == Activation.NONE.bounds else _TURNS):
        moved = [y + lost.reshape(shape).astype(np.float32) for y in results]
        now = np.mean([np.clip(y, *bounds).mean(places, dtype=np.float64) for y in moved], 0)
        free = np.mean([((y > bounds[0]) & (y < bounds[1])).mean(places) for y in moved], 0)
        lost += (mean - now) / np.maximum(free, 0.2)
    return lost


def _without_activation(op: Op) -> tuple[Op, tuple[float, float]]:
    if isinstance(op, Convolution | FullyConnected):
        return replace(op, activation=Activation.NONE), op.activation.bounds
    return op, Activation.NONE.bounds


def _means(
    graph: Graph, names: set[str], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """Return the mean of each channel of what some layers yield, by name."""
    nodes: list[Node] = []
    found: dict[str, Value] = {}
    for node in graph.nodes:
        nodes.append(node)
        name, result = node.outputs[0].name, node.outputs[0]
        if name in names:
            reduce = ReduceMean(_places(result.type.rank), keepdims=False)
            found[name] = Value(f"{name}/mean", reduce.infer(result.type)[0])
            nodes.append(Node(reduce, (result,), (found[name],)))
    whole = replace(graph, nodes=tuple(nodes), outputs=tuple(found.values()))
    evaluator = Evaluator(whole, optimize=True)
    totals: dict[str, Array] = {}
    for sample in samples:
        means = evaluator.run(sample)
        for name, mean in found.items():
            more = means[mean.name].astype(np.float64)
            totals[name] = totals[name] + more if name in totals else more
    return {name: total / len(samples) for name, total in totals.items()}


def _places(rank: int) -> tuple[int, ...]:
    """Return all axes but that of the channels."""
    return tuple(axis for axis in range(rank) if axis != _CHANNELS)


def _bias_grid(graph: Graph, node: Node) -> QuantParams:
    """Return the grid of a layer's bias: that of the products it is added to."""
    x, w = (graph.producers[v].op for v in node.inputs[:2])
    if not isinstance(x, Dequantize) or not isinstance(w, Dequantize):
        raise InternalError(f"{node.layer} is no quantized layer")
    scales = tuple(float(np.float32(x.params.scale[0]) * np.float32(s)) for s in w.params.scale)
    return QuantParams(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)


def _stored_bias(graph: Graph, node: Node, channels: int) -> Array:
    if len(node.inputs) < 3:
        return np.zeros(channels, np.int32)
    stored = graph.constant(graph.producers[node.inputs[2]].inputs[0])
    if stored is None:
        raise InternalError(f"the bias of {node.layer} is not stored")
    return stored


def _with_biases(graph: Graph, biases: Mapping[str, Array]) -> Graph:
    """Return the graph with other integers for the biases of some layers, by output."""
    b = Builder(graph)
    for node in graph.nodes:
        if node.outputs[0].name not in biases:
            b.copy(node)
            continue
        near = node.inputs[2].name if len(node.inputs) > 2 else f"{node.layer}/bias"
        stored = b.constant(biases[node.output.name], near=f"{near}.corrected")
        real = b.fresh(f"{near}.real")
        grid = _bias_grid(graph, node)
        (bias,) = b.add(Dequantize(grid, DType.INT32), stored, names=[real], absorbs=(node,))
        b.add(node.op, *map(b.now, node.inputs[:2]), bias, like=node)
    return b.finish()
