"""The cheapest choice for each layer within a budget of error, for all budgets at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array

__all__ = ["Allocator", "Offer"]

_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class Offer:
    """One choice for one layer.

    Parameters
    ----------
    cost
        In any unit that adds up; above or equal to 0.
    error
        What it adds to the error of the outputs; above or equal to 0.
    """

    cost: float
    error: float


class Allocator:
    """Chooses one offer for each layer, so that all cost least within a budget of error.

    The multiple-choice knapsack problem by dynamic programming over the cost, with costs
    rounded to a twenty-thousandth of the most that can be spent; exact for these. The table
    holds the least error for each cost, so that it answers for every budget.

    References
    ----------
    Kellerer, Pferschy, Pisinger: Knapsack Problems (2004), section 11.5.
    """

    def __init__(self, offers: Sequence[Sequence[Offer]]) -> None:
        most = sum(max(o.cost for o in each) for each in offers)
        unit = most / _STEPS or 1.0
        self._costs = [[round(o.cost / unit) for o in each] for each in offers]
        length = 1 + sum(max(costs) for costs in self._costs)
        self._picks: list[Array] = []
        least = np.full(length, np.inf)
        least[0] = 0.0
        for each, costs in zip(offers, self._costs, strict=True):
            rows = np.full((len(each), length), np.inf)
            for row, offer, cost in zip(rows, each, costs, strict=True):
                row[cost:] = least[: length - cost] + offer.error
            self._picks.append(rows.argmin(axis=0).astype(np.uint8))
            least = rows.min(axis=0)
        self._least = least

    def within(self, budget: float) -> tuple[int, ...] | None:
        """Return the index of an offer for each layer; ``None`` if no errors are so small."""
        enough = np.flatnonzero(self._least <= budget)
        if not enough.size:
            return None
        at, found = int(enough[0]), list[int]()
        for picks, costs in zip(reversed(self._picks), reversed(self._costs), strict=True):
            found.append(int(picks[at]))
            at -= costs[found[-1]]
        return tuple(reversed(found))
