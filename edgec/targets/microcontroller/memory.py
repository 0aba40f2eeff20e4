"""Where each tensor lies in the one block of RAM that a model works in, its arena.

What is alive at the same time lies apart. Where a kernel reads its operand in the order in
which it writes its result, the result may lie over it while it dies (:class:`Overlay`).

First-fit in some order of the buffers, over many orders: those that are known to be good, then
random ones and changes of the best, until nothing better can exist or the tries are used up.
Which orders are tried depends on the buffers alone, so equal buffers get equal places.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from edgec.errors import Diagnostic, InternalError

__all__ = [
    "ALIGNMENT",
    "Buffer",
    "Moment",
    "Overlay",
    "Plan",
    "check",
    "moments",
    "needs",
    "place",
]

ALIGNMENT = 8
"""Every buffer starts at a multiple of so many bytes."""

_WORK = 3_000_000  # pairs of buffers looked at, over all orders tried
_TRIES = 3_000
_SEED = 0x5EED


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that have to stay as they are for some steps.

    Parameters
    ----------
    name
        Unique.
    size
        In bytes.
    first, last
        The steps from the one that writes it to the one that reads it last, both included.
    """

    name: str
    size: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.size < 0 or self.first > self.last:
            raise ValueError(
                f"{self.name}: no buffer of {self.size} bytes, "
                f"steps {self.first} to {self.last}"
            )

    @property
    def rounded(self) -> int:
        """Its size up to where the next buffer may start."""
        return _round_up(self.size)


@dataclass(frozen=True, slots=True)
class Overlay:
    """A result may lie over an operand that dies with the step that writes the result.

    It may if it starts at most `slack` bytes behind where the operand starts; a negative slack
    is how far in front of it. Without effect where the operand is needed later.

    Parameters
    ----------
    result, operand
        Names of buffers.
    exact
        It may only if both start at the same byte; `slack` is 0 then.
    """

    result: str
    operand: str
    slack: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Places of all buffers.

    Parameters
    ----------
    offsets
        By name, in bytes from the start of the arena.
    size
        Bytes of the arena.
    bound
        No placement takes less: the most that any one step needs, with its overlays.
    """

    offsets: Mapping[str, int]
    size: int
    bound: int


@dataclass(frozen=True, slots=True)
class Moment:
    """The arena at one step.

    Parameters
    ----------
    live
        The names of what has to be there, in the order of the places.
    live_bytes
        Their sizes together; what lies over something else counts too.
    top
        Where the last of it ends.
    """

    step: int
    live: tuple[str, ...]
    live_bytes: int
    top: int


def place(buffers: Sequence[Buffer], overlays: Sequence[Overlay] = ()) -> Plan:
    """Return places for all buffers, in as small an arena as is found.

    Raises
    ------
    InternalError
        If names are not unique, or an overlay names a buffer that is not there.
    """
    search = _Search(buffers, overlays)
    search.run()
    if overlays and search.size > search.bound:
        # To use what is allowed can be worse, where the best is not found.
        apart = _Search(buffers, ())
        if apart.bound < search.size:
            apart.run()
        if apart.size < search.size:
            search.size, search.best = apart.size, apart.best
    offsets = {b.name: search.best[k] for k, b in enumerate(search.buffers)}
    plan = Plan(MappingProxyType(offsets), search.size, search.bound)
    check(plan, buffers, overlays)
    return plan


def check(plan: Plan, buffers: Sequence[Buffer], overlays: Sequence[Overlay] = ()) -> None:
    """See that a plan breaks nothing, step by step and without what made it.

    Raises
    ------
    InternalError
        With everything that is wrong.
    """
    wrong: list[Diagnostic] = []
    allowed = {(o.result, o.operand): o for o in overlays}
    for buffer in buffers:
        at = plan.offsets.get(buffer.name)
        if at is None:
            wrong.append(Diagnostic("It has no place.", buffer.name))
        elif at < 0 or at % ALIGNMENT or at + buffer.size > plan.size:
            wrong.append(
                Diagnostic(
                    f"No buffer of {buffer.size} bytes can start at {at} in an "
                    f"arena of {plan.size}.",
                    buffer.name,
                )
            )
    if not wrong:
        for a, b in combinations(buffers, 2):
            if a.last < b.first or b.last < a.first:
                continue
            at, other = plan.offsets[a.name], plan.offsets[b.name]
            if at + a.size <= other or other + b.size <= at or not a.size or not b.size:
                continue
            if not (
                _may_cover(b, a, at, other, allowed) or _may_cover(a, b, other, at, allowed)
            ):
                wrong.append(
                    Diagnostic(f"It lies over {b.name} while both are needed.", a.name)
                )
    if plan.size < plan.bound:
        wrong.append(Diagnostic(f"{plan.size} bytes are below the bound of {plan.bound}."))
    if wrong:
        raise InternalError("The places of tensors in memory contradict each other.", wrong)


def _may_cover(
    result: Buffer,
    operand: Buffer,
    read: int,
    written: int,
    allowed: Mapping[tuple[str, str], Overlay],
) -> bool:
    overlay = allowed.get((result.name, operand.name))
    if overlay is None or operand.last != result.first:
        return False
    return written == read if overlay.exact else written <= read + overlay.slack


def _alive_together(buffers: Sequence[Buffer]) -> Iterator[tuple[Buffer, Buffer]]:
    """Yield the pairs that share a step, found by going through the steps' beginnings."""
    alive: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: b.first):
        alive = [b for b in alive if b.last >= buffer.first]
        for other in alive:
            yield other, buffer
        alive.append(buffer)


def moments(plan: Plan, buffers: Sequence[Buffer]) -> tuple[Moment, ...]:
    """Return the arena over time, one entry for each step from the first to the last."""
    if not buffers:
        return ()
    found = list[Moment]()
    for step in range(min(b.first for b in buffers), max(b.last for b in buffers) + 1):
        live = [b for b in buffers if b.first <= step <= b.last]
        live.sort(key=lambda b: (plan.offsets[b.name], b.name))
        top = max((plan.offsets[b.name] + b.size for b in live), default=0)
        found.append(Moment(step, tuple(b.name for b in live), sum(b.size for b in live), top))
    return tuple(found)


def needs(buffers: Sequence[Buffer], overlays: Sequence[Overlay] = ()) -> dict[int, int]:
    """Return the bytes that an arena has at least, by step; steps where something starts."""
    return _Search(buffers, overlays).needs


# ---- the search


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Search:
    """Placements of one set of buffers; `best` are the offsets of the smallest so far.

    Sizes are rounded up here, so that places that follow one another are aligned. Buffers are
    spoken of by their index.
    """

    def __init__(self, buffers: Sequence[Buffer], overlays: Sequence[Overlay]) -> None:
        self.buffers = tuple(buffers)
        self.sizes = [b.rounded for b in self.buffers]
        index = {b.name: k for k, b in enumerate(self.buffers)}
        if len(index) != len(self.buffers):
            raise InternalError("Two buffers have the same name.")
        self.slack = self._usable(index, overlays)
        self.exact = {(index[o.result], index[o.operand]) for o in overlays if o.exact}
        self.needs = self._needs()
        self.bound = max(self.needs.values(), default=0)
        self.best: list[int] = [0] * len(self.buffers)
        self.order: list[int] = []
        self.size = sum(self.sizes) + 1  # any placement is better
        self.neighbours = self._neighbours(index)

    def _usable(
        self, index: Mapping[str, int], overlays: Iterable[Overlay]
    ) -> dict[tuple[int, int], int]:
        slack: dict[tuple[int, int], int] = {}
        for overlay in overlays:
            for name in (overlay.result, overlay.operand):
                if name not in index:
                    raise InternalError(f"An overlay names {name}, which is no buffer.")
            result, operand = index[overlay.result], index[overlay.operand]
            r, x = self.buffers[result], self.buffers[operand]
            if x.last == r.first:  # all places are multiples, so the difference is one
                slack[result, operand] = overlay.slack // ALIGNMENT * ALIGNMENT
        return slack

    def _needs(self) -> dict[int, int]:
        """Return the bytes that each step needs at least; steps where something starts do."""
        needs: dict[int, int] = {}
        for step in sorted({b.first for b in self.buffers}):
            live = [k for k, b in enumerate(self.buffers) if b.first <= step <= b.last]
            over = defaultdict[int, list[int]](list)
            for result in live:
                if self.buffers[result].first == step:
                    over[result] = [x for x in live if (result, x) in self.slack]
            taken = {x for xs in over.values() for x in xs}
            shared = sum(1 for xs in over.values() if xs)
            if shared > 1:  # several results over the same operands: no overlap is counted on
                needs[step] = max(self._alone(live), self._apart(live, over, taken))
                continue
            rest = sum(self.sizes[k] for k in live if k not in taken and not over.get(k))
            pairs = [(r, xs) for r, xs in over.items() if xs]
            needs[step] = rest + sum(self._together(r, xs) for r, xs in pairs)
        return needs

    def _alone(self, live: Sequence[int]) -> int:
        return max((self.sizes[k] for k in live), default=0)

    def _apart(
        self, live: Sequence[int], over: Mapping[int, Sequence[int]], taken: set[int]
    ) -> int:
        """Return what is needed where all that can lie over something is taken to vanish."""
        return sum(self.sizes[k] for k in live if k not in taken and not over.get(k))

    def _together(self, result: int, operands: Sequence[int]) -> int:
        """Return the fewest bytes that a result and the operands under it take together."""
        size = self.sizes[result]
        least = size + sum(self.sizes[x] for x in operands)
        widest = sum(self.sizes[x] for x in operands)
        ahead = [self.sizes[x] + max(0, -self.slack[result, x]) for x in operands]
        return min(least, max(size, widest, min(ahead)))

    def _neighbours(self, index: Mapping[str, int]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.buffers]
        for a, b in _alive_together(self.buffers):
            i, j = index[a.name], index[b.name]
            if self.sizes[i] and self.sizes[j]:
                found[i].append(j)
                found[j].append(i)
        return found

    def run(self) -> None:
        """Try orders until the bound is reached or enough were tried."""
        if not self.buffers:
            self.size = 0
            return
        for order in self._known():
            self._try(order, self.slack)
            if self.slack:  # to use what is allowed can be worse, step after step
                self._try(order, {})
        pairs = sum(map(len, self.neighbours)) + len(self.buffers)
        tries = max(20, min(_TRIES, _WORK // pairs))
        generator = random.Random(_SEED)
        for k in range(tries):
            if self.size == self.bound:
                return
            order = list(self.order)
            if k % 4 == 0:
                generator.shuffle(order)
            else:
                self._change(order, generator)
            self._try(order, self.slack)

    def _known(self) -> Iterator[list[int]]:
        """Yield orders that are good for many models."""
        every = range(len(self.buffers))
        size, life = self.sizes, [b.last - b.first + 1 for b in self.buffers]
        first, last = [b.first for b in self.buffers], [b.last for b in self.buffers]
        heavy = [
            max(n for s, n in self.needs.items() if b.first <= s <= b.last)
            for b in self.buffers
        ]
        yield sorted(every, key=lambda k: (-size[k], first[k]))
        yield sorted(every, key=lambda k: (-size[k], -first[k]))
        yield sorted(every, key=lambda k: (-heavy[k], -size[k]))
        yield sorted(every, key=lambda k: (-heavy[k], -first[k]))
        yield sorted(every, key=lambda k: (-size[k] * life[k], first[k]))
        yield sorted(every, key=lambda k: (-life[k], -size[k]))
        yield sorted(every, key=lambda k: (first[k], -size[k]))
        yield sorted(every, key=lambda k: (-last[k], -size[k]))

    def _change(self, order: list[int], generator: random.Random) -> None:
        """Let one of the buffers that end highest, or any, be placed sooner."""
        ends = [self.best[k] + self.sizes[k] for k in order]
        if generator.random() < 0.5:
            top = max(ends)
            at = generator.choice([k for k, end in enumerate(ends) if end == top])
        else:
            at = generator.randrange(len(order))
        to = generator.randrange(at + 1)
        if generator.random() < 0.5:
            # Before one of those that it has to keep apart from: others change nothing.
            near = set(self.neighbours[order[at]])
            to = generator.choice([k for k in range(at) if order[k] in near] or [to])
        order.insert(to, order.pop(at))

    def _try(self, order: Sequence[int], slack: Mapping[tuple[int, int], int]) -> None:
        """Place in an order, each as low as it fits; give up when it becomes no better."""
        offsets = [-1] * len(order)
        top = 0
        for k in order:
            offsets[k] = at = self._lowest(k, offsets, slack)
            top = max(top, at + self.sizes[k])
            if top > self.size:
                return
        # An equal one is taken too: it may lead on to better ones.
        self.size, self.best, self.order = top, offsets, list(order)

    def _lowest(
        self, k: int, offsets: Sequence[int], slacks: Mapping[tuple[int, int], int]
    ) -> int:
        """Return the lowest place where buffer `k` is in nobody's way."""
        size = self.sizes[k]
        taken = list[tuple[int, int]]()  # no place from one number up to another
        for other in self.neighbours[k]:
            at = offsets[other]
            if at < 0:
                continue
            low, high = at - size + 1, at + self.sizes[other]
            if self.exact and ((k, other) in self.exact or (other, k) in self.exact):
                if (k, other) in slacks or (other, k) in slacks:
                    taken.append((low, at))
                    low = at + 1
            elif (slack := slacks.get((k, other))) is not None:
                low = max(low, at + slack + 1)
            elif (slack := slacks.get((other, k))) is not None:
                high = min(high, at - slack)
            if low < high:
                taken.append((low, high))
        taken.sort()
        place = 0
        for low, high in taken:
            if low > place:
                break
            if high > place:
                place = _round_up(high)
        return place
