"""All parameters of a compressed graph, trained to predict what its original does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from typing_extensions import override

from edgec.differentiable import require_torch
from edgec.ir import Array, Graph
from edgec.ops import Binary, Convolution, FullyConnected
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.divergence import Divergence, ratio_of
from edgec.passes.judging import LEAST_SAMPLES, held_out

if TYPE_CHECKING:
    from edgec.passes.trainable import Trained

__all__ = ["Recover"]

_STEPS = 1000
_BATCH = 32
_CHANNELS = 1
_ROOM, _COPIES = 1 << 30, 3
"""Bytes for one part of a batch; results are held with their gradients and the original's."""

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Recover(Pass):
    """Train a compressed graph to predict what its original does, without labels.

    The loss of a batch is

        ``T^2 KL(softmax(t / T) || softmax(s / T)) + a * mean_f |s_f - t_f|^2 / |t_f|^2``

    with ``t`` what the original computes, ``s`` what the graph does, ``T`` = 2, ``a`` = 200,
    and ``f`` all layers whose results both have: on the channels that are left. The layers
    lead: few samples say little by their predictions, and much by what every place of a layer
    yields. Outputs that are no classes count with half of their squared error relative to
    their energy, as in :class:`~edgec.passes.divergence.Divergence`.

    Images are moved along each of their sides, and mirrored, as far as the original hardly
    minds: where that changes what it predicts of the samples by at most 0.3 nats. Then half of
    all samples are mixed with another, unless an input has integers.

    Every fourth sample is held out. What is kept is the best state seen on them, each the mean
    of the last fifty steps, and only if the graph then loses less on them than before, beyond
    chance; otherwise the graph is returned as it was.

    Weights and biases of layers, factors and shifts of normalisations, and constants that are
    added or multiplied change; zeros of weights stay zero, so that sparse weights stay sparse.
    Where weights are stored as integers, their scales and biases change, and the integers too
    if `train` says so, by steps that go straight through the rounding; what comes out is
    stored on the same kind of grid.

    The steps are those of Adam, in proportion to the magnitude of each constant. The same
    input gives the same bytes on one machine with one release of PyTorch: the seed and the
    number of threads are fixed, and no step depends on time. Another processor may sum in
    another order.

    Lossy: the graph computes something else, nearer to the original.

    Parameters
    ----------
    reference
        The original graph; values have the same names.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    kept
        Channels of the original that are left, by the name of a value; all where it is not
        named.
    steps
        How many batches.
    train
        See :data:`edgec.passes.trainable.Trained`.
    progress
        Called with the steps done, all steps, and the nats lost on held-out samples.

    References
    ----------
    Hinton et al., arXiv:1503.02531 (distillation). Kingma and Ba, arXiv:1412.6980 (Adam).
    Zhang et al., arXiv:1710.09412 (mixing). Bengio et al., arXiv:1308.3432 (straight through).
    """

    name: ClassVar[str] = "recover"
    promise: ClassVar[Promise] = Lossy()
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    kept: Mapping[str, Array] = field(
        default_factory=lambda: MappingProxyType({}), hash=False, repr=False
    )
    steps: int = _STEPS
    train: Trained = "weights"
    seed: int = 0
    progress: Progress | None = field(default=None, hash=False, repr=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        if len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        require_torch()
        from edgec.differentiable import deterministic
        from edgec.passes.distillation import Course, Distillation
        from edgec.passes.trainable import parameters_of, with_changes

        held = held_out(len(self.samples))
        fit = [s for s, out in zip(self.samples, held, strict=True) if not out]
        judges = [s for s, out in zip(self.samples, held, strict=True) if out]
        features = _features(self.reference, graph, self.kept)
        parameters = parameters_of(graph, self.train)
        if not parameters:
            return graph, ()
        course = Course(self.steps, _BATCH, at_once=_at_once(graph), seed=self.seed)
        with deterministic():
            distillation = Distillation(self.reference, graph, parameters, features)
            distillation.trained(fit, judges, course, self.progress or _silent)
        made = with_changes(graph, parameters)
        judge = Divergence(self.reference, judges)
        before, after = judge.of(graph), judge.of(made)
        better = _surely_less(after, before)
        nats = float(before.mean()), float((after if better else before).mean())
        ratios = ratio_of(nats[0]), ratio_of(nats[1])
        kept = "recovered" if better else "plain"
        record = LayerRecord(graph.name, *ratios, kept, nats)
        return (made if better else graph), (record,)


def _silent(done: int, steps: int, nats: float) -> None:
    """Tell nobody."""


def _surely_less(now: Array, before: Array) -> bool:
    """Whether the samples lose less than before, by at least one standard error."""
    gains = before - now
    if not np.isfinite(now).all():
        return False
    if not np.isfinite(before).all():
        return True
    chance = float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return float(gains.mean()) > max(chance, 0.0)


def _features(
    reference: Graph, graph: Graph, kept: Mapping[str, Array]
) -> dict[str, Array | None]:
    """Return results of layers that both graphs have."""
    known = {v.name: v.type for v in graph.values()}
    found: dict[str, Array | None] = {}
    for node in reference.nodes:
        if not isinstance(node.op, Binary | Convolution | FullyConnected):
            continue
        value, channels = node.output, kept.get(node.output.name)
        here, dims = known.get(value.name), list(value.type.dims or ())
        if here is None or len(dims) <= _CHANNELS:
            continue
        if channels is not None:
            dims[_CHANNELS] = len(channels)
        if here.dims == tuple(dims) and here.dtype is value.type.dtype:
            found[value.name] = channels
    return found


def _at_once(graph: Graph) -> int:
    """Return how many samples fit into memory with all that their gradients need."""
    values = (v.type.bound() for node in graph.nodes for v in node.outputs)
    each = sum(t.size_bytes for t in values if t.is_static)
    return max(1, min(_BATCH, _ROOM // max(_COPIES * each, 1)))
