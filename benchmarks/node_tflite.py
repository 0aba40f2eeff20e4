"""Core node cases of onnx through edgec to float TFLite, run in LiteRT."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from benchmarks.node_cases import Case, close, collected, forms, is_core, pickled, tolerances
from benchmarks.workers import Died, judged
from edgec.errors import EdgecError, InternalError, NumericsError
from edgec.evaluate import OnnxSession, ort_session
from edgec.frontend import load
from edgec.ir import Graph
from edgec.passes import Pipeline, simplify
from edgec.targets import Tflite

__all__ = ["LEAST", "Verdict", "compare", "judge_all", "report"]

LEAST, AIM = 0.88, 0.92
FORBIDDEN = ("WRONG NUMBER", "UNLOADABLE", "CRASH", "internal error")
"""Ways to fail that are never allowed: anything that cannot be done must be refused."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one case went, in both of its forms.

    Parameters
    ----------
    score
        "pass raw", "pass frozen", or how it fails: a word, a colon, and what is known of it.
    forbidden
        What happened in either form that is never allowed; empty if nothing.
    """

    score: str
    forbidden: str

    @classmethod
    def of(cls, raw: str, frozen: str) -> Verdict:
        """Return the verdict on a case from those on its forms."""
        bad = [f"{form}: {v}" for form, v in (("raw", raw), ("frozen", frozen)) if _never(v)]
        if raw == "pass":
            score = "pass raw"
        elif frozen == "pass":
            score = "pass frozen"
        else:
            score = raw if frozen == "no such form" else frozen
        return cls(score, bad[0] if bad else "")

    @property
    def passed(self) -> bool:
        """Whether the case counts as passed."""
        return self.score.startswith("pass")

    @property
    def outcome(self) -> str:
        """The first word of the score."""
        return _outcome(self.score)


def report(cache: Path | None, pattern: str = "") -> int:
    """Judge the core cases of the installed onnx; return how many bounds failed."""
    cases = [c for c in collected(cache) if is_core(c) and re.search(pattern, c.name)]
    print(f"core node cases of onnx {onnx.__version__}, float TFLite in LiteRT", flush=True)
    verdicts = judge_all(cases)
    failures = 0
    for title, twins in (("core cases", False), ("_expanded twins", True)):
        some = [verdicts[c.name] for c in cases if c.expanded is twins]
        if not some:
            continue
        passed = sum(v.passed for v in some)
        share = passed / len(some)
        bound = "" if twins else f" (at least {LEAST:.0%}, aim {AIM:.0%})"
        fails = not twins and share < LEAST
        failures += fails
        print(f"{title}: {passed} of {len(some)} = {100 * share:.1f} %{bound}{_flag(fails)}")
        print(f"  {_counted(some)}")
    failures += _never_allowed(verdicts)
    print("families that fail:")
    _families([c for c in cases if not c.expanded and not verdicts[c.name].passed], verdicts)
    return failures


def compare(cache: Path, peer_python: str | None) -> int:
    """Judge edgec and onnx2tf on the cases that the peer's onnx made; return failures.

    What the peer made before is taken from the folder `cache`.
    """
    if peer_python is not None:
        command = [peer_python, "-m", "benchmarks.peers.node_onnx2tf", str(cache)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    found = sorted(cache.glob("node-onnx2tf-*.jsonl"))
    if not found:
        print("onnx2tf: not measured; give --peer-python")
        return 0
    rows = map(json.loads, found[-1].read_text().splitlines())
    theirs = {r["name"]: Verdict.of(r["raw"], r["frozen"]) for r in rows}
    made = next(p for p in sorted(cache.glob("node-cases-*")) if onnx.__version__ not in p.name)
    cases = [c for c in pickled(made) if c.name in theirs]
    ours = judge_all(cases)
    tool = found[-1].stem.removeprefix("node-").replace("-2", " 2")
    print(f"{made.stem}: edgec beside {tool}, {len(cases)} core cases")
    failures = _never_allowed(ours)
    for title, twins in (("core cases", False), ("_expanded twins", True)):
        some = [c for c in cases if c.expanded is twins]
        passed = {}
        for who, verdicts in (("edgec", ours), (tool, theirs)):
            mine = [verdicts[c.name] for c in some]
            passed[who] = sum(v.passed for v in mine)
            never = sum(bool(v.forbidden) for v in mine)
            share = 100 * passed[who] / max(len(some), 1)
            print(f"{title}, {who}: {passed[who]} of {len(some)} = {share:.1f} %")
            print(f"  {_counted(mine)}; never allowed, in either form: {never}")
        if not twins:
            worse = passed["edgec"] < passed[tool]
            failures += worse
            print(f"edgec passes at least as many{_flag(worse)}")
        only = [c for c in some if theirs[c.name].passed and not ours[c.name].passed]
        gained = sum(ours[c.name].passed and not theirs[c.name].passed for c in some)
        print(f"only edgec passes {gained}, only the other {len(only)}:")
        _families(only, ours)
    return failures


def _never_allowed(verdicts: Mapping[str, Verdict]) -> int:
    """Print what is never allowed, by name; return how many kinds of it there are."""
    failures = 0
    for kind in FORBIDDEN:
        names = [n for n, v in verdicts.items() if f": {kind}" in v.forbidden]
        failures += bool(names)
        print(f"{kind}: {len(names)} (none allowed){_flag(bool(names))}")
        for name in names:
            print(f"  {name}: {verdicts[name].forbidden}")
    return failures


def judge_all(cases: Sequence[Case]) -> dict[str, Verdict]:
    """Return the verdict on every case, by name."""
    order = [(case, form) for case in cases for form in ("raw", "frozen")]
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for number, verdict in judged(_judge, order):
        case, form = order[number]
        text = f"CRASH: {verdict.how}" if isinstance(verdict, Died) else verdict
        found[case.name][form] = text
    return {c.name: Verdict.of(found[c.name]["raw"], found[c.name]["frozen"]) for c in cases}


def _judge(item: tuple[Case, str]) -> str:
    case, wanted = item
    for form, model, feeds in forms(case):
        if form == wanted:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                path.write_bytes(model.SerializeToString())
                return _attempt(case, path, feeds)
    return "no such form"


def _attempt(case: Case, path: Path, feeds: Mapping[str, Array]) -> str:
    target = Tflite()
    try:
        graph = load(path).graph
        sample = feeds if _runs(path, feeds) else None
        graph, _ = simplify(graph, sample)
        for passes in (target.prepare(), target.finish()):
            graph, _ = Pipeline(passes, sample).run(graph)
        if not _depends_on_inputs(graph):
            return "folded to a constant"
        artifact = target.compile(graph)
    except InternalError as error:
        return f"internal error: {_one_line(error)}"
    except EdgecError as error:
        return f"refused: {_one_line(error)}"
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        return f"internal error: {type(error).__name__}: {_one_line(error)}"
    try:
        got = target.load(artifact).run(feeds)
    except (NumericsError, RuntimeError, ValueError) as error:
        return f"UNLOADABLE: {_one_line(error)}"
    names = [v.name for v in case.proto().graph.output]
    rtol, atol = tolerances(case, artifact.operators)
    for name, want in zip(names, case.outputs, strict=False):
        if difference := close(got[name], want, rtol, atol):
            if _is_corrected(case, got, rtol, atol):
                return f"corrected since: the reference of onnx {onnx.__version__} agrees"
            return f"WRONG NUMBER: {name}: {difference}"
    return "pass"


def _is_corrected(case: Case, got: Mapping[str, Array], rtol: float, atol: float) -> bool:
    """Whether today's onnx gives what edgec gives, where an older one expected otherwise.

    Such a case does not pass, but the number is not wrong either.
    """
    model = case.proto()
    feeds = dict(zip((v.name for v in model.graph.input), case.inputs, strict=False))
    try:
        with np.errstate(all="ignore"):
            today: Any = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # noqa: BLE001  (the reference may fail in any way: then it says nothing)
        return False
    names = [v.name for v in model.graph.output]
    return not any(close(got[n], w, rtol, atol) for n, w in zip(names, today, strict=True))


def _runs(path: Path, feeds: Mapping[str, Array]) -> bool:
    """Whether ONNX Runtime runs the model: only then can passes be held to their promises."""
    try:
        OnnxSession(ort_session(str(path))).run(feeds)
    except EdgecError:
        return False
    return True


def _depends_on_inputs(graph: Graph) -> bool:
    reached = {v.name for v in graph.inputs}
    for node in graph.nodes:
        if any(v.name in reached for v in node.reads):
            reached.update(v.name for v in node.outputs)
    return any(v.name in reached for v in graph.outputs)


def _families(cases: Sequence[Case], verdicts: Mapping[str, Verdict]) -> None:
    """Print the operators of some cases, with how often and the commonest reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        reasons[_family(case)].append(verdicts[case.name].score)
    for family, found in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        common, _ = Counter(found).most_common(1)[0]
        print(f"  {family:26} {len(found):3}  {common[:200]}")


def _family(case: Case) -> str:
    """Return the operator that a case is about: the one that is not mere scaffolding."""
    ops = [n.op_type for n in case.proto().graph.node if n.op_type != "Constant"]
    return ops[0] if len(set(ops)) == 1 else "+".join(dict.fromkeys(ops))


def _counted(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(v.outcome for v in verdicts)
    return ", ".join(f"{k} {n}" for k, n in sorted(counts.items()))


def _outcome(verdict: str) -> str:
    return verdict.partition(":")[0]


def _never(verdict: str) -> bool:
    return _outcome(verdict) in FORBIDDEN


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _flag(fails: bool) -> str:
    return "  FAIL" if fails else ""
