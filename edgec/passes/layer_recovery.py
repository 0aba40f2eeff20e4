"""Layers of a quantized graph, changed one after the other to come near to the float ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgec.ir import Array, Graph, Node, QuantParams
from edgec.numerics import sqnr
from edgec.ops import Activation, Convolution, FullyConnected
from edgec.passes.base import LayerRecord
from edgec.passes.channel_means import Yielded, best_bias, places
from edgec.passes.compensated_rounding import Moments
from edgec.passes.judging import LEAST_SAMPLES, held_out, judged
from edgec.passes.patches import groups_of, patches, places_of
from edgec.passes.quantized_layers import (
    Parameters,
    QuantizedLayer,
    quantized_layers,
    with_parameters,
)
from edgec.passes.walk import Walk

__all__ = ["MOST_INPUTS", "Beside", "Choice", "Seen", "recovered", "walked"]

MOST_INPUTS = 2304
"""To a sum; layers with more are left alone."""

_WHOLE = 48
"""Samples up to which the float model's results are held in float32, which is faster."""

_ROWS_PER_INPUT, _LEAST_ROWS = 32, 8192


@dataclass(frozen=True, slots=True)
class Choice:
    """Integers for a layer, and their grid: the weights as stored, the bias in float64."""

    name: str
    weight: Array
    bias: Array
    grid: QuantParams

    @classmethod
    def plain(cls, layer: QuantizedLayer) -> Choice:
        """Return what a layer has."""
        stored = layer.stored
        return cls("plain", stored.weight, stored.bias.astype(np.float64), stored.grid)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a layer reads on some samples, and what the float layer yields for it.

    Parameters
    ----------
    fit, judge
        Of the samples to fit to, and of those held out.
    """

    fit: Moments
    judge: Moments


Choose = Callable[[QuantizedLayer, Array, Seen], Choice]
"""Returns what a layer is to have, given the float layer's weights."""


def recovered(
    graph: Graph,
    reference: Graph,
    samples: Sequence[Mapping[str, Array]],
    choose: Choose,
) -> tuple[Graph, tuple[LayerRecord, ...]]:
    """Return a graph whose layers have what is chosen for each, if its outputs are nearer.

    See :func:`walked`.
    """
    made, records = walked(graph, reference, samples, choose)
    if not records:
        return graph, ()
    return judged(reference, graph, made, samples, records)


def walked(
    graph: Graph,
    reference: Graph,
    samples: Sequence[Mapping[str, Array]],
    choose: Choose,
) -> tuple[Graph, tuple[LayerRecord, ...]]:
    """Return a graph whose layers have what is chosen for each.

    Layers are taken in order, each on what those before it yield with what they have by then.
    What is chosen is for symmetric weights of one layer alone that are products with patches;
    of every layer the bias is moved until means are right.

    Parameters
    ----------
    reference
        The float graph that was quantized; values have the same names.
    """
    layers = {layer.node.output.name: layer for layer in quantized_layers(graph)}
    if not layers or len(samples) < LEAST_SAMPLES:
        return graph, ()
    walk, beside = Walk(graph, samples), Beside(reference, samples)
    changes: dict[str, tuple[QuantizedLayer, Parameters]] = {}
    records: list[LayerRecord] = []
    for node in walk.nodes:
        layer = layers.get(node.outputs[0].name)
        real = None if layer is None else beside.reach(layer.name)
        if layer is None or real is None:
            walk.hold(node, walk.run(node))
            continue
        now, record = _changed(layer, real, walk, beside, choose)
        records.append(record)
        if now is not layer.stored:
            changes[node.output.name] = layer, now
    return (with_parameters(graph, changes) if changes else graph), tuple(records)


class Beside:
    """The original model, walked through beside one that was made from it."""

    def __init__(self, graph: Graph, samples: Sequence[Mapping[str, Array]]) -> None:
        self.graph = graph
        self._walk = Walk(graph, samples, half=len(samples) > _WHOLE)
        self._left = {n.outputs[0].name: n for n in self._walk.nodes}

    def has(self, name: str) -> bool:
        """Whether a node whose result has this name is still to come."""
        return name in self._left

    def reach(self, name: str) -> Node | None:
        """Go on to the node whose result has a name, and return it; ``None`` if it is past."""
        if name not in self._left:
            return None
        for other, node in list(self._left.items()):
            if other == name:
                return node
            self._walk.hold(node, self._walk.run(node))
            del self._left[other]
        return None

    @property
    def held(self) -> tuple[str, ...]:
        """The names of values that later nodes will read."""
        return self._walk.held

    def user(self, name: str, result: str) -> Node | None:
        """Return the node that reads one value and makes another, which are named."""
        node = next((n for n in self.graph.nodes if n.outputs[0].name == result), None)
        reads = () if node is None else tuple(v.name for v in node.inputs)
        return node if name in reads else None

    def inputs(self, node: Node, operand: int) -> Iterator[Array]:
        """Yield an operand of a node on every sample, if it is held."""
        return self._walk.inputs(node, operand)

    def results(self, node: Node) -> Iterator[tuple[Array, Array]]:
        """Yield what a layer yields on each sample, before and behind its activation."""
        plain, name, bounds = node, node.output.name, Activation.NONE.bounds
        if isinstance(node.op, Convolution | FullyConnected):
            bounds = node.op.activation.bounds
            plain = replace(node, op=replace(node.op, activation=Activation.NONE))
        found = (r[name] for r in self._walk.run(plain))
        free = bounds == Activation.NONE.bounds
        both = (
            {name: y if free else np.clip(y, *bounds, dtype=np.float32), "": y} for y in found
        )
        for result in self._walk.passed(node, both):
            yield result[""], result[name]
        del self._left[name]


def _changed(
    layer: QuantizedLayer,
    real: Node,
    walk: Walk,
    beside: Beside,
    choose: Choose,
) -> tuple[Parameters, LayerRecord]:
    """Return what a layer is to store, and go on behind it in both walks."""
    weight = beside.graph.constant(real.inputs[1])
    seen, want = _seen(layer, walk, beside.results(real))
    stored, name = layer.stored, layer.node.output.name
    choice = Choice.plain(layer)
    if seen is not None and weight is not None and _may_change(layer):
        choice = choose(layer, weight, seen)
    now = replace(
        stored, weight=choice.weight, bias=choice.bias.astype(np.int32), grid=choice.grid
    )
    found = Yielded([r[name] for r in walk.run(*layer.plain(now))], layer.bounds)
    steps = np.array(layer.bias_grid(now.grid).scale)
    before = stored.bias * (np.array(layer.bias_grid(stored.grid).scale) / steps)
    bias, *_ = best_bias(found, want, steps, [choice.bias, np.rint(before)])
    moved = (bias - choice.bias) * steps
    walk.hold(layer.node, ({name: y} for y in found.moved(moved)))
    now = replace(now, bias=bias.astype(np.int32))
    same = choice.weight is stored.weight and choice.grid == stored.grid
    ratios = (0.0, 0.0) if seen is None else _ratios(layer, seen.judge, stored, now)
    if same and bool((now.bias == stored.bias).all()):
        return stored, LayerRecord(layer.node.layer, *ratios, "plain")
    kept = "corrected" if same else choice.name
    return now, LayerRecord(layer.node.layer, *ratios, kept)


def _may_change(layer: QuantizedLayer) -> bool:
    grid = layer.stored.grid
    return not layer.shared and not any(grid.zero_point) and grid.axis in (None, 0)


def _seen(
    layer: QuantizedLayer,
    walk: Walk,
    results: Iterator[tuple[Array, Array]],
) -> tuple[Seen | None, Array]:
    """Return what to fit to and to judge by, and the means of the float layer's channels.

    Of large results some places are drawn: there are many more of them than weights.
    """
    op, kernel = layer.node.op, layer.stored.weight.shape
    inner = layer.stored.weight[0].size
    rng = np.random.default_rng(0)
    seen: Seen | None = None
    means: list[Array] = []
    held = held_out(walk.count)
    rows = -(-max(_ROWS_PER_INPUT * inner, _LEAST_ROWS) // walk.count)
    for k, (x, (y, z)) in enumerate(zip(walk.inputs(layer.node, 0), results, strict=True)):
        means.append(z.mean(places(z.ndim), dtype=np.float64))
        groups = groups_of(op, x.shape[1])
        if groups is None or inner > MOST_INPUTS:
            continue
        if seen is None:
            shape = groups, kernel[0] // groups, inner
            seen = Seen(Moments.empty(*shape), Moments.empty(*shape))
        count = places_of(y)
        at = np.sort(rng.choice(count, min(rows, count), replace=False))
        (seen.judge if held[k] else seen.fit).add(*patches(op, kernel, x, y, groups, at))
    return seen, np.array(means)


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
