"""Channel pruning without training: criteria, with and without compensation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case
from edgec.cache import Cache
from edgec.channels.importance import Criterion
from edgec.compression import ChannelPruning, Found, Picks, search
from edgec.cost import cost
from edgec.ir import Array, Graph
from edgec.passes import Pipeline, Recover
from edgec.passes.divergence import Divergence
from edgec.passes.judging import judging

__all__ = ["CRITERIA", "channels"]

CRITERIA: tuple[Criterion, ...] = ("l1", "energy", "obs")

_TRIALS = 32

_POINTS, _SHARE = 2.0, 0.4
"""Where compensation leaves so many points, training brings back at least such a share."""


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
    """Print what is left of each model by each criterion, with and without compensation.

    If it is asked for, each of them is also trained without labels.
    """
    failures = 0
    for line in _LINES:
        if line.model not in models:
            continue
        print(f"{line.model}: {line.fewer}x fewer MACs, widths multiples of {line.multiple}")
        for criterion in (c for c in CRITERIA if c in bench.criteria):
            for compensate in (False, True):
                failures += _row(bench, line, criterion, compensate=compensate)
        if "obs" in bench.criteria:
            failures += _row(bench, line, "obs", compensate=True, trials=_TRIALS)
    return failures


def _row(
    bench: Bench,
    line: _Line,
    criterion: Criterion,
    *,
    compensate: bool,
    trials: int = 0,
) -> int:
    """Print one pruned model; the bound is for the one whose widths were tried together."""
    case, start = bench.case(line.model), time.monotonic()
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
        return bound(f"{criterion} reaches {line.fewer}x", holds=False)
    made, _ = Pipeline(technique.passes(found.picks[0])).run(case.graph)
    taken = time.monotonic() - start
    nats = float(Divergence(case.graph, judging(case.feeds)).of(made).mean())
    way = "fitted" if compensate else "as it is"
    way += ", widths tried together" if trials else ""
    score = bench.line(case, f"{criterion}, {way}, {nats:.3f} nats held out", made, taken)
    failures = 0
    if bench.recovers:
        start = time.monotonic()
        step = Recover(case.graph, case.feeds, technique.kept(found.picks[0]))
        after = bench.line(
            case, f"{criterion}, {way}, recovered", step.run(made), time.monotonic() - start
        )
        if compensate and score.drop > _POINTS:
            share = (score.drop - after.drop) / score.drop
            text = f"of {score.drop:.2f} points {_SHARE:.0%} come back ({share:.0%} do)"
            failures += bound(text, holds=share >= _SHARE)
    if not trials:
        return failures
    text = f"at most {line.most} points below float at {line.fewer}x"
    holds = score.drop <= line.most
    if line.aim:
        print(f"    aim: {text}: {'reached' if holds else 'not reached'}")
        return failures
    return failures + bound(text, holds=holds)


def _searched(case: Case, technique: ChannelPruning, fewer: float, trials: int) -> Found | None:
    def macs(graph: Graph) -> float:
        return float(cost(graph).macs)

    def loss(picks: tuple[Picks, ...]) -> Array:
        return technique.loss(picks[0])

    goal = macs(case.graph) / fewer
    return search(case.graph, [technique], macs, goal, loss=loss, trials=trials)
