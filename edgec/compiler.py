"""Compile a model: the whole story on one page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.contents import Pieces
from edgec.cost import Cost, cost
from edgec.data import Samples
from edgec.errors import (
    DataError,
    Diagnostic,
    NumericsError,
)
from edgec.files import json_bytes, write_files
from edgec.frontend import Loaded, load
from edgec.hotspots import hotspots
from edgec.interface import check_interface
from edgec.ir import Array, DType, Graph, trim, unload
from edgec.ops import Quantize
from edgec.options import CompileOptions, calibrates, check_layers, targets_for
from edgec.original import provable
from edgec.passes import (
    Pass,
    PassRecord,
    Pipeline,
    Sample,
    Scheme,
    simplify,
)
from edgec.proof import (
    metric_named,
)
from edgec.report import build_report
from edgec.speed import Speed, check_speed, compared
from edgec.split import Split, open_for
from edgec.targets import Artifact, Runner, Target
from edgec.verdict import Original, Progress, Proof, proven, recorded

if TYPE_CHECKING:
    from edgec.calibration import CalibrationReport
    from edgec.passes import Precision
    from edgec.precision import Drop, Loss
    from edgec.quantizing import Calibrated

__all__ = [
    "CompileOptions",
    "Compiled",
    "Result",
    "compile_model",
    "labelled_samples",
]


@dataclass(frozen=True, slots=True)
class Compiled:
    """One artifact, with how it came to be.

    Parameters
    ----------
    price
        Of the graph that the artifact was made from.
    is_quantized
        Whether activations are integers, by edgec's doing or as the model came.
    plain
        The same graph in float32, if there is one to time the artifact beside.
    search
        What was tried until it lost no more than allowed, if that was asked for.
    """

    target: str
    artifact: Artifact
    price: Cost
    is_quantized: bool
    records: tuple[PassRecord, ...]
    settings: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...]
    plain: Artifact | None = None
    search: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What compiling made.

    Parameters
    ----------
    report
        What ``report.json`` holds.
    files
        Contents of every file, by name.
    sources
        Files that went in; `save` refuses to overwrite them.
    large
        Contents of files that hold the weights of an artifact too large for one file.
    refused
        Why the artifacts are the best that were found, and still not good enough.
    """

    report: dict[str, Any]
    files: Mapping[str, bytes]
    sources: tuple[Path, ...] = ()
    large: Mapping[str, Pieces] = field(default_factory=dict)
    refused: NumericsError | None = None

    def save(self, folder: Path | str) -> None:
        """Write all files, or none."""
        write_files(Path(folder), {**self.files, **self.large}, protect=self.sources)


def compile_model(
    model: Path, options: CompileOptions, progress: Progress | None = None
) -> Result:
    """Compile a model for every target, and prove every artifact unless told not to.

    Raises
    ------
    ModelError, OptionError, DataError, UnsupportedError, NumericsError
        If the model, an option or the data are bad, a target cannot express the model, or an
        artifact does not compute what the model computes.
    """
    say = progress or (lambda stage, done, total: None)
    clock = _Clock()
    targets = targets_for(options)
    loaded = load(model, options.shapes)
    check_interface(loaded.graph, targets)
    data = Split(
        loaded, options.calibration, options.preprocess, calibrates=calibrates(options)
    )
    labelled = labelled_samples(loaded, options)
    check_layers(loaded.graph, options.keep_float)
    original: Original | None = None
    if options.prove:
        original = recorded(loaded, data, say)
        loaded = original.loaded
        trim()  # its session is closed
    elif any(v.type.dtype is DType.FLOAT64 for v in loaded.graph.values()):
        # Layers that ONNX Runtime has no kernels for are computed in float32.
        loaded = replace(loaded, graph=provable(loaded)[1].graph)
    clock.lap("load")
    drop = _drop(original, data, labelled, options)
    records, compiled, told = _compiled(loaded.graph, targets, data, drop, options, say, clock)
    trim()  # their graphs are gone
    proof = Proof({}, None, None)
    speeds: dict[str, Speed] = {}
    if original is not None:
        runners = {c.target: t.load(c.artifact) for t, c in zip(targets, compiled, strict=True)}
        try:
            proof = proven(original, runners, compiled, data, labelled, options, say)
        except NumericsError as error:
            from edgec.calibrating import suspicions  # it takes long to load

            raise NumericsError(
                error.summary, (*error.diagnostics, *suspicions(told))
            ) from error
        clock.lap("prove")
        speeds = _speeds(targets, compiled, runners, data, options, say)
        runners.clear()
    clock.lap("time")
    stem = model.stem
    report = build_report(
        loaded=loaded,
        options=options,
        records=records,
        compiled=compiled,
        proof=proof.agreements,
        evaluation=proof.evaluation,
        data=data.summary(),
        told=told,
        notes=(*(original.form.notes if original else ()), *data.notes),
        stem=stem,
        golden=proof.golden,
        speeds=speeds,
        seconds=clock.seconds,
    )
    files = {f"{stem}{c.artifact.suffix}": c.artifact.data for c in compiled}
    if proof.golden is not None:
        files[f"{stem}.golden.npz"] = proof.golden
    files["report.json"] = json_bytes(report)
    given = (model, options.calibration, options.evaluation)
    besides = [c.artifact.outside for c in compiled if c.artifact.outside is not None]
    large = {beside.file: beside.contents for beside in besides}
    sources = tuple(p for p in given if isinstance(p, Path))
    return Result(report, files, sources, large, _refused(compiled))


class _Clock:
    """Wall-clock seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now


def _run(
    passes: tuple[Pass, ...], graph: Graph, sample: Sample | None, say: Progress
) -> tuple[Graph, tuple[PassRecord, ...]]:
    return Pipeline(passes, sample, lambda name: say(name, 0, 0)).run(graph)


def _compiled(
    graph: Graph,
    targets: Sequence[Target],
    data: Split,
    drop: Drop | None,
    options: CompileOptions,
    say: Progress,
    clock: _Clock,
) -> tuple[tuple[PassRecord, ...], list[Compiled], CalibrationReport | None]:
    """Return what the lossless passes did, every target's artifact, and what samples showed."""
    sample = Sample(data.first()) if options.verify else None
    graph, records = simplify(graph, sample, lambda name: say(name, 0, 0))
    clock.lap("simplify")
    calibrations: list[Calibrated] = []
    schemes = [target.scheme() for target in targets]
    compiled = [
        _compile_for(target, graph, data, sample, calibrations, schemes, drop, options, say)
        for target in targets
    ]
    compiled = [_placed(t, c) for t, c in zip(targets, compiled, strict=True)]
    clock.lap("compile")
    return records, compiled, _told(calibrations)


def _placed(target: Target, made: Compiled) -> Compiled:
    """Return an artifact with what its device leaves out among its notes, first of all."""
    notes = target.left_out(made.artifact)
    return replace(made, diagnostics=(*notes, *made.diagnostics)) if notes else made


def _told(calibrations: Sequence[Calibrated]) -> CalibrationReport | None:
    """Return what the samples showed, if any were calibrated on."""
    if not calibrations:
        return None
    from edgec.calibrating import told_by  # it takes long to load

    return told_by(c.calibration for c in calibrations)


def _compile_for(
    target: Target,
    graph: Graph,
    data: Split,
    sample: Sample | None,
    calibrations: list[Calibrated],
    schemes: list[Scheme],
    drop: Drop | None,
    options: CompileOptions,
    say: Progress,
) -> Compiled:
    """Return the artifact for one target; calibration is shared where the graph is the same."""
    graph, records = _run(target.prepare(), graph, sample, say)
    plain = _plain(target, graph, options, say)
    if options.recipe is None:
        return _emitted(target, graph, sample, records, plain, say)
    from edgec.quantizing import AS_THE_RECIPE_SAYS, quantizing  # it takes long to load

    way = quantizing(target, graph, data, calibrations, schemes, options, say)

    def made(mix: Mapping[str, Precision]) -> Compiled:
        stored, rewritten = _run(way.passes(mix), way.graph, None, say)
        whole = (*records, *way.records, *rewritten)
        done = _emitted(target, stored, sample, whole, plain, say)
        changed = any(r.changed for r in rewritten)
        return replace(done, is_quantized=done.is_quantized or changed)

    if drop is None or options.max_drop is None:
        return made(AS_THE_RECIPE_SAYS)
    from edgec.cache import Cache
    from edgec.precision import search

    def lost(found: Compiled) -> tuple[Loss, int]:
        return drop.of(target.load(found.artifact)), found.artifact.size_bytes

    found = search(way, made, lost, options.max_drop, Cache.of_user(), say)
    told = {
        "max_drop": options.max_drop,
        "measure": drop.measure,
        "samples": drop.samples,
        "loses": drop.text(found.lost),
    }
    return replace(found.made, search={**told, **found.to_dict()})


def _emitted(
    target: Target,
    graph: Graph,
    sample: Sample | None,
    records: tuple[PassRecord, ...],
    plain: Artifact | None,
    say: Progress,
) -> Compiled:
    """Return the artifact of a graph that is only to be finished."""
    graph, finished = _run(target.finish(), graph, sample, say)
    records += finished
    say(f"emit {target.name}", 0, 0)
    artifact = target.compile(graph)
    notes = (*artifact.notes, *(d for r in records for d in r.diagnostics))
    came = any(isinstance(node.op, Quantize) for node in graph.nodes)
    unload(c.array for c in graph.constants.values())
    return Compiled(
        target.name,
        artifact,
        cost(graph),
        came,
        records,
        target.settings(),
        notes,
        plain,
    )


def _drop(
    original: Original | None,
    data: Split,
    labelled: tuple[Samples, Array | None] | None,
    options: CompileOptions,
) -> Drop | None:
    """Return what measures the loss of artifacts, if it is limited."""
    if options.max_drop is None or original is None:
        return None
    from edgec.precision import Drop

    return Drop(original, data, labelled, options)


def _refused(compiled: Sequence[Compiled]) -> NumericsError | None:
    """Return why artifacts lose more than allowed, if some do."""
    problems = [
        Diagnostic(
            f"loses {c.search['loses']} at best, where {c.search['max_drop']:g} is allowed",
            c.target,
            "report.json has what was tried; more samples, --effort full or a recipe of more "
            "bits may help",
        )
        for c in compiled
        if c.search is not None and not c.search["holds"]
    ]
    if not problems:
        return None
    return NumericsError(
        "--max-drop does not hold; the best that was found is written", problems
    )


def _plain(
    target: Target, graph: Graph, options: CompileOptions, say: Progress
) -> Artifact | None:
    """Return the float artifact that a quantized one is timed beside, if it is to be."""
    wanted = options.recipe is not None and options.prove and options.compare_speed
    if not wanted or not target.runs_here:
        return None
    if sum(c.array.nbytes for c in graph.constants.values()) > _TIMED_BYTES:
        return None
    return target.for_floats().compile(_run(target.finish(), graph, None, say)[0])


def _speeds(
    targets: Sequence[Target],
    compiled: Sequence[Compiled],
    runners: Mapping[str, Runner],
    data: Split,
    options: CompileOptions,
    say: Progress,
) -> dict[str, Speed]:
    """Time quantized artifacts beside float ones; raise if one is not as fast as required."""
    found: dict[str, Speed] = {}
    for target, c in zip(targets, compiled, strict=True):
        if c.plain is not None and c.is_quantized:
            say(f"time {target.name}", 0, 0)
            plain = target.load(c.plain)
            speed = compared(runners[c.target], plain, data.first())
            if not (speed.is_faster and speed.reaches(options.require_speedup or 1)):
                say(f"trace {target.name}", 0, 0)
                spots = hotspots(c.artifact, c.plain, data.first(), c.diagnostics)
                speed = replace(speed, hotspots=spots)
            found[c.target] = speed
    if options.require_speedup is not None:
        check_speed(found, [c.target for c in compiled], options.require_speedup)
    return found


_TIMED_BYTES = 256 << 20
"""Of constants: a float artifact beside would take too much memory and time."""


def labelled_samples(
    loaded: Loaded, options: CompileOptions
) -> tuple[Samples, Array | None] | None:
    """Return the samples to evaluate on and their labels, moved by the offset."""
    if options.metric is not None:
        metric_named(options.metric)  # a typing error should not show after all the work
    if options.evaluation is None:
        return None
    samples = open_for(loaded, options.evaluation, options.preprocess, extras=("labels",))
    labels = samples.extra("labels")
    if labels is None:
        return samples, None
    if labels.dtype.kind not in "iu" and options.metric is None:
        raise DataError(f"labels are {labels.dtype}, but must be integers")
    return samples, labels + options.label_offset if options.label_offset else labels
