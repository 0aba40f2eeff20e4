"""Everything that edgec does to one graph, each result held against the graph itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.composer import Case
from benchmarks.fuzz.noise import NotJudged, Reference, difference, reference
from edgec.calibration import calibrate
from edgec.errors import DataError, EdgecError, PassError, UnsupportedError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ir import Array, Graph
from edgec.passes import Pass, PassRecord, Pipeline, QuantizeGraph, simplify
from edgec.passes.quantization_plan import plan
from edgec.targets import OnnxRuntime, Target, Tflite

__all__ = ["NOT_JUDGED", "NO_REFERENCE", "Verdict", "judge"]

NO_REFERENCE = "ONNX Runtime does not take the graph as a whole"
NOT_JUDGED = "rounding decides whether the graph runs"
_NOT_TOGETHER = (
    "NOT_IMPLEMENTED",  # the newest operator decides the opset, for which another has no kernel
    "ShapeInferenceError",  # onnx counts one window too many of some pools in ceil mode
)
"""What it says of graphs whose operators it has run one by one."""

_LOSSLESS, _COMPILED = 1e-5, 1e-4
"""Shares of an output's largest element that every element may be off."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one graph went.

    Parameters
    ----------
    wrong
        What must not be, as ``stage: what``; empty if all is well.
    tflite
        "ran", or why it was refused.
    judged
        Share of the elements of the outputs that rounding leaves alone.
    """

    wrong: str
    tflite: str = ""
    judged: float = 1.0


class _Wrong(Exception):  # noqa: N818  (the way out of a stage)
    """Something that must not be."""


def judge(case: Case) -> Verdict:
    """Take a graph through the whole pipeline and both targets."""
    if case.wrong:
        return Verdict(f"made: {case.wrong}")
    try:
        want = reference(case.graph, case.feeds)
    except EdgecError as error:
        if any(said in str(error) for said in _NOT_TOGETHER):
            return Verdict("", NO_REFERENCE, 0.0)
        raise
    except NotJudged:
        return Verdict("", NOT_JUDGED, 0.0)
    judged = want.judged(_LOSSLESS)
    try:
        graph = _imported(case.graph)
        _hold("imported", want, evaluate(graph, case.feeds), _LOSSLESS)
        simple = _rewritten("simplify", graph, case.feeds, want, None)
        _onnxruntime(case, simple, want)
        tflite = _tflite(case, simple, want)
        for target in (OnnxRuntime(), Tflite()):
            _integers(target, case, simple, want)
        return Verdict("", tflite, judged)
    except _Wrong as wrong:
        return Verdict(str(wrong), "", judged)


def _imported(graph: Graph) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(to_onnx(graph).SerializeToString())
        try:
            return load(path).graph
        except EdgecError as error:
            raise _Wrong(f"load: {_told(error)}") from error


def _rewritten(
    stage: str,
    graph: Graph,
    feeds: Mapping[str, Array],
    want: Reference,
    passes: tuple[Pass, ...] | None,
) -> Graph:
    """Run passes, or the lossless pipeline, on a graph.

    A promise is measured against what moving the inputs by their last bit does, which does
    not find every step that rounding takes; where it is broken, the results decide.
    """

    def run(sample: Mapping[str, Array] | None) -> tuple[Graph, tuple[PassRecord, ...]]:
        if passes is None:
            return simplify(graph, sample)
        return Pipeline(passes, sample).run(graph)

    try:
        try:
            after, _ = run(feeds)
        except PassError as error:
            if "promise" not in str(error):
                raise
            after, _ = run(None)
            found = evaluate(after, feeds)
            if difference(want.outputs, found, want.tolerances(_LOSSLESS)):
                raise
            if want.judged(_LOSSLESS) == 1:
                raise
    except Exception as error:
        raise _Wrong(f"{stage}: {_told(error)}") from error
    _hold(stage, want, evaluate(after, feeds), _LOSSLESS if passes is None else _COMPILED)
    if passes is None and simplify(after)[0] is not after:
        raise _Wrong(f"{stage}: does not leave a simple graph alone")
    return after


def _onnxruntime(case: Case, simple: Graph, want: Reference) -> None:
    target = OnnxRuntime()
    try:
        graph = _prepared(target, simple, case, want)
        got = target.load(target.compile(graph)).run(case.feeds)
    except _Wrong:
        raise
    except Exception as error:
        if _has_no_kernel(case):
            return
        raise _Wrong(f"onnxruntime: {_told(error)}") from error
    if difference(want.outputs, got, want.tolerances(_COMPILED)):
        # ONNX Runtime's own rewrites are at work here: are they right on the original?
        model = to_onnx(case.graph).SerializeToString()
        its_own = OnnxSession(ort_session(model)).run(case.feeds)
        if difference(want.outputs, its_own, want.tolerances(_COMPILED)):
            raise _Wrong("runtime's own: ONNX Runtime gets the original wrong when optimised")
    _hold("onnxruntime", want, got, _COMPILED)


def _has_no_kernel(case: Case) -> bool:
    """Whether ONNX Runtime, with its rewrites on, does not take even the original."""
    try:
        OnnxSession(ort_session(to_onnx(case.graph).SerializeToString())).run(case.feeds)
    except EdgecError:
        return True
    return False


def _tflite(case: Case, simple: Graph, want: Reference) -> str:
    target = Tflite()
    graph = _prepared(target, simple, case, want)
    try:
        artifact = target.compile(graph)
    except UnsupportedError as error:
        if not error.diagnostics or not all(d.message for d in error.diagnostics):
            raise _Wrong(f"tflite: refused without a reason: {_told(error)}") from error
        return error.diagnostics[0].message
    except Exception as error:
        raise _Wrong(f"tflite compile: {_told(error)}") from error
    try:
        got = target.load(artifact).run(case.feeds)
    except Exception as error:
        raise _Wrong(f"tflite run: {_told(error)}") from error
    _hold("tflite", want, got, _COMPILED)
    return "ran"


def _integers(target: Target, case: Case, simple: Graph, want: Reference) -> None:
    """Quantize a graph by the ranges of its one sample, and see that the artifact runs.

    How far off it is, is not judged: a layer may round what the next one magnifies.
    """
    stage = f"{target.name} in integers"
    try:
        graph, _ = Pipeline(target.prepare()).run(simple)
        scheme = target.scheme()
        chosen = plan(graph, (), scheme)
        if not chosen.nodes or _has_no_kernel(case):
            return
        calibration = calibrate(graph, chosen.measured, [case.feeds])
        steps = (QuantizeGraph(calibration, scheme, ()), *target.finish())
        graph, _ = Pipeline(steps).run(graph)
        evaluate(graph, case.feeds)
        got = target.load(target.compile(graph)).run(case.feeds)
    except (UnsupportedError, DataError):
        return  # what is not finite has no range
    except Exception as error:
        raise _Wrong(f"{stage}: {_told(error)}") from error
    for name, array in want.outputs.items():
        told = next(v.type.is_static for v in graph.outputs if v.name == name)
        if told and got[name].shape != array.shape:
            raise _Wrong(f"{stage}: {name} has shape {got[name].shape}, not {array.shape}")


def _prepared(target: Target, simple: Graph, case: Case, want: Reference) -> Graph:
    graph = simple
    for passes in (target.prepare(), target.finish()):
        graph = _rewritten(f"{target.name} passes", graph, case.feeds, want, passes)
    return graph


def _hold(stage: str, want: Reference, got: Mapping[str, Array], share: float) -> None:
    if found := difference(want.outputs, got, want.tolerances(share)):
        raise _Wrong(f"{stage} gives another number: {found}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
