"""Run artifacts in their own runtimes and compare them with the model they were made from."""

from __future__ import annotations

import importlib
import math
import pickle
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgec.errors import DataError, Diagnostic, EdgecError, OptionError
from edgec.evaluate import OnnxSession
from edgec.ir import Array, DType
from edgec.numerics import Agreement
from edgec.original import Form, reference
from edgec.passes import DecomposeBlockProducts
from edgec.passes.rounding import rounding_floor
from edgec.targets import Runner

if TYPE_CHECKING:
    from edgec.calibration import Warned

__all__ = [
    "Evaluation",
    "Limits",
    "Recorded",
    "evaluate_accuracy",
    "faults",
    "metric_named",
    "prove",
    "rounding",
    "scores",
]

_IN_MEMORY_BYTES = 1 << 26


class Model(Protocol):
    """What computes outputs for one sample."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output."""
        ...


Feeds = Iterator[Mapping[str, Array]]
Metric = Callable[[dict[str, Array], Array | None], float]


@dataclass(frozen=True, slots=True)
class Limits:
    """When an artifact counts as broken.

    Parameters
    ----------
    max_float_error
        Of a float artifact, relative to the range of the output.
    min_sqnr_db
        Of a quantized artifact.
    """

    max_float_error: float = 1e-3
    min_sqnr_db: float = 5.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the labelled samples say.

    Parameters
    ----------
    metric
        Its name; "accuracy" unless the user brought one.
    reference
        Of the float model.
    artifacts
        Of every artifact, by target.
    top1
        Share of samples on which an artifact has the original's largest class, ties
        included; ``None`` with a metric of the user's.
    warnings
        What looks wrong with the samples.
    """

    samples: int
    metric: str
    reference: float
    artifacts: Mapping[str, float]
    top1: Mapping[str, float | None]
    warnings: tuple[Warned, ...] = ()


class Recorded:
    """What a model computes for some samples, so that its session need not stay open.

    The model's session and an artifact's hold all the weights each, in an order of their own.

    Parameters
    ----------
    progress
        Called with the number of samples that are done.
    """

    def __init__(
        self,
        original: OnnxSession,
        feeds: Feeds,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._places: list[int] = []
        for done, feed in enumerate(feeds, 1):
            self._places.append(self._file.tell())
            pickle.dump(original.run(feed), self._file, pickle.HIGHEST_PROTOCOL)
            if progress is not None:
                progress(done)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Yield the outputs for each sample, in order."""
        for place in self._places:
            self._file.seek(place)
            outputs: dict[str, Array] = pickle.load(self._file)
            yield outputs


def rounding(original: Form, wants: Iterable[Mapping[str, Array]], feeds: Feeds) -> float:
    """Return how far a model is from what it computes, run as written instead of optimised.

    Relative to the range of the output, the worst over all samples. No artifact can be held to
    less: both runs are right, they only round differently. A model of 16-bit floats is run with
    its constants moved by their last bits, too; products whose operands a model lets ONNX
    Runtime round are run unrounded.
    """
    exact = DecomposeBlockProducts().run(original.graph)
    plain = reference(original.model if exact is original.graph else exact, optimize=False)
    first = next(feeds)
    floor = prove(wants, {"": plain}, chain([first], feeds))[""].max_relative_error
    if any(v.type.dtype is DType.FLOAT16 for v in original.graph.values()):
        floor = max(floor, rounding_floor(original.graph, first, plain.run(first)))
    return floor


def prove(
    wants: Iterable[Mapping[str, Array]],
    runners: Mapping[str, Runner] | Mapping[str, OnnxSession],
    feeds: Feeds,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Agreement]:
    """Return how far each artifact is from what the original computes, over all samples."""
    found = {name: Agreement() for name in runners}
    for done, (want, feed) in enumerate(zip(wants, feeds, strict=True), 1):
        for name, runner in runners.items():
            found[name].add(want, runner.run(feed))
        if progress is not None:
            progress(done)
    return found


def faults(agreement: Agreement, *, quantized: bool, limits: Limits) -> tuple[Diagnostic, ...]:
    """Return why an artifact is broken; empty if it is not."""
    problems = [
        *(Diagnostic("has NaN or infinities", f"output {n}") for n in agreement.not_finite()),
        *(
            Diagnostic("has another shape or other contents", f"output {n}")
            for n in agreement.different()
        ),
        *(
            Diagnostic(
                "is never a finite number in the model itself: nothing can be proven",
                f"output {n}",
                "give samples the model can compute with --calibration",
            )
            for n in agreement.unjudged()
        ),
        *(
            Diagnostic("never varies, but the model's does", f"output {n}")
            for n in agreement.constant()
        ),
    ]
    if quantized and agreement.sqnr_db < limits.min_sqnr_db:
        problems.append(
            Diagnostic(
                f"signal-to-noise ratio is {agreement.sqnr_db:.1f} dB, less than "
                f"{limits.min_sqnr_db:g}",
                hint="more samples, --keep-float LAYER or a recipe of more bits may help; "
                "edgec debug names the layers",
            )
        )
    if not quantized and not agreement.max_relative_error <= limits.max_float_error:
        problems.append(
            Diagnostic(
                f"largest error is {agreement.max_relative_error:.2g} of the output's range, "
                f"more than {limits.max_float_error:g}"
            )
        )
    return tuple(problems)


def evaluate_accuracy(
    original: Model,
    runners: Mapping[str, Runner],
    feeds: Feeds,
    labels: Array | None,
    metric: str | None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Return the metric of the original and of every artifact on labelled samples.

    Without a metric of the user's, it is the share of samples whose largest class is the
    label, on the first output of shape [N, classes].

    Raises
    ------
    DataError
        If labels are missing, of the wrong number, or no output has classes.
    """
    function = _accuracy if metric is None else metric_named(metric)
    if metric is None and labels is None:
        raise DataError("the evaluation data have no 'labels'; add them, or give --metric")
    collected: dict[str, dict[str, list[Array]]] = {"": {}, **{name: {} for name in runners}}
    agreements = {name: Agreement() for name in runners}
    count = 0
    for feed in feeds:
        count += 1
        results = {"": original.run(feed)}
        results.update((name, runner.run(feed)) for name, runner in runners.items())
        if metric is None:
            if labels is not None and labels.size and count == 1:
                _check_labels(labels, next(iter(scores(results[""]).values())))
            for name, agreement in agreements.items():
                agreement.add(scores(results[""]), results[name])
        for name, outputs in results.items():
            kept = outputs
            if metric is None:
                kept = {k: v.argmax(axis=1) for k, v in scores(outputs).items()}
            for key, array in kept.items():
                collected[name].setdefault(key, []).append(array)
        if progress is not None:
            progress(count)
    if not count:
        raise DataError("there are no evaluation samples")
    stacked = {
        name: {key: np.concatenate(arrays) for key, arrays in outputs.items()}
        for name, outputs in collected.items()
    }
    values = {n: _judged(function, outputs, labels) for n, outputs in stacked.items()}
    top1 = {name: a.top1 if metric is None else None for name, a in agreements.items()}
    return Evaluation(count, metric or "accuracy", values.pop(""), values, top1)


def _judged(function: Metric, outputs: dict[str, Array], labels: Array | None) -> float:
    """Return what a metric says; a user's may fail in any way."""
    try:
        with redirect_stdout(sys.stderr):  # what it prints is not the report
            value = float(function(outputs, labels))
    except EdgecError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise OptionError(f"the metric failed on the outputs: {what}") from error
    if not math.isfinite(value):
        raise OptionError(f"the metric is {value}, which is no number to judge by")
    return value


def scores(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the first output that has classes."""
    for name, array in outputs.items():
        if array.ndim == 2 and array.shape[1] > 1:
            return {name: array}
    shapes = ", ".join(f"{name} {list(a.shape)}" for name, a in outputs.items())
    raise DataError(
        "accuracy needs an output of shape [N, classes]",
        [Diagnostic(f"outputs are {shapes}", hint="give a --metric module:function")],
    )


def _accuracy(outputs: dict[str, Array], labels: Array | None) -> float:
    (classes,) = outputs.values()
    if labels is None or labels.reshape(-1).shape != classes.shape:
        found = 0 if labels is None else labels.size
        raise DataError(f"there are {found} labels for {classes.size} samples")
    return float(np.mean(classes == labels.reshape(-1)))


def _check_labels(labels: Array, scores: Array) -> None:
    """Raise if labels cannot be classes: the accuracy would be 0 without a reason."""
    low, high, classes = int(labels.min()), int(labels.max()), scores.shape[1]
    if low < 0 or high >= classes:
        raise DataError(
            f"labels go from {low} to {high}, but the model has classes 0 to {classes - 1}",
            [Diagnostic("labels can be moved", hint="use --label-offset")],
        )


def metric_named(text: str) -> Metric:
    """Return the user's function ``metric(outputs, labels) -> float``.

    ``outputs`` holds each output for all samples, joined along the first axis.

    Raises
    ------
    OptionError
        If there is no such module or function.
    """
    module, _, name = text.partition(":")
    if not module or not name:
        raise OptionError(f"--metric {text}: expected module:function")
    sys.path.insert(0, str(Path.cwd()))  # a console script's path lacks the current folder
    try:
        found: Any = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # whatever the user's module does when it is imported
        what = f"{type(error).__name__}: {error}"
        raise OptionError(f"--metric {text}: cannot be imported: {what}") from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise OptionError(f"--metric {text}: module {module} has no function {name}")
    function: Metric = found
    return function
