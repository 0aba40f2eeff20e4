"""Channel pruning as a technique: each group of channels a site, each width an option."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from typing_extensions import override

from edgec.cache import Cache
from edgec.channels import ChannelGroup
from edgec.channels.importance import Criterion
from edgec.compression.keys import key_of, lists, numbers
from edgec.compression.sites import NOTHING_GONE, Kept, Option, Picks, Site, Technique
from edgec.cost import cost
from edgec.errors import Diagnostic, InternalError
from edgec.ir import Array, Graph
from edgec.passes import Pass, PruneChannels, ReconstructLayers
from edgec.passes.channel_cuts import ChannelCuts, Criteria
from edgec.passes.divergence import Divergence
from edgec.passes.judging import LEAST_SAMPLES, judging
from edgec.passes.moved_samples import moved

__all__ = ["ChannelPruning"]

_BOTH: tuple[Criterion, ...] = ("obs", "energy")
_LEAST_LEFT = 0.25
_MOST_WIDTHS, _MEASURED_WIDTHS = 24, 10
_JUDGES, _LEAST_JUDGES, _JUDGED_MACS = 384, 32, 2e10
_TRIED = 3 / 8
"""The share of the samples that all is fitted to while widths are tried."""
_MOST_TRIED, _MOST_ALONE, _LEAST_ALONE, _ALONE_MACS = 192, 128, 32, 2e9
"""How many those are at most, and while each width is tried alone: none in large models, where
it would take too long."""
_STEPS, _FEWER_STEPS, _STEPS_TRIED = 800, 400, 100
"""For which two layers are fitted together (:class:`~edgec.passes.ReconstructLayers`): in the
end, in large models, and while widths are tried in small ones; in large ones not at all."""


class ChannelPruning(Technique):
    """What each width of each group of channels loses, one group at a time.

    While widths are tried, all that makes up for the loss is fitted to three eighths of the
    samples, and the loss is measured on the others, in copies that are moved
    (:func:`~edgec.passes.moved_samples.moved`). In small models that is done for each width; in
    others each alone has only the layers fitted that read the group. Of a group with many
    widths some are measured, and what lies between is between. What was measured is kept
    measurement by measurement, so that a run that was stopped goes on where it was.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample. With few, every fourth judges; with
        fewer than eight all do.
    multiple
        Widths that kernels like: what is left of a group is a multiple of it.
    criterion
        See :data:`edgec.channels.importance.Criterion`. ``None`` measures what goes first by
        output energy and by optimal brain surgery, and takes for each width what loses less.
    compensate
        Whether the layers that read a group are fitted, and in the end all layers in order
        (:class:`~edgec.passes.ReconstructLayers`).
    progress
        Called with the number of widths that are measured, and of all.
    """

    name = "prune-channels"
    trials = 8

    def __init__(
        self,
        graph: Graph,
        samples: Sequence[Mapping[str, Array]],
        *,
        multiple: int = 8,
        criterion: Criterion | None = None,
        compensate: bool = True,
        cache: Cache = Cache(None),  # noqa: B008
        progress: Callable[[int, int], None] = lambda done, all_: None,
    ) -> None:
        self.graph, self.samples = graph, samples
        self.compensate = compensate
        self._criteria = _BOTH if criterion is None else (criterion,)
        self._cuts = ChannelCuts(graph, samples, compensate=compensate)
        self._widths = {
            name: widths
            for name, group in self._cuts.groups.items()
            if len(widths := _widths(group, multiple)) > 1
        }
        tried, self._judging = _parts(graph, samples)
        self._together = tried if compensate else ()
        self._alone_samples = self._together[: _fitted_alone(graph, len(tried))]
        counts = f"{len(self._judging)} {len(self._together)} {len(self._alone_samples)}"
        options = f"channels {compensate} {counts} {_STEPS_TRIED}"
        self._cache, self._key = cache, key_of(graph, samples, options)
        found = cache.read(self._key)
        self._known = numbers(found)
        self._losses = {
            name.removeprefix(_TOGETHER): np.array(nats)
            for name, nats in lists(found).items()
            if len(nats) == len(self._judging)
        }
        self._judge: Divergence | None = None
        nats = self._measured(progress)
        self._chosen = {place: by for place, (_, by) in nats.items()}
        self._sites = tuple(
            Site(
                name,
                self._cuts.groups[name].layer,
                tuple(Option(f"{n} of {widths[0]} channels", nats[name, n][0]) for n in widths),
            )
            for name, widths in self._widths.items()
        )

    @property
    @override
    def sites(self) -> tuple[Site, ...]:
        return self._sites

    @override
    def skeleton(self, picks: Picks, graph: Graph) -> Graph:
        return self._cuts.skeleton(self.widths(picks), graph)

    @override
    def passes(self, picks: Picks, kept: Kept = NOTHING_GONE) -> tuple[Pass, ...]:
        if kept:
            raise InternalError("channels are pruned before anything else")
        widths = self.widths(picks)
        if not widths:
            return ()
        criteria = self._criteria_of(widths)
        prune = PruneChannels(widths, self.samples, criteria, self.compensate)
        if not self.compensate:
            return (prune,)
        left = self._cuts.kept(widths, criteria)
        steps = _STEPS if self._alone_samples else _FEWER_STEPS
        return prune, ReconstructLayers(self.graph, left, self.samples, steps)

    @override
    def notes(self) -> tuple[Diagnostic, ...]:
        return PruneChannels({}, self.samples).diagnostics(self.graph)

    @override
    def kept(self, picks: Picks) -> Kept:
        widths = self.widths(picks)
        return self._cuts.kept(widths, self._criteria_of(widths))

    def widths(self, picks: Picks) -> dict[str, int]:
        """Return the widths that are picked, of groups that do not stay whole."""
        return {name: self._widths[name][k] for name, k in picks.items() if k}

    def loss(self, picks: Picks) -> Array:
        """Return what some widths lose together, on each of the samples held out.

        All that makes up for it is fitted to fewer samples than in the end.
        """
        widths = dict(sorted(self.widths(picks).items()))
        criteria = self._criteria_of(widths)
        label = " and ".join(f"{n} of {g} by {criteria[g]}" for g, n in widths.items())
        if label not in self._losses:
            made = self._cut(widths, criteria, self._together)
            self._losses[label] = self._judged(made)
            self._write()
        return self._losses[label]

    def _cut(
        self,
        widths: Mapping[str, int],
        criteria: Criteria,
        samples: Sequence[Mapping[str, Array]],
    ) -> Graph:
        """Return the graph with other widths, and all layers behind them fitted to samples."""
        made = self._cuts.cut(widths, criteria)
        if not samples:
            return made
        left = self._cuts.kept(widths, criteria)
        steps = _STEPS_TRIED if self._alone_samples else 0
        return ReconstructLayers(self.graph, left, samples, steps).run(made)

    def _criteria_of(self, widths: Mapping[str, int]) -> dict[str, Criterion]:
        return {name: self._chosen[name, n] for name, n in widths.items()}

    def _measured(
        self, progress: Callable[[int, int], None]
    ) -> dict[tuple[str, int], tuple[float, Criterion]]:
        """Return what each width of each group loses alone, by the criterion that is best."""
        wanted = {name: _some(widths) for name, widths in self._widths.items()}
        count, done = sum(map(len, wanted.values())), 0
        found: dict[tuple[str, int], tuple[float, Criterion]] = {}
        for name, some in wanted.items():
            nats, by = [0.0], [self._criteria[0]]
            for n in some:
                lost, criterion = self._alone(name, n)
                nats.append(lost)
                by.append(criterion)
                done += 1
                progress(done, count)
            widths = self._widths[name]
            gone = [widths[0] - n for n in (widths[0], *some)]
            for n in widths:
                k = int(np.searchsorted(gone, widths[0] - n))  # the next that was measured
                found[name, n] = float(np.interp(widths[0] - n, gone, nats)), by[k]
        return found

    def _alone(self, name: str, n: int) -> tuple[float, Criterion]:
        """Return what a group loses at a width, and by which criterion that is least."""
        gone = self._cuts.groups[name].size - n
        measured: dict[frozenset[int], str] = {}
        found: list[tuple[float, Criterion]] = []
        for by in self._criteria:
            label = f"{n} of {name} by {by}"
            if label not in self._known and len(self._criteria) > 1:
                units = frozenset(self._cuts.trace(name, by).order[:gone].tolist())
                if units in measured:  # the same channels go
                    self._keep(label, self._known[measured[units]])
                measured.setdefault(units, label)
            made = partial(self._cut, {name: n}, by, self._alone_samples)
            found.append((self._nats(label, made), by))
        return min(found, key=lambda each: each[0])

    def _nats(self, label: str, made: Callable[[], Graph]) -> float:
        """Return what a graph loses, if need be by measuring it."""
        if label not in self._known:
            self._keep(label, float(self._judged(made()).mean()))
        return self._known[label]

    def _judged(self, graph: Graph) -> Array:
        self._judge = self._judge or Divergence(self.graph, self._judging)
        return np.clip(self._judge.of(graph), 0.0, _RUINED)

    def _keep(self, label: str, nats: float) -> None:
        self._known[label] = nats
        self._write()

    def _write(self) -> None:
        together = {_TOGETHER + k: nats.tolist() for k, nats in self._losses.items()}
        self._cache.write(self._key, {**self._known, **together})


_TOGETHER = "together: "
_RUINED = 1e6
"""Nats of what is no number any more."""


def _parts(
    graph: Graph, samples: Sequence[Mapping[str, Array]]
) -> tuple[Sequence[Mapping[str, Array]], Sequence[Mapping[str, Array]]]:
    """Return the samples to fit to, and those that judge; of large models fewer judge."""
    count = min(_MOST_TRIED, int(_TRIED * len(samples)))
    judges = int(np.clip(_JUDGED_MACS / max(cost(graph).macs, 1), _LEAST_JUDGES, _JUDGES))
    if count < LEAST_SAMPLES:
        return samples, judging(samples)[:judges]
    others = samples[count:]
    return samples[:count], moved(others, max(1, _JUDGES // len(others)))[:judges]


def _fitted_alone(graph: Graph, there_are: int) -> int:
    """Return how many samples layers are fitted to for each width alone; none if too few."""
    count = min(_MOST_ALONE, there_are, int(_ALONE_MACS / max(cost(graph).macs, 1)))
    return count if count >= _LEAST_ALONE else 0


def _some(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the widths to measure: the first and the last that are smaller than the whole."""
    smaller = widths[1:]
    at = np.linspace(0, len(smaller) - 1, min(_MEASURED_WIDTHS, len(smaller)))
    return tuple(smaller[int(i)] for i in np.unique(at.round().astype(int)))


def _widths(group: ChannelGroup, multiple: int) -> tuple[int, ...]:
    """Return the widths that a group may have, the whole first: 24 smaller ones at most."""
    least = max(multiple, math.ceil(group.size * _LEAST_LEFT / multiple) * multiple)
    most = (group.size - 1) // multiple * multiple
    every = list(range(most, least - 1, -multiple))
    if len(every) > _MOST_WIDTHS:
        # The first few channels are what little pruning takes: there the steps are small.
        at = np.unique(np.geomspace(1, len(every), _MOST_WIDTHS).round().astype(int))
        every = [every[int(i) - 1] for i in at]
    return group.size, *every
