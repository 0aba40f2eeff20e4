"""Several techniques towards one goal, beside each of them alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case, Paired
from edgec.budgets import TECHNIQUES
from edgec.cache import Cache
from edgec.compression import Compressor, techniques_for
from edgec.cost import cost
from edgec.ir import Graph
from edgec.latency import KERNELS

__all__ = ["chooser"]

_GOALS = (("resnet56", 1.5), ("resnet56", 2.0), ("resnet20", 1.3))
_BOUND = ("resnet56", 1.5)


def chooser(bench: Bench, names: Sequence[str]) -> int:
    """Compress by each technique alone, and by what loses least of all their combinations.

    All techniques are offered: the goal is about multiply-accumulates, not about time.
    """
    failures = 0
    for name, times in _GOALS:
        if name not in names:
            continue
        case = bench.case(name)
        print(f"{name}, {times}x fewer multiply-accumulates, nothing trained")
        alone = [_made(bench, case, times, (technique,)) for technique in TECHNIQUES]
        best = _made(bench, case, times, TECHNIQUES)
        if (name, times) == _BOUND:
            beaten = all(a is None or a.after < best.after for a in alone) if best else False
            failures += bound("the chosen beats every technique alone", holds=beaten)
    return failures


def _made(bench: Bench, case: Case, times: float, techniques: Sequence[str]) -> Paired | None:
    """Print what techniques make of a model; return how it does, if they reach the goal."""
    start = time.perf_counter()
    found = techniques_for(
        case.graph,
        case.feeds,
        techniques,
        multiple=4,
        kernels=KERNELS["tflite", True],
        cache=Cache(bench.cache / "measured"),
        say=lambda stage, done, total: None,
    )
    compressor = Compressor(case.graph, case.feeds, found)
    made = compressor.within(_macs, cost(case.graph).macs / times)
    label = " + ".join(techniques) if len(techniques) < len(TECHNIQUES) else "chosen"
    if made is None:
        print(f"  {label:44} does not reach it")
        return None
    score = bench.line(case, label, made.graph, time.perf_counter() - start)
    places = {
        t: sum(c.technique == t for c in made.chosen)
        for t in dict.fromkeys(c.technique for c in made.chosen)
    }
    tried = ", ".join(f"{name} {nats:.4f}" for name, nats in made.tried.items())
    print(f"    {places}; nats on samples held out: {tried}", flush=True)
    return score


def _macs(graph: Graph) -> float:
    return cost(graph).macs
