"""Whether a graph is nearer to its float model than another: on samples, and beyond chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgec.errors import Diagnostic
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, Value
from edgec.numerics import sqnr
from edgec.ops import Softmax
from edgec.passes.base import LayerRecord
from edgec.passes.walk import each_sample

__all__ = [
    "LEAST_SAMPLES",
    "Judge",
    "fitting",
    "held_out",
    "judged",
    "judging",
    "surely_nearer",
    "too_few",
]

LEAST_SAMPLES = 8
"""With fewer an error cannot be told from chance, nor some be held out."""

_HELD_OUT = 4
_STANDARD_ERRORS = 1.0
_NO_ERROR = 1e-12
_LEAST_SIGNAL = 0.1


def too_few(count: int, so: str) -> tuple[Diagnostic, ...]:
    """Return that so many samples are too few, and what follows, if they are."""
    if count >= LEAST_SAMPLES:
        return ()
    samples = "sample is" if count == 1 else "samples are"
    hint = f"it takes {LEAST_SAMPLES}, beside those held out of calibration for the proof"
    return (Diagnostic(f"{count} {samples} too few to fit to: {so}", hint=hint),)


def held_out(count: int) -> Array:
    """Return which of several samples judge what was fitted to the others: every fourth."""
    found = np.zeros(count, bool)
    found[_HELD_OUT - 1 :: _HELD_OUT] = True
    return found


def fitting(samples: Sequence[Mapping[str, Array]]) -> list[Mapping[str, Array]]:
    """Return the samples to fit to: all of them if none can be held out."""
    held = held_out(len(samples)) & (len(samples) >= LEAST_SAMPLES)
    return [s for s, out in zip(samples, held, strict=True) if not out]


def judging(samples: Sequence[Mapping[str, Array]]) -> list[Mapping[str, Array]]:
    """Return the samples that judge: all of them if none can be held out."""
    held = held_out(len(samples)) | (len(samples) < LEAST_SAMPLES)
    return [s for s, out in zip(samples, held, strict=True) if out]


class Judge:
    """Tells how far graphs are from a float model, whose results it holds.

    Each output and each sample counts alike, whatever its magnitude; but one that is next to
    nothing beside the others is no measure, and stands for a tenth of their mean. A softmax is
    judged by what it reads, as it flattens all but the largest numbers; what they have in
    common does not count, as it does not change the result.

    Parameters
    ----------
    probabilities
        Whether what a softmax yields counts as well: an integer one has errors of its own.
    """

    def __init__(
        self,
        reference: Graph,
        samples: Sequence[Mapping[str, Array]],
        *,
        probabilities: bool = False,
    ) -> None:
        self.samples = samples
        self._axes: dict[str, int | None] = {}
        values: list[Value] = []
        for value in reference.outputs:
            made = reference.producers.get(value)
            softmax = made.op if made is not None and isinstance(made.op, Softmax) else None
            judged: dict[Value, int | None] = {}
            if made is not None and softmax is not None:
                judged[made.inputs[0]] = softmax.axis
            if value.type.dtype.is_float and (softmax is None or probabilities):
                judged[value] = None
            values += [v for v in judged if v.name not in self._axes]
            self._axes |= {v.name: axis for v, axis in judged.items()}
        evaluator = Evaluator(reference, values, optimize=True)
        self._wanted = list(each_sample(evaluator, samples))
        signals = [
            [_energy(w[n], axis) for n, axis in self._axes.items()] for w in self._wanted
        ]
        every = np.array(signals).reshape(len(samples), -1)
        self._signals = np.maximum(every, np.maximum(_LEAST_SIGNAL * every.mean(axis=0), 1e-30))

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the values that are judged."""
        return tuple(self._axes)

    def errors(self, graph: Graph) -> Array:
        """Return the squared errors relative to what is right, ``[samples, outputs]``."""
        found = {v.name: v for v in graph.values()}
        evaluator = Evaluator(graph, [found[name] for name in self._axes], optimize=True)
        return self.errors_of(each_sample(evaluator, self.samples))

    def errors_of(self, results: Iterable[Mapping[str, Array]]) -> Array:
        """Return the errors of results for each sample; what is not there has none."""
        rows = [
            [
                _energy(want[name], axis, made[name]) if name in made else 0.0
                for name, axis in self._axes.items()
            ]
            for made, want in zip(results, self._wanted, strict=True)
        ]
        return np.asarray(np.array(rows).reshape(len(self.samples), -1) / self._signals)

    def ratio(self, errors: Array) -> float:
        """Return the signal-to-noise ratio of errors: that of each output, on average."""
        means = errors.mean(axis=0)
        return float(np.mean([sqnr(1.0, float(m)) for m in means])) if means.size else 0.0


def _energy(want: Array, axis: int | None, got: Array | None = None) -> float:
    """Return the squares of what is right, or of the error of something else, summed."""
    found = want.astype(np.float64)
    if got is not None:
        found -= got
    if axis is not None:
        found -= found.mean(axis, keepdims=True)
    return float((found**2).sum())


def surely_nearer(now: Array, before: Array) -> bool:
    """Return whether errors ``[samples, outputs]`` are less than others, beyond chance.

    Less in decibels, averaged over the outputs, of all samples together; and on average over
    the samples by at least one standard error. The first sees the samples with the largest
    errors, whose weight the second does not trust: few samples with large errors would decide
    by chance. No output may be as surely worse.
    """
    if not before.size:
        return False
    with np.errstate(all="ignore"):  # what is no number is not nearer
        gains = np.log(np.maximum(before, _NO_ERROR) / np.maximum(now, _NO_ERROR))
        pooled = np.log(_pooled(before) / _pooled(now)).mean()
        every = _sureness(gains.mean(axis=1))
        worst = min(_sureness(column) for column in gains.T)
    return bool(pooled > 0 and every >= _STANDARD_ERRORS and worst > -_STANDARD_ERRORS)


def _pooled(errors: Array) -> Array:
    return np.asarray(np.maximum(errors.mean(axis=0), _NO_ERROR))


def _sureness(gains: Array) -> float:
    """Return the mean of gains in standard errors."""
    mean = float(gains.mean())
    chance = float(gains.std(ddof=1)) / np.sqrt(len(gains))
    return mean / max(chance, 1e-9) if mean else 0.0


def judged(
    reference: Graph,
    graph: Graph,
    made: Graph,
    samples: Sequence[Mapping[str, Array]],
    records: Iterable[LayerRecord],
) -> tuple[Graph, tuple[LayerRecord, ...]]:
    """Return what was made of a graph if its outputs are surely nearer to the reference.

    They have to be nearer on the samples held out, which may be too few to be sure, and surely
    so on all. Else the graph is as it was, with what is on record then.
    """
    judge = Judge(reference, samples)
    before, now = judge.errors(graph), judge.errors(made)
    held = held_out(len(samples))
    apart = judge.ratio(now[held]) > judge.ratio(before[held])
    if apart and surely_nearer(now, before):
        return made, tuple(records)
    return graph, tuple(replace(r, after_db=r.before_db, kept="plain") for r in records)
