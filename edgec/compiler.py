"""Compile a model: the whole story on one page."""

from __future__ import annotations

import difflib
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgec.calibration import DEFAULT, METHODS, Calibration, Percentile, RangeMethod, calibrate
from edgec.data import InputSpec, Preprocessing, Samples, open_samples
from edgec.errors import DataError, Diagnostic, NumericsError, OptionError
from edgec.evaluate import OnnxSession
from edgec.files import json_bytes, write_files
from edgec.frontend import Loaded, load
from edgec.ir import Array, Dim, DType, Graph
from edgec.numerics import Agreement
from edgec.passes import Pass, PassRecord, Pipeline, QuantizeGraph, Scheme, lossless
from edgec.passes.quantization_plan import plan
from edgec.proof import Evaluation, Limits, evaluate_accuracy, faults, prove, reference
from edgec.report import build_report
from edgec.targets import TARGETS, Artifact, OnnxRuntime, Runner, Target, Tflite
from edgec.targets.onnxruntime.devices import device_named

__all__ = ["RECIPES", "CompileOptions", "Compiled", "Result", "compile_model"]

RECIPES = ("static_wi8_ai8",)

Source = Path | Mapping[str, Array]
Progress = Callable[[str, int, int], None]

_HELD_OUT_FROM = 8  # samples; with fewer, every one is needed for calibration
_HELD_OUT_MOST = 64


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What to compile for, and how.

    Parameters
    ----------
    targets
        Names of targets; one artifact each.
    recipe
        "static_wi8_ai8" for int8 weights and activations; ``None`` leaves float32.
    calibration, evaluation
        Samples: one array for each input; evaluation data have ``labels`` too.
    ranges
        Method that finds activation ranges; see :data:`edgec.calibration.METHODS`.
    percentile
        Share of the elements kept by the range method "percentile", in percent.
    shapes
        Shapes of inputs that the model leaves open.
    io_dtype, io_layout
        Of the TFLite file's inputs and outputs.
    keep_float
        Layers that are not quantized.
    metric
        ``module:function`` that judges outputs; accuracy otherwise.
    label_offset
        Added to every label.
    preprocess
        How images in a folder become the input.
    device
        CPU that the ONNX Runtime artifact is for; this machine's otherwise.
    verify
        Whether every pass is held to its promise on one sample.
    """

    targets: tuple[str, ...]
    recipe: str | None = None
    calibration: Source | None = None
    evaluation: Source | None = None
    ranges: str | None = None
    percentile: float | None = None
    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)
    io_dtype: str = "float32"
    io_layout: str = "keep"
    keep_float: tuple[str, ...] = ()
    metric: str | None = None
    label_offset: int = 0
    preprocess: str | None = None
    device: str | None = None
    verify: bool = True
    max_float_error: float = Limits().max_float_error
    min_sqnr_db: float = Limits().min_sqnr_db


@dataclass(frozen=True, slots=True)
class Compiled:
    """One artifact, with how it came to be."""

    target: str
    artifact: Artifact
    graph: Graph
    records: tuple[PassRecord, ...]
    diagnostics: tuple[Diagnostic, ...]


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
    """

    report: dict[str, Any]
    files: Mapping[str, bytes]
    sources: tuple[Path, ...] = ()

    def save(self, folder: Path | str) -> None:
        """Write all files, or none."""
        write_files(Path(folder), self.files, protect=self.sources)


def compile_model(
    model: Path, options: CompileOptions, progress: Progress | None = None
) -> Result:
    """Compile a model for every target, and prove every artifact.

    Raises
    ------
    ModelError, OptionError, DataError, UnsupportedError, NumericsError
        If the model, an option or the data are bad, a target cannot express the model, or an
        artifact does not compute what the model computes.
    """
    say = progress or (lambda stage, done, total: None)
    clock = _Clock()
    targets = _targets(options)
    loaded = load(model, options.shapes)
    _check_static(loaded.graph)
    data = _Data(loaded, options)
    clock.lap("load")
    sample = data.first() if options.verify else None
    graph, records = _run(lossless(), loaded.graph, sample, say)
    _check_layers(loaded.graph, options.keep_float)
    clock.lap("simplify")
    calibrations: list[tuple[Graph, Calibration]] = []
    schemes = [target.scheme() for target in targets]
    compiled = [
        _compile_for(target, graph, data, calibrations, schemes, options, say)
        for target in targets
    ]
    clock.lap("compile")
    original = reference(model)
    runners = {
        c.target: target.load(c.artifact) for target, c in zip(targets, compiled, strict=True)
    }
    proof = prove(original, runners, data.proof(), _counter(say, "prove", data.proof_count))
    _refuse_broken(compiled, proof, options)
    clock.lap("prove")
    evaluation = _evaluation(original, runners, loaded, options, say)
    clock.lap("evaluate")
    stem = model.stem
    golden = _golden(original, runners, data.first())
    report = build_report(
        loaded=loaded,
        options=options,
        records=records,
        compiled=compiled,
        proof=proof,
        evaluation=evaluation,
        data=data.summary(),
        notes=data.notes,
        stem=stem,
        golden=golden,
        seconds=clock.seconds,
    )
    files = {f"{stem}{c.artifact.suffix}": c.artifact.data for c in compiled}
    files |= {f"{stem}.golden.npz": golden, "report.json": json_bytes(report)}
    given = (model, options.calibration, options.evaluation)
    return Result(report, files, tuple(p for p in given if isinstance(p, Path)))


def _check_static(graph: Graph) -> None:
    for value in graph.inputs:
        if not value.type.is_static:
            raise OptionError(
                f"input {value.name} is {value.type}, but artifacts are proven at a fixed shape",
                [Diagnostic("give numbers only, as in --shape NAME=1,3,224,224")],
            )


class _Clock:
    """Wall-clock seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now


def _targets(options: CompileOptions) -> list[Target]:
    """Return the targets asked for, with their options."""
    if not options.targets:
        raise OptionError("no target is given")
    if options.recipe is not None and options.recipe not in RECIPES:
        raise OptionError(f"there is no recipe {options.recipe!r}; known: {', '.join(RECIPES)}")
    if options.recipe is not None and options.calibration is None:
        raise OptionError(f"recipe {options.recipe} needs samples: give --calibration")
    found: list[Target] = []
    for name in dict.fromkeys(options.targets):
        match name:
            case Tflite.name:
                io = {"io_dtype": options.io_dtype, "io_layout": options.io_layout}
                found.append(Tflite(**io))  # type: ignore[arg-type]
            case OnnxRuntime.name:
                found.append(OnnxRuntime(device_named(options.device)))
            case _:
                known = ", ".join(t.name for t in TARGETS)
                raise OptionError(f"there is no target {name!r}; known: {known}")
    return found


def _run(
    passes: tuple[Pass, ...], graph: Graph, sample: Mapping[str, Array] | None, say: Progress
) -> tuple[Graph, tuple[PassRecord, ...]]:
    return Pipeline(passes, sample, lambda name: say(name, 0, 0)).run(graph)


def _compile_for(
    target: Target,
    graph: Graph,
    data: _Data,
    calibrations: list[tuple[Graph, Calibration]],
    schemes: list[Scheme],
    options: CompileOptions,
    say: Progress,
) -> Compiled:
    """Return the artifact for one target; calibration is shared where the graph is the same."""
    sample = data.first() if options.verify else None
    graph, records = _run(target.prepare(), graph, sample, say)
    if options.recipe is not None:
        plans = [plan(graph, options.keep_float, scheme.floating) for scheme in schemes]
        if not any(p.nodes for p in plans):
            raise OptionError(
                "no layer of this model can be quantized; leave out --recipe", plans[0].reasons
            )
        calibration = next((c for g, c in calibrations if g is graph), None)
        if calibration is None:
            tick = _counter(say, "calibrate", data.calibration_count)
            method = _method(options)
            values = dict.fromkeys(v for p in plans for v in p.measured)
            calibration = calibrate(graph, tuple(values), data.calibration(), method, tick)
            calibrations.append((graph, calibration))
        step = QuantizeGraph(calibration, target.scheme(), options.keep_float)
        graph, quantized = _run((step,), graph, None, say)
        records += quantized
    graph, finished = _run(target.finish(), graph, sample, say)
    records += finished
    say(f"emit {target.name}", 0, 0)
    artifact = target.compile(graph)
    notes = (*artifact.notes, *(d for r in records for d in r.diagnostics))
    return Compiled(target.name, artifact, graph, records, notes)


def _method(options: CompileOptions) -> RangeMethod:
    name = options.ranges or DEFAULT
    if name not in METHODS:
        raise OptionError(f"there is no range method {name!r}; known: {', '.join(METHODS)}")
    if options.percentile is None:
        return METHODS[name]()
    if name != Percentile.name:
        raise OptionError("--percentile goes with --ranges percentile only")
    if not 50 < options.percentile <= 100:
        raise OptionError("--percentile must be above 50 and at most 100")
    return Percentile(options.percentile)


def _check_layers(graph: Graph, keep_float: tuple[str, ...]) -> None:
    layers = list(dict.fromkeys(o for node in graph.nodes for o in node.origin))
    for name in keep_float:
        if name not in layers:
            near = difflib.get_close_matches(name, layers, 1)
            hint = f"did you mean {near[0]!r}?" if near else "edgec inspect lists the layers"
            raise OptionError(f"--keep-float {name!r} names no layer of the model; {hint}")


def _counter(say: Progress, stage: str, total: int) -> Callable[[int], None]:
    return lambda done: say(stage, done, total)


def _refuse_broken(
    compiled: list[Compiled], proof: Mapping[str, Agreement], options: CompileOptions
) -> None:
    limits = Limits(options.max_float_error, options.min_sqnr_db)
    problems = [
        replace(d, where=f"{c.target} {d.where}".strip())
        for c in compiled
        for d in faults(proof[c.target], quantized=options.recipe is not None, limits=limits)
    ]
    if problems:
        raise NumericsError("an artifact does not compute what the model computes", problems)


def _evaluation(
    original: OnnxSession,
    runners: Mapping[str, Runner],
    loaded: Loaded,
    options: CompileOptions,
    say: Progress,
) -> Evaluation | None:
    if options.evaluation is None:
        return None
    samples = _open(options.evaluation, loaded, options, extras=("labels",))
    labels = samples.extra("labels")
    if labels is not None:
        if labels.dtype.kind not in "iu" and options.metric is None:
            raise DataError(f"labels are {labels.dtype}, but must be integers")
        labels = labels + options.label_offset if options.label_offset else labels
    feeds = samples.feeds(range(samples.count))
    tick = _counter(say, "evaluate", samples.count)
    return evaluate_accuracy(original, runners, feeds, labels, options.metric, tick)


def _open(
    source: Source, loaded: Loaded, options: CompileOptions, extras: tuple[str, ...] = ()
) -> Samples:
    specs = [
        InputSpec(v.name, v.type.dtype.numpy, v.type.ints, v.name in loaded.batched)
        for v in loaded.graph.inputs
    ]
    is_folder = isinstance(source, Path) and source.is_dir()
    text = options.preprocess if is_folder else None
    preprocessing = None if text is None else Preprocessing.parse(text)
    return open_samples(source, specs, preprocessing=preprocessing, extras=extras)


class _Data:
    """The calibration samples, split; random ones where there are none.

    The last quarter, at most 64, is held out of calibration to prove artifacts on.
    """

    def __init__(self, loaded: Loaded, options: CompileOptions) -> None:
        self._graph = loaded.graph
        self._samples: Samples | None = None
        self.notes: tuple[Diagnostic, ...] = ()
        self._first: dict[str, Array] | None = None
        if options.calibration is None:
            message = (
                "no samples are given: passes and artifacts are proven on one random input"
            )
            self.notes = (Diagnostic(message, hint="give --calibration"),)
            return
        self._samples = _open(options.calibration, loaded, options)
        self.notes = self._samples.notes
        count = self._samples.count
        held = min(count // 4, _HELD_OUT_MOST) if count >= _HELD_OUT_FROM else 0
        self._calibrated = count - held
        if not held and options.recipe is not None:
            message = (
                f"with {count} samples none is held out: artifacts are proven on those they "
                "were calibrated on"
            )
            hint = f"give at least {_HELD_OUT_FROM} samples, better a few hundred"
            self.notes += (Diagnostic(message, "calibration", hint),)
        self._proof = range(self._calibrated if held else 0, count)

    @property
    def calibration_count(self) -> int:
        return 0 if self._samples is None else self._calibrated

    @property
    def proof_count(self) -> int:
        return 1 if self._samples is None else len(self._proof)

    def calibration(self) -> Iterator[Mapping[str, Array]]:
        if self._samples is None:
            raise DataError("there are no calibration samples")
        return self._samples.feeds(range(self._calibrated))

    def proof(self) -> Iterator[Mapping[str, Array]]:
        if self._samples is None:
            return iter([self.first()])
        return self._samples.feeds(self._proof)

    def first(self) -> dict[str, Array]:
        """Return the sample that passes are verified on."""
        if self._first is None:
            if self._samples is None:
                self._first = _random_feed(self._graph)
            else:
                self._first = next(self._samples.feeds(self._proof[:1]))
        return self._first

    def summary(self) -> dict[str, Any] | None:
        if self._samples is None:
            return None
        return {
            "samples": self._calibrated,
            "held_out": self._samples.count - self._calibrated,
            "sha256": self._samples.digest(),
        }


def _random_feed(graph: Graph) -> dict[str, Array]:
    """Return an input that is the same every time: floats in [0, 1), small integers."""
    rng = np.random.default_rng(0)
    feed: dict[str, Array] = {}
    for value in graph.inputs:
        shape, dtype = value.type.ints, value.type.dtype
        if dtype is DType.BOOL:
            feed[value.name] = np.ones(shape, bool)
        elif dtype.is_float:
            feed[value.name] = rng.random(shape).astype(dtype.numpy)
        elif dtype is DType.STRING:
            feed[value.name] = np.full(shape, "", object)
        else:
            feed[value.name] = rng.integers(0, 2, shape).astype(dtype.numpy)
    return feed


def _golden(
    original: OnnxSession, runners: Mapping[str, Runner], feed: Mapping[str, Array]
) -> bytes:
    """Return one input with the outputs of the model and of every artifact, as an ``.npz``.

    Members are ``input/NAME`` and ``output/NAME`` for the model, and ``TARGET/input/NAME`` and
    ``TARGET/output/NAME`` for the tensors as the artifact stores them.
    """
    arrays = {f"input/{k}": v for k, v in feed.items()}
    arrays |= {f"output/{k}": v for k, v in original.run(feed).items()}
    for target, runner in runners.items():
        stored = runner.encode(feed)
        arrays |= {f"{target}/input/{k}": v for k, v in stored.items()}
        arrays |= {f"{target}/output/{k}": v for k, v in runner.raw(stored).items()}
    plain: dict[str, Any] = {k: v for k, v in arrays.items() if not v.dtype.hasobject}
    buffer = io.BytesIO()
    np.savez(buffer, **plain)
    return buffer.getvalue()
