"""A model on its way to integers, for commands that look at it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgec.calibrating import calibrated
from edgec.calibration import Calibration
from edgec.compiler import CompileOptions, labelled_samples
from edgec.easing import eased
from edgec.errors import DataError, OptionError
from edgec.frontend import Loaded, load
from edgec.interface import check_interface
from edgec.ir import Graph
from edgec.options import check_layers, targets_for
from edgec.original import provable, reference
from edgec.passes import Pipeline, simplify
from edgec.split import Split
from edgec.targets import Target
from edgec.verdict import Progress, channel_warnings

__all__ = ["Prepared", "calibration_report", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model just before it is quantized.

    Parameters
    ----------
    loaded
        As it came in.
    plain
        As the target wants it, still float.
    graph
        The same, made easier to quantize.
    """

    loaded: Loaded
    target: Target
    plain: Graph
    graph: Graph
    data: Split
    calibration: Calibration


def prepare(
    model: Path,
    options: CompileOptions,
    progress: Progress | None = None,
    *,
    every: bool = False,
) -> Prepared:
    """Take a model through the compiler until its ranges are known.

    Parameters
    ----------
    options
        With one target, a recipe and calibration samples.
    every
        Whether the ranges suffice to keep any other layers in float as well.

    Raises
    ------
    ModelError, OptionError, DataError, UnsupportedError
        As compiling does.
    """
    say = progress or (lambda stage, done, total: None)
    targets = targets_for(options)
    if len(targets) != 1:
        raise OptionError("this looks at one target at a time: give one")
    loaded = load(model, options.shapes)
    check_interface(loaded.graph, targets)
    data = Split(loaded, options.calibration, options.preprocess, calibrates=True)
    check_layers(loaded.graph, options.keep_float)
    (target,) = targets
    graph, _ = simplify(loaded.graph, None, lambda name: say(name, 0, 0))
    plain, _ = Pipeline(target.prepare()).run(graph)
    graph, _ = eased(target, plain, data, options, say)
    calibration = calibrated(graph, data, [target.scheme()], options, say, every=every)
    return Prepared(loaded, target, plain, graph, data, calibration)


def calibration_report(
    model: Path, options: CompileOptions, progress: Progress | None = None
) -> dict[str, Any]:
    """Return what the calibration samples of a model show, and what looks wrong with them.

    The float model is run on the labelled samples of the options too, if there are some: only
    labels tell whether red and blue are swapped.
    """
    # As they are in the model: effort may divide values by something.
    prepared = prepare(model, replace(options, effort="fast"), progress)
    report = prepared.calibration.report
    found: dict[str, Any] = {} if report is None else report.to_dict()
    warnings = [*found.pop("warnings", ()), *_of_labels(prepared.loaded, options)]
    notes = [asdict(d) for d in prepared.data.notes]
    held: Mapping[str, Any] = prepared.data.summary() or {}
    return {
        "file": model.name,
        "target": prepared.target.name,
        **held,
        "warnings": warnings,
        "notes": notes,
        **found,
    }


def _of_labels(loaded: Loaded, options: CompileOptions) -> list[dict[str, str]]:
    labelled = labelled_samples(loaded, options)
    if labelled is None:
        return []
    samples, labels = labelled
    if labels is None:
        raise DataError("the samples of --eval have no array 'labels'")
    session = reference(provable(loaded)[1].model)
    found = channel_warnings(session, loaded.graph.inputs, samples, labels)
    return [asdict(w) for w in found]
