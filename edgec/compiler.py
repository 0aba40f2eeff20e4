"""Compile a model: the whole story on one page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.budgets import check_structure
from edgec.contents import Pieces
from edgec.data import Samples
from edgec.errors import (
    DataError,
    Diagnostic,
    EdgecError,
    NumericsError,
    UnsupportedError,
)
from edgec.files import json_bytes, write_files
from edgec.frontend import Loaded, load
from edgec.hotspots import hotspots
from edgec.interface import check_interface
from edgec.ir import Array, DType, trim
from edgec.making import Compiled, Making
from edgec.options import CompileOptions, calibrates, check_layers, targets_for
from edgec.original import provable
from edgec.passes import PassRecord, Sample, simplify
from edgec.proof import (
    metric_named,
)
from edgec.report import build_report
from edgec.speed import Speed, check_speed, compared
from edgec.split import Split, open_for
from edgec.targets import Runner, Target
from edgec.verdict import Original, Progress, Proof, proven, recorded

if TYPE_CHECKING:
    from edgec.calibration import CalibrationReport
    from edgec.precision import Drop

__all__ = [
    "CompileOptions",
    "Compiled",
    "Result",
    "compile_model",
    "labelled_samples",
]


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
    refused: EdgecError | None = None

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
    targets = [target.named(model.stem) for target in targets_for(options)]
    check_structure(options)
    loaded = load(model, options.shapes)
    check_interface(loaded.graph, targets)
    data = Split(
        loaded,
        options.calibration,
        options.preprocess,
        calibrates=calibrates(options)
        or options.goal is not None
        or options.prune_weights is not None,
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
    records, compiled, told = _compiled(loaded, targets, data, drop, options, say, clock)
    trim()  # their graphs are gone
    proof = Proof({}, None, None)
    speeds: dict[str, Speed] = {}
    structure: dict[str, Speed] = {}
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
        compiled = [
            replace(
                c,
                measured=target.measured(c.artifact, data.proof()),
                artifact=target.delivered(runners[c.target], data.first()),
            )
            for target, c in zip(targets, compiled, strict=True)
        ]
        compiled = [
            _counted(target, c, data) for target, c in zip(targets, compiled, strict=True)
        ]
        clock.lap("measure")
        speeds, structure = _speeds(targets, compiled, runners, data, options, say)
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
        structure=structure,
        seconds=clock.seconds,
    )
    files = {name: data for c in compiled for name, data in c.artifact.inside(stem).items()}
    if proof.golden is not None:
        files[f"{stem}.golden.npz"] = proof.golden
    files["report.json"] = json_bytes(report)
    given = (model, options.calibration, options.evaluation)
    besides = [c.artifact.outside for c in compiled if c.artifact.outside is not None]
    large = {beside.file: beside.contents for beside in besides}
    sources = tuple(p for p in given if isinstance(p, Path))
    over = [
        problem
        for target, c in zip(targets, compiled, strict=True)
        if c.measured is not None
        for problem in target.over_budget(c.measured)
    ]
    return Result(report, files, sources, large, _refused(compiled, over))


class _Clock:
    """Wall-clock seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now


def _compiled(
    loaded: Loaded,
    targets: Sequence[Target],
    data: Split,
    drop: Drop | None,
    options: CompileOptions,
    say: Progress,
    clock: _Clock,
) -> tuple[tuple[PassRecord, ...], list[Compiled], CalibrationReport | None]:
    """Return what the lossless passes did, every target's artifact, and what samples showed."""
    sample = Sample(data.first()) if options.verify else None
    graph, records = simplify(loaded.graph, sample, lambda name: say(name, 0, 0))
    clock.lap("simplify")
    schemes = [target.scheme() for target in targets]
    making = Making(data, sample, schemes, drop, options, loaded.size_bytes, say)
    if options.goal is None:
        compiled = [making.compiled(target, graph) for target in targets]
    else:
        from edgec.shrinking import shrunk  # it takes long to load

        compiled = [shrunk(making, target, graph) for target in targets]
    compiled = [_placed(t, c) for t, c in zip(targets, compiled, strict=True)]
    clock.lap("compile")
    return records, compiled, _told(compiled)


def _placed(target: Target, made: Compiled) -> Compiled:
    """Return an artifact with what its device leaves out among its notes, first of all."""
    notes = target.left_out(made.artifact)
    return replace(made, diagnostics=(*notes, *made.diagnostics)) if notes else made


def _told(compiled: Sequence[Compiled]) -> CalibrationReport | None:
    """Return what the samples showed of what was compiled, if any were calibrated on."""
    told: CalibrationReport | None = None
    for c in compiled:  # targets that prepare the graph otherwise add what they measured
        told = c.observed if told is None else told.joined(c.observed)
    return told


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


def _refused(compiled: Sequence[Compiled], over: Sequence[Diagnostic]) -> EdgecError | None:
    """Return why artifacts lose more than allowed, or take more, if some do."""
    problems = [
        Diagnostic(
            f"loses {told['loses']} at best, where {told['max_drop']:g} is allowed",
            c.target,
            "report.json has what was tried; more samples, --effort full or a recipe of more "
            "bits may help",
        )
        for c in compiled
        if (told := _lost_too_much(c)) is not None
    ]
    if problems:
        return NumericsError(
            "--max-drop does not hold; the best that was found is written", problems
        )
    missed = [
        Diagnostic(
            f"keeps {c.compression['left']}, where {c.compression['goal']} is the goal",
            c.target,
            "another --technique, a larger goal or a larger --max-drop may help; report.json "
            "has what was tried",
        )
        for c in compiled
        if c.compression is not None and not c.compression["holds"]
    ]
    if over:
        return UnsupportedError(
            "the model does not fit the device; what was made is written", [*over, *missed]
        )
    if not missed:
        return None
    return UnsupportedError("the goal is out of reach; the nearest found is written", missed)


def _lost_too_much(c: Compiled) -> Mapping[str, Any] | None:
    """Return what is known of an artifact's loss, if it is limited and too large."""
    if c.search is not None:
        return None if c.search["holds"] else c.search
    told = c.compression or {}
    return None if told.get("drop_holds", True) else told


def _speeds(
    targets: Sequence[Target],
    compiled: Sequence[Compiled],
    runners: Mapping[str, Runner],
    data: Split,
    options: CompileOptions,
    say: Progress,
) -> tuple[dict[str, Speed], dict[str, Speed]]:
    """Time artifacts beside float ones, and beside those with all of their structure.

    Raise if one is not as fast as required.
    """
    found: dict[str, Speed] = {}
    structure: dict[str, Speed] = {}
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
        if target.runs_here and c.uncompressed is not None and _is_smaller(c):
            say(f"time {target.name}", 0, 0)
            whole = target.load(c.uncompressed)
            structure[c.target] = compared(runners[c.target], whole, data.first())
    if options.require_speedup is not None:
        check_speed(found, [c.target for c in compiled], options.require_speedup)
    return found, structure


def _is_smaller(compiled: Compiled) -> bool:
    return bool(compiled.compression and compiled.compression["chosen"])


def _counted(target: Target, compiled: Compiled, data: Split) -> Compiled:
    """Return an artifact with what it would take on its device with all of its structure."""
    now, whole = compiled.measured, compiled.uncompressed
    if now is None or whole is None or not _is_smaller(compiled):
        return compiled
    try:
        before = target.measured(whole, data.proof())
    except (UnsupportedError, NumericsError) as error:  # it is only for the comparison
        said = f"is not compared with the whole model, which cannot be counted: {error.summary}"
        note = Diagnostic(said)
        return replace(compiled, diagnostics=(*compiled.diagnostics, note))
    assert before is not None
    assert compiled.compression is not None
    counts = {"instructions": now["instructions"], "whole_instructions": before["instructions"]}
    return replace(compiled, compression={**compiled.compression, **counts})


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
