"""Channel pruning without training: criteria, with and without compensation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case
from edgec.cache import Cache
from edgec.channels.importance import Criterion
from edgec.compression import ChannelPruning, Found, Picks, search
from edgec.cost import cost
from edgec.ir import Graph
from edgec.passes import Pipeline
from edgec.passes.divergence import Divergence
from edgec.passes.judging import judging

__all__ = ["RECOVERED", "channels"]

_CRITERIA: tuple[Criterion, ...] = ("l1", "energy", "obs")

_TRIALS = 32

RECOVERED: Callable[[Case, Graph], Graph] | None = None
"""Trains a pruned graph towards the float one, without labels; adds a line to each row."""


@dataclass(frozen=True)
class _Line:
    """What is asked of a model.

    Parameters
    ----------
    fewer
        By which factor there are to be fewer multiply-accumulates.
    multiple
        Of which widths are multiples.
    most
        Points that may be lost.
    """

    model: str
    fewer: float
    multiple: int
    most: float
    aim: bool = False


_LINES = (
    _Line("resnet56", 1.5, 8, 1.5),
    _Line("resnet56", 2.0, 8, 4.0, aim=True),
    _Line("resnet8", 1.2, 1, 1.5),
    _Line("resnet20", 1.3, 4, 2.0),
    _Line("efficientnet_lite0", 1.08, 8, 1.0),
)


def channels(bench: Bench, models: Sequence[str]) -> int:
    """Print what is left of each model by each criterion, with and without compensation."""
    failures = 0
    for line in _LINES:
        if line.model not in models:
            continue
        print(f"{line.model}: {line.fewer}x fewer MACs, widths multiples of {line.multiple}")
        for criterion in _CRITERIA:
            for compensate in (False, True):
                failures += _row(bench, line, criterion, compensate=compensate)
        failures += _row(bench, line, None, compensate=True, trials=_TRIALS)
    return failures


def _row(
    bench: Bench,
    line: _Line,
    criterion: Criterion | None,
    *,
    compensate: bool,
    trials: int = 0,
) -> int:
    """Print one pruned model; the bound is for the one whose widths were tried together."""
    case, start = bench.case(line.model), time.monotonic()
    by = criterion or "obs or energy"
    technique = ChannelPruning(
        case.graph,
        case.feeds,
        multiple=line.multiple,
        criterion=criterion,
        compensate=compensate,
        cache=Cache(bench.cache),
    )
    found = _searched(case, technique, line.fewer, trials)
    if found is None:
        return bound(f"{by} reaches {line.fewer}x", holds=False)
    made, _ = Pipeline(technique.passes(found.picks[0])).run(case.graph)
    taken = time.monotonic() - start
    nats = float(Divergence(case.graph, judging(case.feeds)).of(made).mean())
    way = "fitted" if compensate else "as it is"
    way += ", widths tried together" if trials else ""
    score = bench.line(case, f"{by}, {way}, {nats:.3f} nats held out", made, taken)
    if RECOVERED is not None:
        start = time.monotonic()
        trained = RECOVERED(case, made)
        taken = time.monotonic() - start
        bench.line(case, f"{by}, {way}, recovered", trained, taken)
    if not trials:
        return 0
    text = f"at most {line.most} points below float at {line.fewer}x"
    holds = score.drop <= line.most
    if line.aim:
        print(f"    aim: {text}: {'reached' if holds else 'not reached'}")
        return 0
    return bound(text, holds=holds)


def _searched(case: Case, technique: ChannelPruning, fewer: float, trials: int) -> Found | None:
    def macs(graph: Graph) -> float:
        return float(cost(graph).macs)

    def loss(picks: tuple[Picks, ...]) -> float:
        return technique.loss(picks[0])

    goal = macs(case.graph) / fewer
    return search(case.graph, [technique], macs, goal, loss=loss, trials=trials)
