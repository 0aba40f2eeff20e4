"""What a change of a graph costs: one unit of loss for all that compresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgec.errors import DataError, UnsupportedError
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, TensorType, Value
from edgec.ops import Clip, HardSigmoid, LpNorm, Sigmoid, Softmax, Softsign, Tanh
from edgec.passes.walk import each_sample

__all__ = ["Divergence", "Judged", "judged_values", "ratio_of"]

_LEAST_SIGNAL = 0.1
_BOUNDED = (Clip, HardSigmoid, LpNorm, Sigmoid, Softsign, Tanh)
"""What these yield no softmax is to read."""


class Divergence:
    """Tells how far graphs are from a model in nats for each sample, without labels.

    Where outputs are classes it is the Kullback-Leibler divergence of what the graph predicts
    from what the model predicts, ``sum p log(p / q)``. Any other output costs half of its
    squared error relative to its energy, which is the divergence of normal distributions with
    the output as mean and its energy as variance. What several outputs cost adds up.

    Classes are what a softmax reads. Models that leave it out yield logits, and nothing tells
    these from numbers for sure. So an output of the shape ``[N, k]`` is taken for logits if
    there is no other, unless it has the shape of an input, as that of an autoencoder, or comes
    from a function that bounds it, such as a sigmoid. As it may be numbers even so, what no
    softmax sees counts as well: an error that all `k` of them have in common costs half of its
    square relative to the energy of the output. Where classes are meant that is little, as
    errors of many logits hardly have anything in common.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample. What they are compared with is held.
    """

    def __init__(self, reference: Graph, samples: Sequence[Mapping[str, Array]]) -> None:
        self.samples = samples
        self._judged = judged_values(reference)
        known = {v.name: v for v in reference.values()}
        evaluator = Evaluator(reference, [known[n] for n in self._judged], optimize=True)
        self._wanted = list(each_sample(evaluator, samples))
        for k, wanted in enumerate(self._wanted):
            for name, array in wanted.items():
                if not np.isfinite(array).all():
                    raise DataError(
                        f"the model yields NaN or infinities for calibration sample {k}: "
                        f"what a change of %{name} costs cannot be told"
                    )
        self._energy = {
            name: float(np.mean([np.mean(w[name].astype(float) ** 2) for w in self._wanted]))
            for name, judged in self._judged.items()
            if judged.numbers
        }

    def of(self, graph: Graph) -> Array:
        """Return the nats of each sample, ``[samples]``; infinite where a graph yields NaN.

        The graph has the values that are judged under the same names.
        """
        known = {v.name: v for v in graph.values()}
        evaluator = Evaluator(graph, [known[n] for n in self._judged], optimize=True)
        return self.of_results(each_sample(evaluator, self.samples))

    def of_results(self, results: Iterable[Mapping[str, Array]]) -> Array:
        """Return the nats of results for each sample, in the order of the samples."""
        nats = [
            sum(self._nats(name, want[name], made[name]) for name in self._judged)
            for want, made in zip(self._wanted, results, strict=True)
        ]
        return np.asarray(np.nan_to_num(np.array(nats), nan=np.inf))

    def _nats(self, name: str, want: Array, got: Array) -> float:
        axis, numbers = self._judged[name]
        found = 0.0
        with np.errstate(all="ignore"):
            if axis is not None:
                p, q = _log_softmax(want, axis), _log_softmax(got, axis)
                found = float((np.exp(p) * (p - q)).sum(axis).mean())
            if numbers:
                wide = want.astype(np.float64)
                error = got.astype(np.float64) - wide
                if axis is not None:
                    error = error.mean(axis)
                least = max(_LEAST_SIGNAL * self._energy[name], 1e-30)
                energy = max(float(np.mean(wide**2)), least)
                found += float(np.mean(error**2) / energy / 2)
        return found


def ratio_of(nats: float) -> float:
    """Return the signal-to-noise ratio, in decibels, of an error that costs so many nats."""
    return float(np.clip(-10 * np.log10(max(2 * nats, 1e-20)), -200.0, 200.0))


class Judged(NamedTuple):
    """As what a value is judged.

    Parameters
    ----------
    axis
        Of the classes; ``None`` if there are none.
    numbers
        Whether its size counts: of classes the part that they have in common.
    """

    axis: int | None
    numbers: bool


def judged_values(graph: Graph) -> dict[str, Judged]:
    """Return the values that are judged, and as what: see :class:`Divergence`.

    What an output of integers was chosen from stands for it.

    Raises
    ------
    UnsupportedError
        If no floats lead to an output.
    """
    behind = [_floats_behind(graph, value) for value in graph.outputs]
    floats = list(dict.fromkeys(v for v in behind if v is not None))
    if not floats:
        raise UnsupportedError(
            "what a change of this model costs cannot be told: no output comes from floats"
        )
    found: dict[str, Judged] = {}
    for value in floats:
        read = _softmax_reads(graph, value)
        if read is not None:
            found[read[0].name] = Judged(read[1], numbers=False)
        else:
            logits = len(floats) == 1 and _may_be_logits(graph, value)
            found[value.name] = Judged(1 if logits else None, numbers=True)
    return found


def _may_be_logits(graph: Graph, value: Value) -> bool:
    shape = value.type.shape
    if len(shape) != 2 or shape[1] == 1 or any(v.type.shape == shape for v in graph.inputs):
        return False
    made = graph.producers.get(value)
    return made is None or not isinstance(made.op, _BOUNDED)


def _floats_behind(graph: Graph, value: Value) -> Value | None:
    """Return an output of floats, or the computed floats that one of integers comes from."""
    todo = [value]
    while todo:
        first = todo.pop(0)
        if isinstance(first.type, TensorType) and first.type.dtype.is_float:
            return first
        made = graph.producers.get(first)
        todo += [] if made is None else [v for v in made.inputs if v in graph.producers]
    return None


def _softmax_reads(graph: Graph, value: Value) -> tuple[Value, int] | None:
    made = graph.producers.get(value)
    if made is None or not isinstance(made.op, Softmax):
        return None
    return made.inputs[0], made.op.axis


def _log_softmax(x: Array, axis: int) -> Array:
    wide = x.astype(np.float64)
    moved = wide - wide.max(axis, keepdims=True)
    return np.asarray(moved - np.log(np.exp(moved).sum(axis, keepdims=True)))
