"""What a change of a graph costs: one unit of loss for all that compresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgec.errors import DataError, UnsupportedError
from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, TensorType, Value
from edgec.ops import Softmax
from edgec.passes.walk import each_sample

__all__ = ["Divergence", "judged_values", "ratio_of"]

_LEAST_SIGNAL = 0.1


class Divergence:
    """Tells how far graphs are from a model in nats for each sample, without labels.

    Where outputs are classes it is the Kullback-Leibler divergence of what the graph predicts
    from what the model predicts, ``sum p log(p / q)``: of what a softmax reads, or of the
    output itself if it has the shape ``[N, classes]`` and there is no other. Any other
    output costs half of its squared error relative to its energy, which is the divergence of
    normal distributions with the output as mean and its energy as variance. What several
    outputs cost adds up.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample. What they are compared with is held.
    """

    def __init__(self, reference: Graph, samples: Sequence[Mapping[str, Array]]) -> None:
        self.samples = samples
        self._axes = judged_values(reference)
        known = {v.name: v for v in reference.values()}
        evaluator = Evaluator(reference, [known[n] for n in self._axes], optimize=True)
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
            for name, axis in self._axes.items()
            if axis is None
        }

    def of(self, graph: Graph) -> Array:
        """Return the nats of each sample, ``[samples]``; infinite where a graph yields NaN.

        The graph has the values that are judged under the same names.
        """
        known = {v.name: v for v in graph.values()}
        evaluator = Evaluator(graph, [known[n] for n in self._axes], optimize=True)
        return self.of_results(each_sample(evaluator, self.samples))

    def of_results(self, results: Iterable[Mapping[str, Array]]) -> Array:
        """Return the nats of results for each sample, in the order of the samples."""
        nats = [
            sum(self._nats(name, want[name], made[name]) for name in self._axes)
            for want, made in zip(self._wanted, results, strict=True)
        ]
        return np.asarray(np.nan_to_num(np.array(nats), nan=np.inf))

    def _nats(self, name: str, want: Array, got: Array) -> float:
        axis = self._axes[name]
        with np.errstate(all="ignore"):
            if axis is not None:
                p, q = _log_softmax(want, axis), _log_softmax(got, axis)
                return float((np.exp(p) * (p - q)).sum(axis).mean())
            wide = want.astype(np.float64)
            energy = max(float(np.mean(wide**2)), _LEAST_SIGNAL * self._energy[name], 1e-30)
            return float(np.mean((got.astype(np.float64) - wide) ** 2) / energy / 2)


def ratio_of(nats: float) -> float:
    """Return the signal-to-noise ratio, in decibels, of an error that costs so many nats."""
    return float(np.clip(-10 * np.log10(max(2 * nats, 1e-20)), -200.0, 200.0))


def judged_values(graph: Graph) -> dict[str, int | None]:
    """Return the values that are judged, with the axis of the classes if they have some.

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
    flat = [v for v in floats if len(v.type.shape) == 2 and v.type.shape[1] != 1]
    found: dict[str, int | None] = {}
    for value in floats:
        read = _softmax_reads(graph, value)
        if read is not None:
            found[read[0].name] = read[1]
        else:
            found[value.name] = 1 if flat == [value] and len(floats) == 1 else None
    return found


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
