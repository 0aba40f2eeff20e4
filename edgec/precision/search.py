"""The cheapest mix of precisions with which an artifact loses no more than allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from edgec.cache import Cache
from edgec.errors import ModelError, NumericsError, UnsupportedError
from edgec.passes import Precision
from edgec.passes.knapsack import Allocator, Offer
from edgec.precision.choices import choices
from edgec.precision.drop import Loss
from edgec.precision.sensitivity import Sensitivity, sensitivities
from edgec.quantizing import AS_THE_RECIPE_SAYS, Mix, Quantizing
from edgec.verdict import Progress

__all__ = ["Raised", "Search", "Try", "search"]

_BUDGETS = 40
_FALL = 2**0.5
"""From one budget of error to the next."""

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Raised:
    """A layer with more bits than the recipe gives it."""

    layer: str
    operator: str
    before: Precision
    after: Precision


@dataclass(frozen=True, slots=True)
class Try:
    """One artifact that was made and measured.

    Parameters
    ----------
    lost
        What it loses; infinite if it does not run.
    """

    raised: int
    bytes: int
    lost: Loss

    def to_dict(self) -> dict[str, Any]:
        """Return plain values of JSON."""
        return {"raised": self.raised, "bytes": self.bytes, "drop": _plain(self.lost.value)}


@dataclass(frozen=True, slots=True)
class Search(Generic[_Made]):
    """What was tried, and what came out.

    Parameters
    ----------
    made
        The artifact that loses no more than allowed, or the one that loses least.
    raised
        The layers with more bits in it.
    layers
        How many there are to choose for.
    sensitivities
        What was measured of them; nothing where the recipe as it is was enough.
    """

    made: _Made
    lost: Loss
    holds: bool
    raised: tuple[Raised, ...]
    layers: int
    tries: tuple[Try, ...]
    sensitivities: tuple[Sensitivity, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all but the artifact, as plain values of JSON."""
        return {
            "holds": self.holds,
            "drop": _plain(self.lost.value),
            "drop_at_most": None if self.lost.at_most is None else _plain(self.lost.at_most),
            "layers": self.layers,
            "raised": [asdict(r) for r in self.raised],
            "tries": [t.to_dict() for t in self.tries],
            "sensitivities": [
                {
                    "layer": s.choices.layer,
                    "operator": s.choices.operator,
                    "noise_db": {
                        p: round(10 * math.log10(e), 2) if e > 0 else None
                        for p, e in zip(s.choices.precisions, s.errors, strict=True)
                    },
                }
                for s in self.sensitivities
            ],
        }


def _plain(drop: float) -> float | None:
    return round(drop, 4) if math.isfinite(drop) else None


def search(
    way: Quantizing,
    make: Callable[[Mix], _Made],
    measure: Callable[[_Made], tuple[Loss, int]],
    max_drop: float,
    cache: Cache,
    say: Progress,
) -> Search[_Made]:
    """Return the cheapest artifact that loses no more than allowed, as far as this finds it.

    The recipe as it is comes first. If that loses too much, the error of every layer in every
    precision is measured alone; for a falling budget of their sum there is a cheapest mix; and
    the largest budget whose mix is good enough is found by bisection. Each try is the artifact
    itself, in its own runtime, with all recovery. A model with no integers left does not count.

    Parameters
    ----------
    make
        Returns the artifact for a mix.
    measure
        Returns what an artifact loses, and its bytes.
    """
    tries: list[Try] = []

    def tried(mix: Mix) -> tuple[_Made, Loss]:
        kind = "as the recipe says" if not mix else f"{len(mix)} layers with more bits"
        say(f"try {len(tries) + 1}: {kind}", 0, 0)
        made = make(mix)
        try:
            lost, size = measure(made)
        except (ModelError, NumericsError):
            lost, size = Loss(math.inf), 0
        tries.append(Try(len(mix), size, lost))
        return made, lost

    layers = choices(way)
    made, lost = tried(AS_THE_RECIPE_SAYS)
    if lost.value <= max_drop:
        return Search(made, lost, True, (), len(layers), tuple(tries))
    found = sensitivities(
        way, layers, cache, lambda done, total: say("measure layers", done, total)
    )
    best = made, lost, AS_THE_RECIPE_SAYS
    mixes = list(_mixes(found))
    low, high = -1, len(mixes)  # those up to `low` lose too much; from `high` on all is well
    while high - low > 1:
        middle = (low + high) // 2
        try:
            made, lost = tried(mixes[middle])
        except UnsupportedError:  # what the target cannot express with this mix
            tries.append(Try(len(mixes[middle]), 0, Loss(math.inf)))
            low = middle
            continue
        if lost.value <= max_drop:
            best, high = (made, lost, mixes[middle]), middle
        else:
            if lost.value < best[1].value and high == len(mixes):
                best = made, lost, mixes[middle]
            low = middle
    made, lost, mix = best
    raised = tuple(
        Raised(c.layer, c.operator, c.precisions[0], mix[c.name])
        for c in layers
        if c.name in mix
    )
    holds = lost.value <= max_drop
    return Search(made, lost, holds, raised, len(layers), tuple(tries), found)


def _mixes(found: Sequence[Sensitivity]) -> Iterator[Mix]:
    """Yield the cheapest mix for one budget after another, from many errors to few."""
    offers = (zip(s.choices.costs, s.errors, strict=True) for s in found)
    allocator = Allocator([[Offer(*o) for o in each] for each in offers])
    whole = sum(s.errors[0] for s in found)
    last: Mix = AS_THE_RECIPE_SAYS
    for k in range(1, _BUDGETS + 1):
        picked = allocator.within(whole / _FALL**k)
        if picked is None:
            return
        mix: Mix = {
            s.choices.name: s.choices.precisions[i]
            for s, i in zip(found, picked, strict=True)
            if i
        }
        if len(mix) == len(found) and all("float" in p for p in mix.values()):
            return
        if mix != last:
            yield mix
        last = mix
