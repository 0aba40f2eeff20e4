"""All node cases of onnx through edgec's default passes and back, run in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.node_cases import Case, close, collected, is_core
from benchmarks.workers import Died, judged
from edgec.errors import EdgecError, InternalError
from edgec.frontend import load
from edgec.ops import Opaque
from edgec.passes import Pipeline, simplify
from edgec.targets import OnnxRuntime

__all__ = ["report"]

_BFLOAT16 = "a bfloat16 interface becomes float32, as edgec says when it reads the model"
_OTHERWISE = {
    "test_castlike_BFLOAT16_to_FLOAT": _BFLOAT16,
    "test_castlike_BFLOAT16_to_FLOAT_expanded": _BFLOAT16,
}
"""Cases that edgec compiles to something else than it was given, and why."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How one case went.

    Parameters
    ----------
    runtime, edgec
        Outcome in ONNX Runtime as it is, and after edgec; "pass" or what happened.
    opaque
        Operators that stayed opaque; ``None`` where the model was not read.
    """

    runtime: str
    edgec: str
    opaque: tuple[str, ...] | None


def report(cache: Path | None) -> int:
    """Judge every case; return how many bounds failed."""
    cases = collected(cache)
    verdicts: dict[str, _Verdict] = {}
    for number, found in judged(_judge, cases):
        if isinstance(found, Died):
            found = _Verdict("died", f"CRASH: {found.how}", None)
        verdicts[cases[number].name] = found
    print(f"node cases of onnx {onnx.__version__} in ONNX Runtime", flush=True)
    core = {case.name for case in cases if is_core(case)}
    for title, names in (("all cases", list(verdicts)), ("core cases", sorted(core))):
        own = [n for n in names if verdicts[n].runtime == "pass"]
        through = [n for n in names if verdicts[n].edgec == "pass"]
        print(
            f"{title}: {len(names)}; ONNX Runtime itself passes {len(own)} = "
            f"{100 * len(own) / len(names):.1f} %, through edgec {len(through)}"
        )
        typed = sum(verdicts[n].opaque == () for n in through)
        print(f"  of those through edgec {typed} all typed, {len(through) - typed} with Opaque")
    failing = Counter(v.runtime.partition(":")[0] for v in verdicts.values())
    words = ", ".join(f"{k} {n}" for k, n in sorted(failing.items()))
    print(f"ONNX Runtime itself: {words}")
    lost = [n for n, v in verdicts.items() if v.runtime == "pass" and v.edgec != "pass"]
    unnamed = sorted(set(lost) - set(_OTHERWISE))
    named = f"{len(lost)}, of these {len(unnamed)} without a known reason"
    print(f"passes in ONNX Runtime and not through edgec: {named}{'  FAIL' if unnamed else ''}")
    for name in sorted(lost):
        print(f"  {name}: {_OTHERWISE.get(name, verdicts[name].edgec)}")
    broken = [n for n, v in verdicts.items() if v.edgec.startswith(("internal", "CRASH"))]
    more = sorted(set(broken) - set(lost))
    print(f"internal errors where ONNX Runtime does not pass either: {len(more)}")
    for name in more:
        print(f"  {name}: {verdicts[name].edgec}")
    _print_opaque(cases, verdicts)
    return int(bool(unnamed))


def _print_opaque(cases: list[Case], verdicts: Mapping[str, _Verdict]) -> None:
    """Print which operators had no class of their own, and how often."""
    counts = Counter(op for v in verdicts.values() for op in v.opaque or ())
    twins = Counter(op for c in cases if c.expanded for op in verdicts[c.name].opaque or ())
    words = ", ".join(f"{op} {n - twins[op]}+{twins[op]}" for op, n in sorted(counts.items()))
    print(f"operators that stayed opaque, cases+twins: {words}")


def _judge(case: Case) -> _Verdict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(case.model)
        runtime = _difference(case, case.model)
        return _Verdict(runtime, *_through(case, path, runs=runtime == "pass"))


def _through(case: Case, path: Path, *, runs: bool) -> tuple[str, tuple[str, ...] | None]:
    """Return the outcome through edgec, and which operators stayed opaque."""
    opaque: tuple[str, ...] | None = None
    feeds = case.feeds()
    tensors = all(isinstance(a, np.ndarray) and _plain(a) for a in feeds.values())
    sample = feeds if runs and tensors else None
    target = OnnxRuntime()
    try:
        graph = load(path, case.shapes()).graph
        ops = [n.op.op_type for n in graph.nodes if type(n.op) is Opaque]
        opaque = tuple(dict.fromkeys(ops))
        graph, _ = simplify(graph, sample)
        for passes in (target.prepare(), target.finish()):
            graph, _ = Pipeline(passes, sample).run(graph)
        data = target.compile(graph).data
    except InternalError as error:
        return f"internal error: {_one_line(error)}", opaque
    except EdgecError as error:
        return f"refused: {_one_line(error)}", opaque
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        return f"internal error: {type(error).__name__}: {_one_line(error)}", opaque
    return _difference(case, data), opaque


def _difference(case: Case, data: bytes) -> str:
    """Return how the results in ONNX Runtime differ from what is expected, or "pass"."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        got = _run(session, case)
    except Exception as error:  # noqa: BLE001  (its errors share no base)
        return f"does not run: {_one_line(error)}"
    for value, g, want in zip(session.get_outputs(), got, case.outputs, strict=False):
        if found := close(g, want, case.rtol, case.atol):
            return f"WRONG: {value.name}: {found}"
    return "pass"


def _run(session: Any, case: Case) -> list[Any]:
    """Return the outputs; numpy lacks some types, which go in as their bits."""
    import onnxruntime as ort

    feeds = case.feeds()
    if all(not isinstance(a, np.ndarray) or _plain(a) for a in feeds.values()):
        known = {v.name for v in session.get_inputs()}
        results: list[Any] = session.run(None, {n: a for n, a in feeds.items() if n in known})
        return results
    types = {v.name: v.type.tensor_type.elem_type for v in case.proto().graph.input}
    values = {
        name: ort.OrtValue.ortvalue_from_numpy(a)
        if _plain(a)
        else ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            a.view(np.uint16 if a.dtype.itemsize == 2 else np.uint8), types[name]
        )
        for name, a in feeds.items()
    }
    return [value.numpy() for value in session.run_with_ort_values(None, values)]


def _plain(array: Any) -> bool:
    """Whether numpy itself has the type; the others come from ml_dtypes."""
    return type(array.dtype).__module__.startswith("numpy") and array.dtype.kind != "V"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
