"""How much an artifact loses: of accuracy, of the user's metric, or of agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property

from edgec.data import Samples
from edgec.errors import OptionError
from edgec.ir import Array
from edgec.numerics import Agreement
from edgec.options import CompileOptions
from edgec.original import reference
from edgec.proof import Recorded, evaluate_accuracy, prove
from edgec.split import Split
from edgec.targets import Runner
from edgec.verdict import Original

__all__ = ["Drop"]


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
        """How many samples it is measured on."""
        return self._data.proof_count if self._labelled is None else self._labelled[0].count

    def text(self, lost: float) -> str:
        """Return a loss as users read it."""
        if not math.isfinite(lost):
            return "everything: it does not run"
        size = abs(lost)
        number = f"{size:.2f} points" if self.in_points else f"{size:.4g}"
        text = f"{number} of {self.measure}"
        return text if lost >= 0 else f"nothing (it gains {text})"

    def of(self, runner: Runner) -> float:
        """Return what an artifact loses, in points or in units of the metric."""
        if self._labelled is None:
            agreement = prove(self._original.wants, {"": runner}, self._data.proof())[""]
            return 100 * (1 - (agreement.top1 or 0.0))
        samples, labels = self._labelled
        feeds = samples.feeds(range(samples.count))
        replayed = _Replayed(self._wants)
        found = evaluate_accuracy(replayed, {"it": runner}, feeds, labels, self._metric)
        return (found.reference - found.artifacts["it"]) * (100 if self.in_points else 1)

    @cached_property
    def _wants(self) -> Recorded:
        """What the float model computes for the labelled samples: run once."""
        assert self._labelled is not None
        samples, _ = self._labelled
        session = reference(self._original.form.model)
        return Recorded(session, samples.feeds(range(samples.count)))


class _Replayed:
    """A model whose outputs are known, for the same samples in the same order."""

    def __init__(self, wants: Recorded) -> None:
        self._left: Iterator[dict[str, Array]] = iter(wants)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for the next sample."""
        del feeds
        return next(self._left)
