"""What is left of a graph when groups of channels are cut to other widths."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from edgec.channels import ChannelGroup, channels_of, without
from edgec.channels.importance import Criterion, Reader, Trace, columns_of, trace
from edgec.errors import InternalError
from edgec.ir import Array, Constant, Graph, Node
from edgec.ops import Conv, FullyConnected
from edgec.passes.compensated_rounding import Moments, damped
from edgec.passes.judging import fitting
from edgec.passes.patches import patches, places_of
from edgec.passes.walk import Walk

__all__ = ["ChannelCuts", "Criteria", "Widths", "group_names"]

Criteria = Criterion | Mapping[str, Criterion]
"""In which order units go: the same for all groups, or by the name of the group."""

Widths = Mapping[str, int]
"""How many units are left of groups, by name; groups that are not named stay whole."""

_Removal = Mapping[tuple[str, int], Array]

_CHANNELS = 1
_RANKING_DAMPING, _FITTING_DAMPING = 0.01, 1e-4
_MOST_INPUTS = 2304
"""Inputs to a sum from which on a layer is not fitted, nor asked which channels it needs: the
covariance of so many takes 42 MB."""
_ROWS_PER_INPUT, _LEAST_ROWS = 64, 32768


def group_names(groups: Sequence[ChannelGroup]) -> tuple[str, ...]:
    """Return a name for each group: of what its first layer yields.

    A layer whose channels fall into several groups names the others with a number behind.
    """
    found: dict[str, None] = {}
    for group in groups:
        first = group.makers[0].output.name
        name, k = first, 1
        while name in found:
            k += 1
            name = f"{first} {k}"
        found[name] = None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What a layer reads, in sums."""

    weight: Array
    covariance: Array
    mean: Array


class ChannelCuts:
    """Cuts groups of channels to widths, in the order of criteria.

    Layers that read the channels are fitted to what they yielded before. What is known of them
    comes from one walk through the graph, when it is first asked for: for each the covariance
    of its patches in float64, on at most a thinned number of places, and of layers with up to
    2304 inputs to a sum. What was held out of the samples is not looked at.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample.
    names
        The groups that will be cut; all if this is not given.
    """

    def __init__(
        self,
        graph: Graph,
        samples: Sequence[Mapping[str, Array]],
        *,
        compensate: bool,
        names: Sequence[str] | None = None,
    ) -> None:
        self.graph, self.samples = graph, samples
        self.compensate = compensate
        groups = channels_of(graph).groups
        every = dict(zip(group_names(groups), groups, strict=True))
        self.groups = {n: g for n, g in every.items() if names is None or n in names}
        self._traces: dict[tuple[str, Criterion], Trace] = {}

    def kept(self, widths: Widths, criteria: Criteria) -> dict[str, Array]:
        """Return the channels that are left of values that lose some, by name."""
        lengths = {v.name: v.type.shape for v in self.graph.values()}
        return {
            name: np.setdiff1d(np.arange(int(lengths[name][axis])), at)
            for (name, axis), at in self._removed(widths, criteria).items()
            if axis == _CHANNELS and name not in self.graph.constants
        }

    def skeleton(self, widths: Widths, graph: Graph | None = None) -> Graph:
        """Return the graph with other widths, and in it the first units of each group.

        Parameters
        ----------
        graph
            Another graph whose values have the same names and channels.
        """
        removed = _joined(
            self.groups[name].removal(np.arange(size, self.groups[name].size))
            for name, size in widths.items()
        )
        return without(self.graph if graph is None else graph, removed)

    def cut(
        self, widths: Widths, criteria: Criteria, *, compensate: bool | None = None
    ) -> Graph:
        """Return the graph with other widths, fitted if that is asked for."""
        removed = self._removed(widths, criteria)
        if not removed:
            return self.graph
        graph = self.graph
        if self.compensate if compensate is None else compensate:
            constants = dict(graph.constants)
            for node in graph.nodes:
                self._fit(node, removed, constants)
            graph = replace(graph, constants=MappingProxyType(constants))
        return without(graph, removed)

    def trace(self, name: str, criterion: Criterion) -> Trace:
        """Return in which order the units of a group go."""
        if (name, criterion) not in self._traces:
            group = self.groups[name]
            readers = [] if criterion in ("l1", "l2") else list(self._readers(group))
            self._traces[name, criterion] = trace(
                self.graph, group, readers, criterion, _RANKING_DAMPING
            )
        return self._traces[name, criterion]

    def _removed(self, widths: Widths, criteria: Criteria) -> dict[tuple[str, int], Array]:
        """Return what goes, by value and axis."""
        found: list[_Removal] = []
        for name, size in widths.items():
            group = self.groups.get(name)
            if group is None or not 0 < size <= group.size:
                raise InternalError(f"there is no group {name!r} of {size} channels or more")
            criterion = criteria if isinstance(criteria, str) else criteria[name]
            units = self.trace(name, criterion).order[: group.size - size]
            if len(units):
                found.append(group.removal(units))
        return _joined(found)

    def _readers(self, group: ChannelGroup) -> Iterator[Reader]:
        for node in group.readers:
            sums, columns = self._sums.get(node.output.name), columns_of(group, node)
            if sums is not None and columns is not None:
                power = np.einsum("rn,rn->", sums.weight @ sums.covariance, sums.weight)
                yield Reader(sums.weight, sums.covariance, columns, max(float(power), 1e-20))

    def _fit(
        self,
        node: Node,
        removed: _Removal,
        constants: dict[str, Constant],
    ) -> None:
        """Fit a layer's weights to what it yields with all of its columns."""
        if not self._is_fitted(node):
            return
        gone = removed.get((node.inputs[1].name, 1))
        sums = None if gone is None else self._sums.get(node.output.name)
        if sums is None or gone is None or not len(gone):
            return
        weight = self.graph.constants[node.inputs[1].name].array
        inner = int(np.prod(weight.shape[2:]))
        lost = (gone[:, None] * inner + np.arange(inner)).ravel()
        kept = np.setdiff1d(np.arange(sums.weight.shape[1]), lost)
        h = damped(sums.covariance[None], _FITTING_DAMPING)[0]
        fitted = np.zeros_like(sums.weight)
        fitted[:, kept] = np.linalg.solve(h[np.ix_(kept, kept)], h[kept] @ sums.weight.T).T
        constants[node.inputs[1].name] = Constant(
            fitted.reshape(weight.shape).astype(weight.dtype)
        )
        if len(node.inputs) > 2:
            bias = self.graph.constants[node.inputs[2].name].array
            moved = bias + (sums.weight - fitted) @ sums.mean
            constants[node.inputs[2].name] = Constant(moved.astype(bias.dtype))

    @cached_property
    def _sums(self) -> dict[str, _Sums]:
        """What the layers that read channels read, from one walk through the graph."""
        wanted = {n.output.name for g in self.groups.values() for n in g.readers}
        found: dict[str, _Sums] = {}
        walk = Walk(self.graph, fitting(self.samples), half=True)
        for node in walk.nodes:
            if not self._is_fitted(node) or node.outputs[0].name not in wanted:
                walk.hold(node, walk.run(node))
                continue
            weight = self.graph.constants[node.inputs[1].name].array
            inner = weight[0].size
            results = [r[node.output.name] for r in walk.run(node)]
            if inner <= _MOST_INPUTS:
                moments = Moments.empty(1, 1, inner)
                # What is drawn depends on the layer alone, not on which others are looked at.
                rng = np.random.default_rng(zlib.crc32(node.output.name.encode()))
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

    def _is_fitted(self, node: Node) -> bool:
        """Whether a layer is a product with stored weights that no other layer has."""
        return isinstance(node.op, Conv | FullyConnected) and all(
            v.name in self.graph.constants and len(self.graph.users.get(v, ())) == 1
            for v in node.inputs[1:]
        )


def _joined(removals: Iterable[_Removal]) -> dict[tuple[str, int], Array]:
    found: dict[tuple[str, int], list[Array]] = {}
    for removal in removals:
        for place, at in removal.items():
            found.setdefault(place, []).append(at)
    return {place: np.unique(np.concatenate(at)) for place, at in found.items()}
