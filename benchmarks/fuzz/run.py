"""Random graphs for as long as asked for, each judged in a process that may die of it."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from benchmarks.fuzz.composer import Case
from benchmarks.fuzz.graphs import graphs
from benchmarks.fuzz.judge import NO_REFERENCE, NOT_JUDGED, Verdict, judge
from benchmarks.workers import Died, judged
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ops import OPS

__all__ = ["replay", "report"]

_BATCH = 100
_PATIENCE_S = 600.0
_UNJUDGED = (NO_REFERENCE, NOT_JUDGED)


@dataclass(slots=True)
class _Batch:
    """What became of some graphs.

    Parameters
    ----------
    wrong
        The smallest graph of each kind of fault: what is wrong, its nodes, and its file.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    nodes: int = 0
    judged: float = 0.0
    wrong: dict[str, tuple[str, int, str]] = field(default_factory=dict)

    def add(self, case: Case, verdict: Verdict, file: str) -> None:
        """Take up one graph."""
        size = len(case.graph.nodes)
        self.nodes += size
        self.operators.update(op.__name__ for op in case.operators)
        if verdict.tflite in _UNJUDGED:
            self.outcomes[verdict.tflite] += 1
            return
        self.judged += verdict.judged
        if verdict.wrong:
            self.outcomes["WRONG"] += 1
            kind = _kind(verdict.wrong)
            if kind not in self.wrong or size < self.wrong[kind][1]:
                self.wrong[kind] = verdict.wrong, size, file
            return
        ran = verdict.tflite == "ran"
        self.outcomes["right on both" if ran else "right, refused by tflite"] += 1
        if not ran:
            self.reasons[_kind(verdict.tflite)] += 1

    def merge(self, other: _Batch) -> None:
        """Take up what became of other graphs."""
        self.outcomes += other.outcomes
        self.reasons += other.reasons
        self.operators += other.operators
        self.nodes += other.nodes
        self.judged += other.judged
        for kind, found in other.wrong.items():
            if kind not in self.wrong or found[1] < self.wrong[kind][1]:
                self.wrong[kind] = found


def report(minutes: float, first: int, folder: Path, workers: int) -> int:
    """Judge random graphs for some minutes; return how many kinds of faults there are."""
    folder.mkdir(parents=True, exist_ok=True)
    found = _Batch()
    end = time.monotonic() + 60 * minutes
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        run = partial(_batch, folder, Path(scratch))
        stream = judged(
            run, range(first, first + 2**31), workers=workers, timeout_s=_PATIENCE_S
        )
        for number, batch in stream:
            if isinstance(batch, Died):
                name = f"died-{first + number}"
                for path in Path(scratch).glob(f"{first + number}.*"):
                    path.rename(folder / f"{name}{path.suffix}")
                found.outcomes["CRASH"] += 1
                found.wrong[f"CRASH {name}"] = f"CRASH: {batch.how}", 0, f"{name}.onnx"
            else:
                found.merge(batch)
            if time.monotonic() > end:
                break
        stream.close()
    total = found.outcomes.total()
    minutes = (time.monotonic() - begun) / 60
    print(f"{total} graphs, seeds from {first}, {minutes:.1f} minutes, {workers} at a time")
    print(f"  {found.nodes / max(total, 1):.1f} nodes on average")
    for outcome, n in found.outcomes.most_common():
        print(f"  {outcome}: {n}")
    share = found.judged / max(total - sum(found.outcomes[k] for k in _UNJUDGED), 1)
    print(f"elements that rounding leaves within 1 % of their range: {100 * share:.1f} %")
    missing = {op.__name__ for op in OPS} - set(found.operators)
    least = found.operators.most_common()[-1:]
    print(f"operators: {len(OPS) - len(missing)} of {len(OPS)}, the rarest in "
          f"{', '.join(f'{n} graphs ({k})' for k, n in least)}; missing: "
          f"{', '.join(sorted(missing)) or 'none'}")  # fmt: skip
    print("why tflite refused, the commonest:")
    for reason, n in found.reasons.most_common(15):
        print(f"  {n:6}  {reason[:160]}")
    for wrong, size, file in found.wrong.values():
        print(f"WRONG, {size} nodes, {folder / file}: {wrong[:500]}")
    print(f"kinds of faults: {len(found.wrong)} (none allowed)"
          f"{'  FAIL' if found.wrong else ''}")  # fmt: skip
    return len(found.wrong)


def _batch(folder: Path, scratch: Path, seed: int) -> _Batch:
    found = _Batch()
    number = count()

    @seeded(seed)
    @settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(graphs())
    def each(case: Case) -> None:
        _save(case, scratch / f"{seed}.onnx")  # what is left if this process dies of it
        name = f"wrong-{seed}-{next(number)}.onnx"
        try:
            verdict = judge(case)
        except Exception as error:  # noqa: BLE001  (that is what is looked for)
            verdict = Verdict(f"judge: {type(error).__name__}: {' '.join(str(error).split())}")
        found.add(case, verdict, name)
        if verdict.wrong and found.wrong[_kind(verdict.wrong)][2] == name:
            _save(case, folder / name)

    each()
    return found


def _save(case: Case, path: Path) -> None:
    path.write_bytes(to_onnx(case.graph).SerializeToString())
    np.savez(path.with_suffix(".npz"), **case.feeds)  # type: ignore[arg-type]


def replay(path: Path) -> int:
    """Judge a graph that was saved; return whether it is still wrong."""
    with np.load(path.with_suffix(".npz")) as arrays:
        feeds: Mapping[str, np.ndarray] = dict(arrays)
    graph = load(path).graph
    print(graph)
    verdict = judge(Case(graph, {v.name: feeds[v.name] for v in graph.inputs}))
    print(verdict.wrong or f"right; tflite: {verdict.tflite}; judged {verdict.judged:.1%}")
    return int(bool(verdict.wrong))


def _kind(text: str) -> str:
    """Return what a message says without names and numbers."""
    return re.sub(r"\S*\d\S*", "#", text)[:200]
