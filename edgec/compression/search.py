"""Which options to take: the least loss with which a graph meets a goal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from edgec.compression.sites import Picks, Technique
from edgec.ir import Array, Graph
from edgec.passes.knapsack import Allocator, Offer

__all__ = ["Found", "Loss", "Price", "search"]

Price = Callable[[Graph], float]
"""What a graph costs: multiply-accumulates, bytes, predicted seconds, bytes of RAM."""

Loss = Callable[[tuple[Picks, ...]], Array]
"""What the options picked for each technique lose together, in nats of each of some samples."""

_TURNS = 20
_ROUNDS = 3
_TRIALS = 24
_REACH = 2
"""How many options a site moves by in an exchange."""
_LEAST_GAIN, _STANDARD_ERRORS = 0.01, 2.0
"""Of a measured loss, and of what each sample gains: below these it may be chance. Of many
exchanges that change nothing the best looks better, too."""
_SLACK = 0.005
"""Of the whole price, by which sums of savings may be off."""


@dataclass(frozen=True, slots=True)
class Found:
    """The options that were picked.

    Parameters
    ----------
    picks
        For each technique, in their order; sites that stay as they are are not named.
    price
        Of the graph with all of them.
    nats
        What they lose alone, summed up.
    measured
        What they lose together, if that was measured.
    """

    picks: tuple[Picks, ...]
    price: float
    nats: float
    measured: float | None = None


def search(
    graph: Graph,
    techniques: Sequence[Technique],
    price: Price,
    goal: float,
    progress: Callable[[int, int], None] = lambda done, all_: None,
    loss: Loss | None = None,
    trials: int = _TRIALS,
    known: dict[tuple[int, ...], float] | None = None,
) -> Found | None:
    """Return the options that lose least in sum and bring a graph's price down to a goal.

    What an option saves is taken from the price of the graph with it alone; the options come
    from an exact knapsack over these, and its budget of loss from bisection on the true price
    of all of them together. As savings do not quite add up, they are then taken again beside
    what was picked, and the search is repeated; of all that meet the goal, the least loss wins.
    At last every site is given back what the goal leaves room for.

    Losses do not quite add up either, least of all once other layers make up for them. With
    `loss` one site then gives way to another wherever that is measured to lose less, beyond
    chance.

    Parameters
    ----------
    techniques
        In the order in which they change the graph: each works on what those before it made.
    goal
        The most that the graph may cost.
    progress
        Called with the number of prices or of losses that are known, and of all.
    loss
        What some options lose together, with all that makes up for it, on samples held out.
    trials
        How often that is measured, at most.
    known
        Prices that an earlier search with the same techniques found; what this one finds is
        added.

    Returns
    -------
    Found or None
        ``None`` if the goal is out of reach.
    """
    return _Search(graph, techniques, price, goal, progress, known).found(loss, trials)


_Chosen = tuple[int, ...]
"""An option for each site, over all techniques."""


class _Search:
    def __init__(
        self,
        graph: Graph,
        techniques: Sequence[Technique],
        price: Price,
        goal: float,
        progress: Callable[[int, int], None],
        known: dict[_Chosen, float] | None,
    ) -> None:
        self.graph, self.techniques = graph, techniques
        self.price, self.goal, self.progress = price, goal, progress
        self.places = [(t, s) for t, each in enumerate(techniques) for s in each.sites]
        self.nats = [[o.nats for o in site.options] for _, site in self.places]
        self.known: dict[_Chosen, float] = {} if known is None else known
        self.whole = tuple(0 for _ in self.places)

    def found(self, loss: Loss | None, trials: int) -> Found | None:
        if self.price_of(self.whole) <= self.goal:
            return self.result(self.whole)
        best = self.refined(self.whole)
        if best is None:
            # Where the price is a peak nothing saves alone, but it does beside the cheapest.
            cheapest = self.cheapest()
            if self.price_of(cheapest) > self.goal:
                return None
            best = self.refined(cheapest) or cheapest
        best = self.given_back(best)
        if loss is None or trials < 1:
            return self.result(best)
        return self.exchanged(best, loss, trials)

    def refined(self, around: _Chosen) -> _Chosen | None:
        """Return the best of a few rounds, each with savings beside what the last picked."""
        best: _Chosen | None = None
        for _ in range(_ROUNDS):
            chosen = self.allocated(around)
            if chosen is None or chosen == best:
                break
            if best is None or self.lost(chosen) < self.lost(best):
                best = chosen
            around = chosen
        return best

    def cheapest(self) -> _Chosen:
        """Return what costs least, one site after the other; if two do, what loses more."""
        chosen = self.whole
        for i, nats in enumerate(self.nats):
            ways = [(*chosen[:i], k, *chosen[i + 1 :]) for k in range(len(nats))]
            chosen = min(ways, key=lambda way: (self.price_of(way), -self.lost(way)))
        return chosen

    def result(self, chosen: _Chosen, measured: float | None = None) -> Found:
        return Found(self.split(chosen), self.price_of(chosen), self.lost(chosen), measured)

    def split(self, chosen: _Chosen) -> tuple[Picks, ...]:
        return tuple(self.picks(chosen, t) for t in range(len(self.techniques)))

    def picks(self, chosen: _Chosen, technique: int) -> Picks:
        return {
            site.name: k
            for (t, site), k in zip(self.places, chosen, strict=True)
            if t == technique and k
        }

    def lost(self, chosen: _Chosen) -> float:
        return sum(nats[k] for nats, k in zip(self.nats, chosen, strict=True))

    def price_of(self, chosen: _Chosen) -> float:
        if chosen not in self.known:
            graph = self.graph
            for t, technique in enumerate(self.techniques):
                if picks := self.picks(chosen, t):
                    graph = technique.skeleton(picks, graph)
            self.known[chosen] = self.price(graph)
        return self.known[chosen]

    def allocated(self, around: _Chosen) -> _Chosen | None:
        """Return the least loss that meets the goal, with savings as they are beside others."""
        every = [(i, k) for i, nats in enumerate(self.nats) for k in range(len(nats))]
        prices: list[list[float]] = [[] for _ in self.places]
        for done, (i, k) in enumerate(every, 1):
            prices[i].append(self.price_of((*around[:i], k, *around[i + 1 :])))
            self.progress(done, len(every))
        unit = max(abs(self.price_of(self.whole)), 1e-30)
        allocator = Allocator(
            [
                [Offer((p - min(each)) / unit, n) for p, n in zip(each, nats, strict=True)]
                for each, nats in zip(prices, self.nats, strict=True)
            ]
        )
        low, high = 0.0, sum(map(max, self.nats))
        best = allocator.within(high)
        if best is None or self.price_of(best) > self.goal:
            return None
        for _ in range(_TURNS):
            # Losses span many powers of ten.
            middle = float(np.sqrt(max(low, 1e-9 * high) * high))
            chosen = allocator.within(middle)
            if chosen is not None and self.price_of(chosen) <= self.goal:
                best, high = chosen, self.lost(chosen)
            else:
                low = middle
        return best

    def given_back(self, chosen: _Chosen) -> _Chosen:
        """Return what loses less and still meets the goal, one site after the other."""
        while True:
            less = [
                (self.nats[i][k] - self.nats[i][chosen[i]], i, k)
                for i in range(len(chosen))
                for k in range(len(self.nats[i]))
                if self.nats[i][k] < self.nats[i][chosen[i]]
            ]
            for _, i, k in sorted(less):
                now = (*chosen[:i], k, *chosen[i + 1 :])
                if self.price_of(now) <= self.goal:
                    chosen = now
                    break
            else:
                return chosen

    def exchanged(self, chosen: _Chosen, loss: Loss, trials: int) -> Found:
        """Return what loses least as it is measured, one exchange after the other."""
        known = {chosen: loss(self.split(chosen))}
        self.progress(len(known), trials)
        again = True
        while again:
            again = False
            for way in self.exchanges(chosen):
                if len(known) >= trials:
                    break
                if way in known or self.price_of(way) > self.goal:
                    continue
                known[way] = loss(self.split(way))
                self.progress(len(known), trials)
                if _gains(known[chosen], known[way]):
                    chosen, again = way, True
                    break
        return self.result(chosen, float(known[chosen].mean()))

    def exchanges(self, chosen: _Chosen) -> list[_Chosen]:
        """Return what differs in two sites and may meet the goal, the least loss first."""
        base = self.price_of(chosen)
        room = self.goal - base + _SLACK * abs(self.price_of(self.whole))
        moves: list[tuple[int, int, float, float]] = []
        for i, nats in enumerate(self.nats):
            near = range(max(chosen[i] - _REACH, 0), min(chosen[i] + _REACH + 1, len(nats)))
            for k in near:
                if k != chosen[i]:
                    way = (*chosen[:i], k, *chosen[i + 1 :])
                    cheaper = self.price_of(way) - base
                    moves.append((i, k, nats[k] - nats[chosen[i]], cheaper))
        found: list[tuple[float, _Chosen]] = []
        for (i, k, more, price), (j, n, less, other) in combinations(moves, 2):
            if i != j and price * other < 0 and price + other <= room:
                now = list(chosen)
                now[i], now[j] = k, n
                found.append((more + less, tuple(now)))
        return [way for _, way in sorted(found)]


def _gains(before: Array, after: Array) -> bool:
    """Whether samples lose less than before, each beside itself, and beyond chance."""
    gained = before - after
    error = gained.std(ddof=1) / math.sqrt(len(gained)) if len(gained) > 1 else 0.0
    least = max(_LEAST_GAIN * float(before.mean()), _STANDARD_ERRORS * float(error))
    return float(gained.mean()) > least
