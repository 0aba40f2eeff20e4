"""Weights of a compressed graph, fitted again to what its float model computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, Graph, Node
from edgec.numerics import sqnr
from edgec.ops import Convolution, FullyConnected
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.compensated_rounding import Moments, pulled
from edgec.passes.judging import LEAST_SAMPLES, held_out, judged
from edgec.passes.layer_recovery import MOST_INPUTS, Beside
from edgec.passes.patches import groups_of, patches, places_of
from edgec.passes.walk import Walk

__all__ = ["ReconstructLayers"]

_DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ROWS_PER_INPUT, _LEAST_ROWS = 32, 8192


@dataclass(frozen=True, slots=True)
class ReconstructLayers(Pass):
    """Fit weights and biases so that each layer yields what the original's does.

    Layers are taken in order, each on what the layers before it yield now. Its weights become
    ``W + (Y X^T - W X X^T)(X X^T + d)^-1``, with ``X`` what it reads and ``Y`` what the layer
    of the original yields before its activation, on the channels that are left; ``d`` is the
    best of five on samples held out, where the weights as they are compete too. The bias
    follows from the means.

    Lossy: the graph computes something else, nearer to the original. The ratios on record are
    those of each layer's results before its activation, on samples held out.

    Parameters
    ----------
    reference
        The original graph; values have the same names.
    kept
        Channels of the original that are left, by the name of a layer's result; all where it
        is not named.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.

    References
    ----------
    He et al., arXiv:1707.06168, section 3.2 (asymmetric least squares).
    """

    name: ClassVar[str] = "reconstruct-layers"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    kept: Mapping[str, Array] = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        if len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        walk, beside = (
            Walk(graph, self.samples, half=True),
            Beside(self.reference, self.samples),
        )
        changes: dict[str, tuple[Array, Array]] = {}
        records: list[LayerRecord] = []
        for node in walk.nodes:
            real = beside.reach(node.outputs[0].name) if _may_change(graph, node) else None
            wanted = None if real is None else [y for y, _ in beside.results(real)]
            found = None if wanted is None else self._fitted(graph, node, wanted, walk)
            if found is None:
                walk.hold(node, walk.run(node))
                continue
            weight, bias, record = found
            records.append(record)
            if record.kept != "plain":
                changes[node.output.name] = weight, bias
                values = {node.inputs[1]: weight}
                if len(node.inputs) > 2:
                    values[node.inputs[2]] = bias
                walk.hold(node, walk.run(node, values))
            else:
                walk.hold(node, walk.run(node))
        made = _with_weights(graph, changes)
        return judged(self.reference, graph, made, self.samples, records)

    def _fitted(
        self, graph: Graph, node: Node, wanted: Sequence[Array], walk: Walk
    ) -> tuple[Array, Array, LayerRecord] | None:
        weight = graph.constant(node.inputs[1])
        assert weight is not None
        inner = weight[0].size
        channels = node.inputs[0].type.shape[1]
        groups = groups_of(node.op, channels) if isinstance(channels, int) else None
        if groups is None or inner > MOST_INPUTS:
            return None
        shape = groups, weight.shape[0] // groups, inner
        both = Moments.empty(*shape), Moments.empty(*shape)
        held, rng = held_out(walk.count), np.random.default_rng(0)
        rows = -(-max(_ROWS_PER_INPUT * inner, _LEAST_ROWS) // walk.count)
        kept = self.kept.get(node.output.name)
        for k, (x, y) in enumerate(zip(walk.inputs(node, 0), wanted, strict=True)):
            want = y if kept is None else y[:, kept]
            count = places_of(want)
            at = np.sort(rng.choice(count, min(rows, count), replace=False))
            both[int(held[k])].add(*patches(node.op, weight.shape, x, want, groups, at))
        fit, judge = both
        old = weight.astype(np.float64).reshape(shape)
        bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        plain = np.zeros(shape[:2]) if bias is None else bias.reshape(shape[:2]).astype(float)
        errors = judge.error(old, plain).sum()
        best = errors, old, plain, "plain"
        for damping in _DAMPINGS:
            moved = pulled(old, *fit.centred(), damping)
            # A layer without a bias keeps none: what adds it is not there.
            free = plain if bias is None else fit.bias(moved)
            error = judge.error(moved, free).sum()
            if error < best[0]:
                best = error, moved, free, "fitted"
        power = float(judge.yy.sum() / max(judge.count, 1))
        ratios = sqnr(power, float(errors)), sqnr(power, float(best[0]))
        return (
            best[1].reshape(weight.shape).astype(np.float32),
            best[2].reshape(-1).astype(np.float32),
            LayerRecord(node.layer, *ratios, best[3]),
        )


def _may_change(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Convolution | FullyConnected):
        return False
    return all(
        graph.constant(v) is not None and len(graph.users.get(v, ())) == 1
        for v in node.inputs[1:]
    )


def _with_weights(graph: Graph, changes: Mapping[str, tuple[Array, Array]]) -> Graph:
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
