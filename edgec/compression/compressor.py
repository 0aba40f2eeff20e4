"""A graph made smaller until a goal holds, by what loses least of all that was tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from edgec.cache import Cache
from edgec.compression.channels import ChannelPruning
from edgec.compression.factors import Factorization
from edgec.compression.search import Found, Price, search
from edgec.compression.sites import NOTHING_GONE, Kept, Picks, Technique
from edgec.ir import Array, Graph
from edgec.latency import Kernels
from edgec.passes import Pass, PassRecord, Pipeline, Recover
from edgec.passes.divergence import Divergence
from edgec.passes.judging import LEAST_SAMPLES, judging

__all__ = [
    "Chosen",
    "Compressed",
    "Compressor",
    "plain_nats",
    "techniques_for",
]

Say = Callable[[str, int, int], None]
"""Told a stage, and how much of how much of it is done."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was done to one place.

    Parameters
    ----------
    nats
        What it loses alone.
    """

    technique: str
    layer: str
    label: str
    nats: float


@dataclass(frozen=True, slots=True)
class Compressed:
    """A smaller graph, and how it came to be.

    Parameters
    ----------
    price
        What it costs, in the unit of the goal.
    nats
        What its outputs lose, all in all, on samples held out.
    tried
        What each set of techniques loses that reached the goal, by their names.
    kept
        The channels that are left, of values that have lost some.
    """

    graph: Graph
    records: tuple[PassRecord, ...]
    price: float
    nats: float
    chosen: tuple[Chosen, ...]
    tried: Mapping[str, float]
    kept: Kept = field(default_factory=lambda: NOTHING_GONE)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the graph as plain values of JSON."""
        return {
            "nats": plain_nats(self.nats),
            "tried": {name: plain_nats(nats) for name, nats in self.tried.items()},
            "chosen": [
                {
                    "technique": c.technique,
                    "layer": c.layer,
                    "option": c.label,
                    "nats": plain_nats(c.nats),
                }
                for c in self.chosen
            ],
        }


def plain_nats(nats: float) -> float | None:
    """Return nats as a report holds them: nothing stands for what is no number."""
    return round(nats, 6) if math.isfinite(nats) else None


class Compressor:
    """Makes one graph smaller, as often as asked; what was measured of it is measured once.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample.
    techniques
        In the order in which they change a graph. Each is tried alone, and with the others.
    say
        Told what is being done.
    recover
        For how many steps what was chosen is trained towards the graph
        (:class:`~edgec.passes.Recover`), if it is.
    """

    def __init__(
        self,
        graph: Graph,
        samples: Sequence[Mapping[str, Array]],
        techniques: Sequence[Technique],
        say: Say = lambda stage, done, total: None,
        recover: int | None = None,
    ) -> None:
        self.graph, self._say = graph, say
        self.techniques = tuple(t for t in techniques if t.sites)
        self._samples, self._steps = samples, recover
        self._recovered: dict[int, Compressed] = {}
        self._held_out = judging(samples)
        self._judge: Divergence | None = None
        self._known: dict[tuple[Price, tuple[str, ...]], dict[tuple[int, ...], float]] = {}
        self._made: dict[tuple[tuple[str, tuple[tuple[str, int], ...]], ...], Compressed] = {}

    def within(self, price: Price, most: float) -> Compressed | None:
        """Return the graph that loses least among those that cost no more than `most`.

        Every set of techniques has its own best options; they are carried out, and what all of
        them lose together is measured. ``None`` if none reaches the goal.
        """
        tried: dict[str, float] = {}
        best: Compressed | None = None
        for count in range(1, len(self.techniques) + 1):
            for some in combinations(self.techniques, count):
                found = self._searched(some, price, most)
                if found is None or not all(found.picks):
                    continue  # out of reach, or one of them has nothing to add
                made = self._carried_out(some, found.picks, price)
                tried[" + ".join(t.name for t in some)] = made.nats
                if best is None or made.nats < best.nats:
                    best = made
        if best is None and price(self.graph) <= most:
            return Compressed(self.graph, (), price(self.graph), 0.0, (), tried)
        if best is None:
            return None
        return replace(self._trained(best), tried=tried)

    def _searched(
        self, techniques: Sequence[Technique], price: Price, most: float
    ) -> Found | None:
        """Return the best options; of one technique as they are measured together."""
        first, *others = techniques
        tell = f"search {' + '.join(t.name for t in techniques)}"
        return search(
            self.graph,
            techniques,
            price,
            most,
            progress=lambda done, total: self._say(tell, done, total),
            loss=None if others or not first.trials else lambda picks: first.loss(picks[0]),
            trials=first.trials,
            known=self._prices(price, techniques),
        )

    def _prices(
        self, price: Price, techniques: Sequence[Technique]
    ) -> dict[tuple[int, ...], float]:
        """Return what is known of prices, to be added to."""
        return self._known.setdefault((price, tuple(t.name for t in techniques)), {})

    def least(self, price: Price) -> Compressed:
        """Return the graph that costs least, whatever it loses."""
        low = 0.0
        whole = high = price(self.graph)
        known = self._prices(price, self.techniques)
        found = search(self.graph, self.techniques, price, high, known=known)
        while high - low > 0.01 * whole:
            middle = (low + high) / 2
            now = search(self.graph, self.techniques, price, middle, known=known)
            if now is None:
                low = middle
            else:
                found, high = now, now.price
        assert found is not None
        return self._trained(self._carried_out(self.techniques, found.picks, price))

    def _trained(self, made: Compressed) -> Compressed:
        """Return what was chosen after it was trained, if it is to be."""
        if self._steps is None or made.graph is self.graph:
            return made
        if id(made) not in self._recovered:
            step = Recover(
                self.graph,
                self._samples,
                made.kept,
                self._steps,
                progress=lambda done, total, nats: self._say(
                    f"recover, {nats:.4f} nats lost", done, total
                ),
            )
            graph, records = Pipeline((step,)).run(made.graph)
            self._recovered[id(made)] = replace(
                made, graph=graph, records=(*made.records, *records), nats=self._lost(graph)
            )
        return self._recovered[id(made)]

    def _lost(self, graph: Graph) -> float:
        self._judge = self._judge or Divergence(self.graph, self._held_out)
        return float(self._judge.of(graph).mean())

    def _carried_out(
        self, techniques: Sequence[Technique], picks: Sequence[Picks], price: Price
    ) -> Compressed:
        key = tuple(
            (t.name, tuple(sorted(p.items()))) for t, p in zip(techniques, picks, strict=True)
        )
        if key not in self._made:
            passes: list[Pass] = []
            kept: Kept = NOTHING_GONE
            for technique, each in zip(techniques, picks, strict=True):
                passes += technique.passes(each, kept)
                kept = {**kept, **technique.kept(each)}
            tell = " + ".join(t.name for t in techniques)
            graph, records = Pipeline(
                tuple(passes), None, lambda name: self._say(f"{tell}: {name}", 0, 0)
            ).run(self.graph)
            chosen = _chosen(techniques, picks)
            self._made[key] = Compressed(
                graph, records, price(graph), self._lost(graph), chosen, {}, kept
            )
        return self._made[key]


def _chosen(techniques: Sequence[Technique], picks: Sequence[Picks]) -> tuple[Chosen, ...]:
    return tuple(
        Chosen(technique.name, site.layer, option.label, option.nats)
        for technique, each in zip(techniques, picks, strict=True)
        for site in technique.sites
        if (k := each.get(site.name, 0)) and (option := site.options[k])
    )


def techniques_for(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    names: Sequence[str],
    *,
    multiple: int,
    kernels: Kernels,
    cache: Cache,
    say: Say,
) -> tuple[Technique, ...]:
    """Return the techniques to reach a goal with, everything about them measured.

    Parameters
    ----------
    names
        Those wanted; if there are none, all, but of factorisations only what is faster.
    multiple
        What the widths of layers have to be multiples of.
    kernels
        Of the target.
    """
    found: list[Technique] = []
    if not names or "prune-channels" in names:
        found.append(
            ChannelPruning(
                graph,
                samples,
                multiple=multiple,
                criterion="obs",  # to measure by energy as well takes twice as long
                cache=cache,
                progress=lambda done, total: say("measure channels", done, total),
            )
        )
    kinds = tuple(
        kind for name, some in _KINDS.items() for kind in some if not names or name in names
    )
    if kinds and len(samples) >= LEAST_SAMPLES:
        found.append(
            Factorization(
                graph,
                samples,
                kinds=kinds,
                kernels=None if names else kernels,
                cache=cache,
                progress=lambda done, total: say("measure factors", done, total),
            )
        )
    return tuple(found)


_KINDS = {
    "factorize-separable": ("separable",),
    "factorize-low-rank": ("channel", "spatial", "tucker"),
}
"""Ways to factorise, by the technique that users name."""
