"""Channel pruning as a technique: each group of channels a site, each width an option."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from typing_extensions import override

from edgec.cache import Cache
from edgec.channels import ChannelGroup
from edgec.channels.importance import Criterion
from edgec.compression.keys import key_of, numbers
from edgec.compression.sites import NOTHING_GONE, Kept, Option, Picks, Site, Technique
from edgec.errors import InternalError
from edgec.ir import Array, Graph
from edgec.passes import Pass, PruneChannels, ReconstructLayers
from edgec.passes.channel_cuts import ChannelCuts
from edgec.passes.divergence import Divergence
from edgec.passes.judging import judging

__all__ = ["ChannelPruning"]

_LEAST_LEFT = 0.25
_MOST_WIDTHS = 10
_JUDGES = 128


class ChannelPruning(Technique):
    """What each width of each group of channels loses, one group at a time.

    The layers that read a group are fitted to samples, and the loss is measured on others:
    every fourth judges. What was measured is kept measurement by measurement, so that a run
    that was stopped goes on where it was.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample. With fewer than eight the same
        samples judge.
    multiple
        Widths that kernels like: what is left of a group is a multiple of it.
    criterion
        See :data:`edgec.channels.importance.Criterion`.
    compensate
        Whether the layers that read a group are fitted, and in the end all layers in order
        (:class:`~edgec.passes.ReconstructLayers`).
    progress
        Called with the number of widths that are measured, and of all.
    """

    name = "prune-channels"

    def __init__(
        self,
        graph: Graph,
        samples: Sequence[Mapping[str, Array]],
        *,
        multiple: int = 8,
        criterion: Criterion = "obs",
        compensate: bool = True,
        cache: Cache = Cache(None),  # noqa: B008
        progress: Callable[[int, int], None] = lambda done, all_: None,
    ) -> None:
        self.graph, self.samples = graph, samples
        self.criterion, self.compensate = criterion, compensate
        self._cuts = ChannelCuts(graph, samples, criterion, compensate=compensate)
        self._widths = {
            name: widths
            for name, group in self._cuts.groups.items()
            if len(widths := _widths(group, multiple)) > 1
        }
        nats = self._measured(cache, progress)
        self._sites = tuple(
            Site(
                name,
                self._cuts.groups[name].layer,
                tuple(Option(f"{n} of {widths[0]} channels", nats[name, n]) for n in widths),
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
        prune = PruneChannels(widths, self.samples, self.criterion, self.compensate)
        if not self.compensate:
            return (prune,)
        return prune, ReconstructLayers(self.graph, self._cuts.kept(widths), self.samples)

    @override
    def kept(self, picks: Picks) -> Kept:
        return self._cuts.kept(self.widths(picks))

    def widths(self, picks: Picks) -> dict[str, int]:
        """Return the widths that are picked, of groups that do not stay whole."""
        return {name: self._widths[name][k] for name, k in picks.items() if k}

    def _measured(
        self, cache: Cache, progress: Callable[[int, int], None]
    ) -> dict[tuple[str, int], float]:
        samples = judging(self.samples)[:_JUDGES]
        options = f"channels {self.criterion} {self.compensate} {len(samples)}"
        key = key_of(self.graph, self.samples, options)
        known = numbers(cache.read(key))
        wanted = [(name, n) for name, widths in self._widths.items() for n in widths[1:]]
        found = {(name, widths[0]): 0.0 for name, widths in self._widths.items()}
        judge: Divergence | None = None
        for done, (name, n) in enumerate(wanted, 1):
            label = f"{n} of {name}"
            if label not in known:
                judge = judge or Divergence(self.graph, samples)
                lost = float(judge.of(self._cuts.cut({name: n})).mean())
                known[label] = max(lost, 0.0) if math.isfinite(lost) else _RUINED
                cache.write(key, known)
            found[name, n] = known[label]
            progress(done, len(wanted))
        return found


_RUINED = 1e6
"""Nats of what is no number any more."""


def _widths(group: ChannelGroup, multiple: int) -> tuple[int, ...]:
    """Return the widths that a group may have, the whole first: ten smaller ones at most."""
    least = max(multiple, math.ceil(group.size * _LEAST_LEFT / multiple) * multiple)
    most = (group.size - 1) // multiple * multiple
    every = list(range(most, least - 1, -multiple))
    if len(every) > _MOST_WIDTHS:
        at = np.unique(np.linspace(0, len(every) - 1, _MOST_WIDTHS).round().astype(int))
        every = [every[int(i)] for i in at]
    return group.size, *every
