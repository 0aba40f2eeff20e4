"""Whole channels taken out, where the outputs lose least for what is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.channels import ChannelGroup, channels_of, without
from edgec.channels.importance import Criterion, Reader, Trace, columns_of, trace
from edgec.cost import cost
from edgec.ir import Array, Constant, Graph, Node
from edgec.ops import Conv, FullyConnected
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.compensated_rounding import Moments, damped
from edgec.passes.judging import Judge
from edgec.passes.knapsack import Allocator, Offer
from edgec.passes.patches import patches, places_of
from edgec.passes.reconstruct_layers import ReconstructLayers
from edgec.passes.walk import Walk

__all__ = ["PruneChannels"]

_CHANNELS = 1
_DAMPING = 0.01
_MOST_INPUTS = 2304
_ROWS_PER_INPUT, _LEAST_ROWS = 16, 8192
_LEAST_LEFT = 0.25
_JUDGES = 32
_TURNS = 14


@dataclass(frozen=True, slots=True)
class PruneChannels(Pass):
    """Take channels out until no more than a share of the multiply-accumulates is left.

    Channels go in the groups that the operators tie together (:mod:`edgec.channels`). Within a
    group they go in the order of a criterion, and the layers that read them are fitted to what
    they yielded before. What each width of each group does to the outputs is measured, one
    group at a time; the widths that lose least in sum come from an exact knapsack over these
    errors, and its budget is found by bisection on the multiply-accumulates of the whole.

    Lossy. On record is a line for each group: what the outputs keep with this group alone.

    Parameters
    ----------
    macs
        The share that may be left.
    samples
        One array for each graph input, for each sample.
    criterion
        See :data:`edgec.channels.importance.Criterion`.
    multiple
        Widths that kernels like: what is left of a group is a multiple of it.
    compensate
        Whether the layers that read a group are fitted, and in the end all layers in order
        (:class:`ReconstructLayers`).

    References
    ----------
    Fang et al., arXiv:2301.12900 (groups); Frantar et al., arXiv:2203.13096 (allocation).
    """

    name: ClassVar[str] = "prune-channels"
    promise: ClassVar[Promise] = Lossy()
    macs: float
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    criterion: Criterion = "obs"
    multiple: int = 4
    compensate: bool = True

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        pruning = _Pruning(graph, self)
        pruned, records = pruning.result()
        if pruned is graph or not self.compensate:
            return pruned, records
        kept = pruning.kept
        fitted, more = ReconstructLayers(graph, kept, self.samples).run_recorded(pruned)
        return fitted, (*records, *more)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What a layer reads, in sums."""

    weight: Array
    covariance: Array
    mean: Array


class _Pruning:
    """One graph on its way; dropped afterwards."""

    def __init__(self, graph: Graph, step: PruneChannels) -> None:
        self.graph, self.step = graph, step
        self.groups = [g for g in channels_of(graph).groups if g.size > step.multiple]
        self.sums = self._sums()
        self.traces = [self._trace(g) for g in self.groups]
        self.judge = Judge(graph, list(step.samples[:_JUDGES]))
        self.chosen: dict[int, int] = {}
        """The widths that are not whole, by group."""

    def result(self) -> tuple[Graph, tuple[LayerRecord, ...]]:
        whole = cost(self.graph).macs
        widths = [self._widths(g) for g in self.groups]
        errors: list[list[float]] = []
        savings: list[list[float]] = []
        for i, sizes in enumerate(widths):
            made = [self._with({i: size}) for size in sizes]
            errors.append([self._error(g) if g is not self.graph else 0.0 for g in made])
            savings.append([whole - cost(g).macs for g in made])
        most = [max(each) for each in savings]
        allocator = Allocator(
            [
                [Offer((top - s) / whole, e) for s, e in zip(each, lost, strict=True)]
                for each, lost, top in zip(savings, errors, most, strict=True)
            ]
        )
        picked = self._search(allocator, widths, sum(max(e) for e in errors), whole)
        if picked is None:
            return self.graph, ()
        wanted = {i: widths[i][k] for i, k in enumerate(picked)}
        self.chosen = {i: n for i, n in wanted.items() if n != self.groups[i].size}
        records = tuple(
            self._record(i, size, errors[i][widths[i].index(size)])
            for i, size in self.chosen.items()
        )
        return self._with(self.chosen), records

    @property
    def kept(self) -> dict[str, Array]:
        """The channels that are left of values that have lost some, by name."""
        lengths = {v.name: v.type.shape for v in self.graph.values()}
        return {
            name: np.setdiff1d(np.arange(int(lengths[name][axis])), at)
            for (name, axis), at in self._removed(self.chosen).items()
            if axis == _CHANNELS and name not in self.graph.constants
        }

    def _search(
        self, allocator: Allocator, widths: Sequence[Sequence[int]], top: float, whole: int
    ) -> tuple[int, ...] | None:
        """Return the widths of the least budget of error that saves enough."""
        low, high, best = 1e-9 * top, top, None
        for _ in range(_TURNS):
            middle = float(np.sqrt(low * high))
            picked = allocator.within(middle)
            sizes = {} if picked is None else {i: widths[i][k] for i, k in enumerate(picked)}
            if picked is not None and cost(self._cut(sizes)).macs <= self.step.macs * whole:
                best, high = picked, middle
            else:
                low = middle
        return best

    def _widths(self, group: ChannelGroup) -> list[int]:
        """Return the widths that a group may have, the whole first."""
        step = self.step.multiple
        least = max(step, int(np.ceil(group.size * _LEAST_LEFT / step)) * step)
        return [group.size, *range((group.size - 1) // step * step, least - 1, -step)]

    def _removed(self, sizes: Mapping[int, int]) -> dict[tuple[str, int], Array]:
        found: dict[tuple[str, int], list[Array]] = {}
        for i, size in sizes.items():
            group = self.groups[i]
            units = self.traces[i].order[: group.size - size]
            if len(units):
                for place, at in group.removal(units).items():
                    found.setdefault(place, []).append(at)
        return {place: np.unique(np.concatenate(at)) for place, at in found.items()}

    def _cut(self, sizes: Mapping[int, int]) -> Graph:
        return without(self.graph, self._removed(sizes))

    def _with(self, sizes: Mapping[int, int]) -> Graph:
        """Return the graph with other widths of some groups, fitted if that is asked for."""
        removed = self._removed(sizes)
        if not removed:
            return self.graph
        graph = self.graph
        if self.step.compensate:
            constants = dict(graph.constants)
            for node in graph.nodes:
                self._fit(node, removed, constants)
            graph = replace(graph, constants=MappingProxyType(constants))
        return without(graph, removed)

    def _fit(
        self,
        node: Node,
        removed: Mapping[tuple[str, int], Array],
        constants: dict[str, Constant],
    ) -> None:
        """Fit a layer's weights to what it yields with all of its columns."""
        sums = self.sums.get(node.output.name) if node.outputs else None
        gone = None if sums is None else removed.get((node.inputs[1].name, 1))
        if sums is None or gone is None or not len(gone):
            return
        weight = self.graph.constants[node.inputs[1].name].array
        inner = int(np.prod(weight.shape[2:]))
        lost = (gone[:, None] * inner + np.arange(inner)).ravel()
        kept = np.setdiff1d(np.arange(sums.weight.shape[1]), lost)
        h = damped(sums.covariance[None], 1e-4)[0]
        fitted = np.zeros_like(sums.weight)
        fitted[:, kept] = np.linalg.solve(h[np.ix_(kept, kept)], h[kept] @ sums.weight.T).T
        constants[node.inputs[1].name] = Constant(
            fitted.reshape(weight.shape).astype(np.float32)
        )
        if len(node.inputs) > 2:
            bias = self.graph.constants[node.inputs[2].name].array
            moved = bias + (sums.weight - fitted) @ sums.mean
            constants[node.inputs[2].name] = Constant(moved.astype(np.float32))

    def _error(self, graph: Graph) -> float:
        return float(self.judge.errors(graph).mean(axis=0).sum())

    def _record(self, i: int, size: int, error: float) -> LayerRecord:
        group = self.groups[i]
        db = float(-10 * np.log10(max(error, 1e-20)))
        layer = " + ".join(n.layer for n in group.makers[:2])
        more = f" and {len(group.makers) - 2} more" if len(group.makers) > 2 else ""
        return LayerRecord(f"{layer}{more}", 200.0, db, f"{size} of {group.size}")

    def _trace(self, group: ChannelGroup) -> Trace:
        readers = list(self._readers(group))
        return trace(self.graph, group, readers, self.step.criterion, _DAMPING)

    def _readers(self, group: ChannelGroup) -> Iterator[Reader]:
        for node in group.readers:
            sums, columns = self.sums.get(node.output.name), columns_of(group, node)
            if sums is not None and columns is not None:
                power = np.einsum("rn,rn->", sums.weight @ sums.covariance, sums.weight)
                yield Reader(sums.weight, sums.covariance, columns, max(float(power), 1e-20))

    def _sums(self) -> dict[str, _Sums]:
        """Return what the layers that read channels read, from one walk through the graph."""
        wanted = {n.output.name for g in self.groups for n in g.readers}
        found: dict[str, _Sums] = {}
        walk, rng = Walk(self.graph, self.step.samples, half=True), np.random.default_rng(0)
        for node in walk.nodes:
            weight = self.graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
            fits = isinstance(node.op, Conv | FullyConnected) and weight is not None
            if node.outputs[0].name not in wanted or not fits or weight is None:
                walk.hold(node, walk.run(node))
                continue
            inner = weight[0].size
            results = [r[node.output.name] for r in walk.run(node)]
            if inner <= _MOST_INPUTS:
                moments = Moments.empty(1, 1, inner)
                rows = -(-max(_ROWS_PER_INPUT * inner, _LEAST_ROWS) // walk.count)
                for x, y in zip(walk.inputs(node, 0), results, strict=True):
                    count = places_of(y)
                    at = np.sort(rng.choice(count, min(rows, count), replace=False))
                    moments.add(*patches(node.op, weight.shape, x, y[:, :1], 1, at))
                found[node.output.name] = _Sums(
                    weight.astype(np.float64).reshape(len(weight), -1),
                    moments.centred()[0][0],
                    moments.x[0] / max(moments.count, 1),
                )
            walk.hold(node, ({node.output.name: y} for y in results))
        return found
