"""Weights of a compressed graph, fitted again to what its float model computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.numerics import sqnr
from edgec.ops import Activation, Add, Convolution, FullyConnected
from edgec.passes.activated_fit import Fit, Rows
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.judging import LEAST_SAMPLES, held_out, judged
from edgec.passes.layer_recovery import MOST_INPUTS, Beside
from edgec.passes.pair_fit import Pair, Weights, pairs_of, weights_of
from edgec.passes.patches import groups_of, patches, places_of, results_at
from edgec.passes.walk import Walk

__all__ = ["ReconstructLayers"]

_DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ROWS_PER_INPUT, _LEAST_ROWS = 128, 65536
_TURNS = 8
_PAIR_STEPS = 400
_MOST_BYTES = 1 << 28
"""Of the patches that one layer is fitted to: wide layers see fewer."""


@dataclass(frozen=True, slots=True)
class ReconstructLayers(Pass):
    """Fit weights and biases so that each layer yields what the original's does.

    Layers that something was lost before or in are taken in order, each on what the layers
    before it yield now. Its weights become
    ``W + (Y X^T - W X X^T)(X X^T + d)^-1``, with ``X`` what it reads and ``Y`` what the layer
    of the original yields before its activation, on the channels that are left; ``d`` is the
    best of five on samples held out, where the weights as they are compete too. The bias
    follows from the means.

    Where the layer's result is only added to another, ``Y`` is the sum in the original less
    the other as it is now: so a branch makes up for what was lost beside it. What an activation
    cuts off need not be right: there ``Y`` is moved to what the layer yields as far as both
    are cut off, and the fit is repeated while samples held out gain by that.

    Lossy: the graph computes something else, nearer to the original. The ratios on record are
    those of each layer's results behind its activation, on samples held out.

    Parameters
    ----------
    reference
        The original graph; values have the same names.
    kept
        Channels of the original that are left, by the name of a layer's result; all where it
        is not named.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    pair_steps
        How many steps two layers are fitted together for; with none each is fitted alone.

    References
    ----------
    He et al., arXiv:1707.06168, section 3.2 (asymmetric least squares, residual branches);
    Zhang et al., arXiv:1505.06798 (fits behind activations).
    """

    name: ClassVar[str] = "reconstruct-layers"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    kept: Mapping[str, Array] = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    pair_steps: int = _PAIR_STEPS

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        if len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        same = _same(graph, self.reference)
        walk = Walk(graph, self.samples, half=True)
        beside = Beside(self.reference, self.samples)
        pairs: dict[str, Node] = {}
        if self.pair_steps:
            both = pairs_of(graph, self.kept).items()
            pairs = {name: first for name, first in both if _may_change(graph, first)}
        for node in walk.nodes:
            if node.outputs[0].name in pairs:
                walk.keep(pairs[node.outputs[0].name].inputs[0], node)
        changes: dict[str, Weights] = {}
        records: list[LayerRecord] = []
        for node in walk.nodes:
            off = not same.issuperset(v.name for v in _goes_into(graph, node))
            changes_it = off and _may_change(graph, node)
            name = node.outputs[0].name
            real = beside.reach(name) if changes_it else None
            first = pairs.get(name)
            found = None
            if real is not None:
                found = self._fitted(graph, node, real, walk, beside, first)
            if found is None:
                walk.hold(node, walk.run(node))
                continue
            made, record = {name: found.weights}, found.record
            if first is not None:
                before = changes.get(first.output.name) or weights_of(graph, first)
                together = found.pair.fitted(
                    first, node, before, found.weights, self.pair_steps
                )
                if together is not None:
                    made = {first.output.name: together.first, name: together.second}
                    walk.hold(first, walk.run(first, _given(first, together.first)))
                    record = together.told(record, first.layer)
                    # That one no longer yields what the original's does: it is not asked to.
                    records = [_changed_with(r, first, node) for r in records]
            records.append(record)
            if record.kept == "plain":
                walk.hold(node, walk.run(node))
            else:
                changes |= made
                walk.hold(node, walk.run(node, _given(node, made[name])))
        remade = _with_weights(graph, changes)
        return judged(self.reference, graph, remade, self.samples, records)

    def _fitted(
        self,
        graph: Graph,
        node: Node,
        real: Node,
        walk: Walk,
        beside: Beside,
        first: Node | None,
    ) -> _Found | None:
        """Return what a layer is fitted to, and what one alone makes of it.

        Parameters
        ----------
        first
            The layer that it may be fitted together with.
        """
        weight = graph.constant(node.inputs[1])
        assert weight is not None
        inner = weight[0].size
        channels = node.inputs[0].type.shape[1]
        groups = groups_of(node.op, channels) if isinstance(channels, int) else None
        if groups is None or inner > MOST_INPUTS:
            return None
        shape = groups, weight.shape[0] // groups, inner
        joint = _joint(graph, node, walk, beside)
        last = node if joint is None else joint.node
        assert isinstance(last.op, Convolution | FullyConnected | Add)
        bounds = last.op.activation.bounds
        both, pair = (Rows(bounds), Rows(bounds)), Pair(bounds)
        held, rng = held_out(walk.count), np.random.default_rng(0)
        most = _MOST_BYTES // (4 * groups * inner)
        rows = -(-min(max(_ROWS_PER_INPUT * inner, _LEAST_ROWS), most) // walk.count)
        kept = self.kept.get(node.output.name)
        there = (y for y, _ in beside.results(real))
        others = iter([]) if joint is None else joint.values(walk, beside)
        reads = iter([]) if first is None else walk.inputs(first, 0)
        for k, (x, y) in enumerate(zip(walk.inputs(node, 0), there, strict=True)):
            now, before = next(others, (None, None))
            want = y if before is None else y + before
            want = want if kept is None else want[:, kept]
            count = places_of(want)
            at = np.sort(rng.choice(count, min(rows, count), replace=False))
            found, results = patches(node.op, weight.shape, x, want, groups, at)
            added = None if now is None else results_at(now, groups, at)
            both[int(held[k])].add(found, results, added)
            if first is not None:
                pair.add(next(reads), want, now, held=bool(held[k]), of=walk.count)
        bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        old = weight.astype(np.float64).reshape(shape)
        plain = np.zeros(shape[:2]) if bias is None else bias.reshape(shape[:2]).astype(float)
        fit = Fit(*both, old, plain, free=bias is not None)
        best = fit.best(_DAMPINGS, _TURNS)
        made = best.weight.reshape(weight.shape), best.bias.reshape(-1)
        before_db, after_db = (sqnr(fit.power, each.error) for each in (fit.plain, best))
        way = "plain" if best is fit.plain else "fitted"
        return _Found(
            (made[0].astype(weight.dtype), made[1].astype(weight.dtype)),
            LayerRecord(node.layer, before_db, after_db, way),
            pair,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What least squares make of a layer, and what it may be fitted to with another."""

    weights: Weights
    record: LayerRecord
    pair: Pair


@dataclass(frozen=True, slots=True)
class _Joint:
    """A sum of a layer's result and something else that is there before it."""

    node: Node
    real: Node
    operand: int

    def values(self, walk: Walk, beside: Beside) -> Iterator[tuple[Array, Array]]:
        """Yield the other, as it is now and as it is in the original, for every sample."""
        yield from zip(
            walk.inputs(self.node, self.operand),
            beside.inputs(self.real, self.operand),
            strict=True,
        )


def _joint(graph: Graph, node: Node, walk: Walk, beside: Beside) -> _Joint | None:
    """Return the sum that a layer's result goes into, if that is all it is for."""
    users = graph.users.get(node.output, ())
    if len(users) != 1 or not isinstance(users[0].op, Add) or node.output in graph.outputs:
        return None
    assert isinstance(node.op, Convolution | FullyConnected)
    if node.op.activation is not Activation.NONE:
        return None
    (user,) = users
    operand = 1 - user.inputs.index(node.output)
    other = user.inputs[operand]
    real = beside.user(node.output.name, user.output.name)
    if other == node.output or other.type != node.output.type or real is None:
        return None
    if real.inputs[operand].name != other.name:
        return None
    if other.name not in walk.held or other.name not in beside.held:
        return None
    return _Joint(user, real, operand)


def _changed_with(record: LayerRecord, first: Node, second: Node) -> LayerRecord:
    if record.layer != first.layer:
        return record
    return replace(record, after_db=record.before_db, kept=f"fitted with {second.layer}")


def _given(node: Node, weights: Weights) -> dict[Value, Array]:
    """Return what a layer has for weights and, if it has one, for its bias."""
    return dict(zip(node.inputs[1:], weights, strict=False))


def _same(graph: Graph, reference: Graph) -> set[str]:
    """Return the values that are computed in both graphs alike, by name."""
    originals = {n.outputs[0].name: n for n in reference.nodes}
    found = {v.name for v in graph.inputs}
    for node in graph.nodes:
        other = originals.get(node.outputs[0].name)
        if other is None or other.op != node.op or len(other.inputs) != len(node.inputs):
            continue
        pairs = zip(node.inputs, other.inputs, strict=True)
        if all(
            (a.name == b.name and (a.is_absent or a.name in found))
            or _equal(graph.constant(a), reference.constant(b))
            for a, b in pairs
        ):
            found.update(v.name for v in node.outputs)
    return found


def _goes_into(graph: Graph, node: Node) -> tuple[Value, ...]:
    """Return a node's result, and the sums it goes into."""
    users = graph.users.get(node.outputs[0], ())
    return node.outputs[0], *(n.output for n in users if isinstance(n.op, Add))


def _equal(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return False
    return one is other or (one.shape == other.shape and bool((one == other).all()))


def _may_change(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Convolution | FullyConnected):
        return False
    return all(
        graph.constant(v) is not None and len(graph.users.get(v, ())) == 1
        for v in node.inputs[1:]
    )


def _with_weights(graph: Graph, changes: Mapping[str, Weights]) -> Graph:
    b = Builder(graph)
    for node in graph.nodes:
        change = changes.get(node.outputs[0].name)
        if change is None:
            b.copy(node)
            continue
        arrays = zip(node.inputs[1:], change, strict=False)
        now = [b.constant(array, near=f"{v.name}.fitted") for v, array in arrays]
        b.add(node.op, b.now(node.inputs[0]), *now, like=node)
    return b.finish()
