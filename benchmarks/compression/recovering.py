"""How much of what compression lost training without labels brings back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case
from edgec.cache import Cache
from edgec.channels.importance import Criterion
from edgec.compression import ChannelPruning, search
from edgec.cost import cost
from edgec.ir import Array, Graph
from edgec.passes import Pipeline, Recover

__all__ = ["recovering"]

_MULTIPLE = 8
_POINTS, _SHARE = 2.0, 0.4


class _Row(NamedTuple):
    """A model, how many times fewer multiply-accumulates, and how channels are chosen."""

    model: str
    fewer: float
    criterion: Criterion
    compensate: bool


_ROWS = (
    _Row("resnet8", 1.2, "obs", True),
    _Row("resnet20", 1.3, "l1", False),
    _Row("resnet20", 1.3, "obs", True),
    _Row("resnet20", 1.5, "obs", True),
    _Row("resnet56", 1.5, "obs", True),
    _Row("resnet56", 2.0, "obs", True),
)


def recovering(bench: Bench, models: Sequence[str]) -> int:
    """Print pruned models before and after they were trained towards their originals."""
    print("\nChannels taken out, then all weights trained without labels (recover)")
    failures = 0
    for row in _ROWS:
        if row.model in models:
            failures += _row(bench, bench.case(row.model), row)
    return failures


def _row(bench: Bench, case: Case, row: _Row) -> int:
    start = time.perf_counter()
    pruned, kept = _pruned(bench, case, row)
    how = f"{row.criterion}{', least squares' if row.compensate else ''}"
    label = f"{case.name} {row.fewer:g}x {how}"
    before = bench.line(case, label, pruned, time.perf_counter() - start)
    start = time.perf_counter()
    found, (record,) = Recover(case.graph, case.feeds, kept).run_recorded(pruned)
    after = bench.line(case, f"{label}, recover", found, time.perf_counter() - start)
    nats = record.nats or (0.0, 0.0)
    share = (before.drop - after.drop) / before.drop if before.drop > 0 else 0.0
    print(f"    held-out loss {nats[0]:.4f} -> {nats[1]:.4f} nats; {share:.0%} comes back")
    if before.drop <= _POINTS:
        return 0
    text = f"of {before.drop:.2f} points at least {_SHARE:.0%} come back"
    return bound(text, holds=share >= _SHARE)


def _pruned(bench: Bench, case: Case, row: _Row) -> tuple[Graph, Mapping[str, Array]]:
    """Return a model with fewer channels, and which are left of each value that lost some."""
    technique = ChannelPruning(
        case.graph,
        case.feeds,
        multiple=_MULTIPLE,
        criterion=row.criterion,
        compensate=row.compensate,
        cache=Cache(bench.cache),
    )
    goal = cost(case.graph).macs / row.fewer
    found = search(case.graph, [technique], lambda graph: float(cost(graph).macs), goal)
    if found is None:
        raise RuntimeError(f"{case.name} cannot do with {row.fewer:g}x fewer")
    (picks,) = found.picks
    pruned, _ = Pipeline(technique.passes(picks)).run(case.graph)
    return pruned, technique.kept(picks)
