"""How much an artifact loses: of accuracy, of the user's metric, or of agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgec.data import Samples
from edgec.errors import OptionError
from edgec.ir import Array
from edgec.numerics import Agreement
from edgec.options import CompileOptions
from edgec.original import reference
from edgec.proof import Limits, Recorded, evaluate_accuracy, faults, prove, scores
from edgec.split import Split
from edgec.targets import Runner
from edgec.verdict import Original

__all__ = ["Drop", "Loss"]

_ONE_SIDED_95 = 1.645
"""Standard errors."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What an artifact loses.

    Parameters
    ----------
    value
        In points, or in units of the user's metric; below 0 if it gains.
    at_most
        What it loses at most with 95 % certainty, as the samples are paired: each is one that
        the float model gets right or does not. Where none differs, that is what would have
        shown in 95 of 100 draws of so many samples. ``None`` for a metric of the user's.
    """

    value: float
    at_most: float | None = None

    @classmethod
    def of(cls, lost: Array) -> Loss:
        """Return that of samples: 1 where one is lost, -1 where one is gained, else 0."""
        mean, count = float(lost.mean()), len(lost)
        error = float(lost.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
        unseen = 1 - 0.05 ** (1 / count)  # of a loss that often, no sample may show anything
        most = min(max(mean + _ONE_SIDED_95 * error, unseen), 1.0)
        return cls(100 * mean, 100 * most)


class Drop:
    """Measures artifacts on the labelled samples if there are some, else on those held out.

    Parameters
    ----------
    labelled
        Samples and labels to score; without, classes are compared with the float model's.

    Raises
    ------
    OptionError
        If the model has no classes to compare, and nothing says how to score it.
    """

    def __init__(
        self,
        original: Original,
        data: Split,
        labelled: tuple[Samples, Array | None] | None,
        options: CompileOptions,
    ) -> None:
        self._original, self._data, self._labelled = original, data, labelled
        self._metric = options.metric
        self._limits = Limits(options.max_float_error, options.min_sqnr_db)
        self._rows = 0
        if labelled is None:
            first = Agreement()
            want = next(iter(original.wants))
            first.add(want, want)
            if first.top1 is None or data.calibration_count == 0:
                raise OptionError(
                    "--max-drop needs something to judge by: give --eval with labels or "
                    "--metric, or calibration samples for a model with an output [N, classes]"
                )

    @property
    def measure(self) -> str:
        """What is lost: "accuracy", "agreement" or the name of the user's metric."""
        return "agreement" if self._labelled is None else self._metric or "accuracy"

    @property
    def in_points(self) -> bool:
        """Whether it is told in hundredths; a user's metric has units of its own."""
        return self.measure in ("agreement", "accuracy")

    @property
    def samples(self) -> int:
        """How many samples it was measured on: rows, where a batch has several."""
        return self._rows or (0 if self._labelled is None else self._labelled[0].count)

    def text(self, lost: Loss) -> str:
        """Return a loss as users read it."""
        if not math.isfinite(lost.value):
            return "everything: it does not compute what the model does"
        size = abs(lost.value)
        number = f"{size:.2f} points" if self.in_points else f"{size:.4g}"
        text = f"{number} of {self.measure}"
        text = text if lost.value >= 0 else f"nothing (it gains {text})"
        sure = "" if lost.at_most is None else f" (95 % sure: at most {lost.at_most:.2f})"
        return f"{text}{sure}"

    def of(self, runner: Runner) -> Loss:
        """Return what an artifact loses: everything if the proof would refuse it."""
        proof = prove(self._original.wants, {"": runner}, self._data.proof())[""]
        if faults(proof, quantized=True, limits=self._limits):
            return Loss(math.inf)
        if self._labelled is None:
            agreed = round((proof.top1 or 0.0) * proof.rows)
            return self._of((np.arange(proof.rows) >= agreed).astype(np.float64))
        samples, labels = self._labelled
        feeds = samples.feeds(range(samples.count))
        if self._metric is not None:
            replayed = _Replayed(self._wants)
            found = evaluate_accuracy(replayed, {"it": runner}, feeds, labels, self._metric)
            return Loss(found.reference - found.artifacts["it"])
        wants = self._wants
        assert labels is not None
        classes = [
            [_best(want), _best(runner.run(feed))]
            for want, feed in zip(wants, feeds, strict=True)
        ]
        right = np.concatenate(classes, axis=1) == labels.reshape(-1)
        return self._of(right[0].astype(np.float64) - right[1])

    def _of(self, lost: Array) -> Loss:
        self._rows = len(lost)
        return Loss.of(lost)

    @cached_property
    def _wants(self) -> Recorded:
        """What the float model computes for the labelled samples: run once."""
        assert self._labelled is not None
        samples, labels = self._labelled
        session = reference(self._original.form.model)
        found = Recorded(session, samples.feeds(range(samples.count)))
        # Labels that are none of the classes, or too few, should show before all the tries.
        feeds = samples.feeds(range(samples.count))
        evaluate_accuracy(_Replayed(found), {}, feeds, labels, self._metric)
        return found


def _best(outputs: Mapping[str, Array]) -> Array:
    """Return the class of each row of the output that has classes."""
    (found,) = scores(outputs).values()
    return np.asarray(found.argmax(axis=1))


class _Replayed:
    """A model whose outputs are known, for the same samples in the same order."""

    def __init__(self, wants: Recorded) -> None:
        self._left: Iterator[dict[str, Array]] = iter(wants)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for the next sample."""
        del feeds
        return next(self._left)
