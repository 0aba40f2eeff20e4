"""Run the artifacts beside the model they were made from, and refuse broken ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.data import Samples
from edgec.errors import Diagnostic, NumericsError
from edgec.evaluate import OnnxSession
from edgec.frontend import Loaded
from edgec.interface import check_batch
from edgec.ir import Array, Graph, Value
from edgec.numerics import Agreement, arrays_of
from edgec.original import Form, provable, reference
from edgec.proof import (
    Evaluation,
    Limits,
    Recorded,
    evaluate_accuracy,
    faults,
    prove,
    rounding,
    scores,
)
from edgec.split import Split
from edgec.targets import Runner

if TYPE_CHECKING:
    from edgec.calibration import Warned
    from edgec.compiler import Compiled
    from edgec.options import CompileOptions

__all__ = [
    "SENTENCE",
    "Original",
    "Progress",
    "Proof",
    "channel_warnings",
    "counter",
    "proven",
    "recorded",
]

Progress = Callable[[str, int, int], None]
"""Told the stage, and how much of how much is done."""

SENTENCE = -1
"""How much there is to do, where it is no stage but something that the user should know."""


def counter(say: Progress, stage: str, total: int) -> Callable[[int], None]:
    """Return what tells the progress of one stage."""
    return lambda done: say(stage, done, total)


@dataclass(frozen=True, slots=True)
class Original:
    """What the artifacts are compared with; no session of it is open.

    Parameters
    ----------
    loaded
        As it came in, or with operators written out that ONNX Runtime does not have.
    form
        What ONNX Runtime runs, and what is to be said of it.
    double
        Inputs with twice the batch, where it is open.
    """

    loaded: Loaded
    form: Form
    wants: Recorded
    double: tuple[Mapping[str, Array], ...]
    double_wants: Recorded


def recorded(loaded: Loaded, data: Split, say: Progress) -> Original:
    """Run the original on all samples of the proof."""
    session, form = provable(loaded)
    loaded = replace(loaded, graph=form.graph)
    double = check_batch(session, loaded.graph, data.first())
    ticks = counter(say, "run the model", data.proof_count)
    wants = Recorded(session, data.proof(), ticks)
    return Original(loaded, form, wants, double, Recorded(session, iter(double)))


@dataclass(frozen=True, slots=True)
class Proof:
    """What running the artifacts showed; nothing where they were not run."""

    agreements: Mapping[str, Agreement]
    evaluation: Evaluation | None
    golden: bytes | None


def proven(
    original: Original,
    runners: Mapping[str, Runner],
    compiled: Sequence[Compiled],
    data: Split,
    labelled: tuple[Samples, Array | None] | None,
    options: CompileOptions,
    say: Progress,
) -> Proof:
    """Compare every artifact with the original; raise if one is broken."""
    form, wants, double = original.form, original.wants, original.double
    tick = counter(say, "prove", data.proof_count)
    agreements = prove(wants, runners, data.proof(), tick)
    _refuse_broken(compiled, agreements, options, lambda: rounding(form, wants, data.proof()))
    larger = prove(original.double_wants, runners, iter(double))
    floor = partial(rounding, form, original.double_wants, iter(double))
    _refuse_broken(compiled, larger, options, floor)
    inputs = original.loaded.graph.inputs
    evaluation = _evaluation(form.model, inputs, runners, labelled, options, say)
    return Proof(agreements, evaluation, _golden(next(iter(wants)), runners, data.first()))


def _refuse_broken(
    compiled: Sequence[Compiled],
    proof: Mapping[str, Agreement],
    options: CompileOptions,
    floor: Callable[[], float],
) -> None:
    limits = Limits(options.max_float_error, options.min_sqnr_db)

    def found() -> list[Diagnostic]:
        return [
            replace(d, where=f"{c.target} {d.where}".strip())
            for c in compiled
            for d in faults(proof[c.target], quantized=c.is_lossy, limits=limits)
        ]

    problems = found()
    if problems and not any(c.is_lossy for c in compiled):
        # Some outputs are nothing but rounding, such as a map of probabilities near zero.
        limits = replace(limits, max_float_error=max(limits.max_float_error, 8 * floor()))
        problems = found()
    if problems:
        raise NumericsError("an artifact does not compute what the model computes", problems)


def _evaluation(
    model: Path | Graph,
    inputs: Sequence[Value],
    runners: Mapping[str, Runner],
    labelled: tuple[Samples, Array | None] | None,
    options: CompileOptions,
    say: Progress,
) -> Evaluation | None:
    if labelled is None:
        return None
    samples, labels = labelled
    feeds = samples.feeds(range(samples.count))
    tick = counter(say, "evaluate", samples.count)
    session = reference(model)
    found = evaluate_accuracy(session, runners, feeds, labels, options.metric, tick)
    if options.metric is not None or labels is None:
        return found
    return replace(found, warnings=channel_warnings(session, inputs, samples, labels))


_CHANNEL_SAMPLES = 256


def channel_warnings(
    session: OnnxSession, inputs: Sequence[Value], samples: Samples, labels: Array
) -> tuple[Warned, ...]:
    """Return a warning if the model likes samples better with red and blue swapped."""
    chosen = range(0, samples.count, -(-samples.count // _CHANNEL_SAMPLES))

    def classes(feed: Mapping[str, Array]) -> Array:
        (found,) = scores(session.run(feed)).values()
        return found

    rows = labels.reshape(samples.count, -1)[chosen.start : chosen.stop : chosen.step]
    from edgec.calibration import check_channels  # it takes long to load

    return check_channels(classes, inputs, samples.feeds(chosen), rows)


def _golden(
    want: Mapping[str, Array], runners: Mapping[str, Runner], feed: Mapping[str, Array]
) -> bytes:
    """Return one input with the outputs of the model and of every artifact, as an ``.npz``.

    Members are ``input/NAME`` and ``output/NAME`` for the model, and ``TARGET/input/NAME`` and
    ``TARGET/output/NAME`` for the tensors as the artifact stores them.
    """
    arrays = {f"input/{k}": v for k, v in arrays_of(feed).items()}
    arrays |= {f"output/{k}": v for k, v in arrays_of(want).items()}
    for target, runner in runners.items():
        stored = runner.encode(feed)
        arrays |= {f"{target}/input/{k}": v for k, v in arrays_of(stored).items()}
        arrays |= {f"{target}/output/{k}": v for k, v in arrays_of(runner.raw(stored)).items()}
    plain: dict[str, Any] = {k: v for k, v in arrays.items() if not v.dtype.hasobject}
    buffer = io.BytesIO()
    np.savez(buffer, **plain)
    return buffer.getvalue()
