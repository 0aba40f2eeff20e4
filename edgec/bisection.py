"""The fewest layers to keep in float so that a quantized model is close enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph
from edgec.numerics import Agreement

__all__ = ["Found", "Required", "bisect", "fidelity"]

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Required:
    """What a quantized model has to reach; what is not asked for is ``None``.

    Parameters
    ----------
    sqnr_db
        Signal-to-noise ratio of the worst output.
    agreement
        Share of samples with the same first class as the float model.
    """

    sqnr_db: float | None = None
    agreement: float | None = None

    def holds(self, found: Agreement) -> bool:
        """Whether an agreement is enough."""
        if self.sqnr_db is not None and found.sqnr_db < self.sqnr_db:
            return False
        return self.agreement is None or (found.top1 or 0.0) >= self.agreement

    def closeness(self, found: Agreement) -> tuple[float, ...]:
        """Return what orders agreements, from far to close."""
        top1 = (found.top1 or 0.0,) if self.agreement is not None else ()
        return (*top1, found.sqnr_db)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Parameters
    ----------
    kept
        The layers to keep in float; every one of them is needed.
    before, after
        Fidelity with none and with these in float.
    runs
        How many graphs were measured.
    alone
        Fidelity with only one layer in integers, by layer, the worst first; empty if the goal
        holds anyway.
    """

    kept: Names
    before: Agreement
    after: Agreement
    runs: int
    alone: Mapping[str, Agreement] = field(default_factory=lambda: MappingProxyType({}))


def fidelity(
    graph: Graph, wants: Sequence[Mapping[str, Array]], feeds: Iterable[Mapping[str, Array]]
) -> Agreement:
    """Return how close a graph is to what is wanted, run as ONNX Runtime runs it."""
    evaluator = Evaluator(graph, optimize=True)
    found = Agreement()
    for want, feed in zip(wants, feeds, strict=True):
        found.add(want, evaluator.run(feed))
    return found


def bisect(
    layers: Sequence[str],
    measure: Callable[[Names], Agreement],
    required: Required,
    progress: Callable[[int, int], None] | None = None,
    *,
    rank: Callable[[Names], Agreement] | None = None,
) -> Found:
    """Return the fewest layers to keep in float, as far as a search of this kind finds them.

    Layers are ranked by how far the outputs are off with that layer alone in integers. The
    shortest beginning of that list that is enough, by bisection, is then thinned out: each of
    its layers goes back to integers if the rest is still enough, the harmless ones first. So
    no layer in the result can be left out, though a set of others might be smaller.

    Parameters
    ----------
    measure
        Measures the model with some layers in float.
    progress
        Called with how many graphs are measured, of about how many.
    rank
        Measures the model with one layer in integers; `measure` if not given. It may be
        quicker, since it decides on the order only.
    """
    runs = 0
    known: dict[frozenset[str], Agreement] = {}
    expected = len(layers) + 2 * max(1, len(layers).bit_length())

    def ran(how: Callable[[Names], Agreement], key: frozenset[str]) -> Agreement:
        nonlocal runs
        runs += 1
        if progress is not None:
            progress(runs, max(expected, runs))
        return how(tuple(name for name in layers if name in key))

    def measured(kept: Iterable[str]) -> Agreement:
        key = frozenset(kept)
        if key not in known:
            known[key] = ran(measure, key)
        return known[key]

    before = measured(())
    if required.holds(before):
        return Found((), before, before, runs)
    everything = frozenset(layers)
    harm = {name: ran(rank or measure, everything - {name}) for name in layers}
    order = sorted(layers, key=lambda name: required.closeness(harm[name]))
    low, high = 0, len(order)  # the first `high` are enough: with all in float nothing is lost
    while high - low > 1:
        middle = (low + high) // 2
        if required.holds(measured(order[:middle])):
            high = middle
        else:
            low = middle
    kept = order[:high]
    for name in reversed(order[:high]):
        rest = [n for n in kept if n != name]
        if required.holds(measured(rest)):
            kept = rest
    after, alone = measured(kept), MappingProxyType({name: harm[name] for name in order})
    return Found(tuple(n for n in layers if n in kept), before, after, runs, alone)
