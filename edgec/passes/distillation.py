"""A graph trained to predict what another does, without labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgec.differentiable.network import Network, tensor_of
from edgec.ir import Array, Graph
from edgec.passes.divergence import Judged, judged_values
from edgec.passes.trainable import Leaf, Parameters
from edgec.passes.variation import WAYS, Way, mixed, varied

__all__ = ["Course", "Distillation", "Features"]

_TEMPERATURE = 2.0
_LEAST_SIGNAL = 0.1
_THREADS = 2
_MINDED = 0.3
"""Nats by which what the original predicts may change when images differ."""

_ASKED = 64

Features = Mapping[str, Array | None]
"""Values that are compared on the way, by name, with the channels of the original that are
left; ``None`` for all."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast.

    Parameters
    ----------
    rate
        The first step, in units of each parameter; it falls to nothing along a cosine.
    features
        How much features count beside predictions. They lead: of few samples the predictions
        say little, a handful of numbers each, and what every place of a layer should yield
        says much.
    mixed
        The share of the samples of a batch that are mixed with another.
    at_once
        How many samples of a batch are computed at a time.
    memory
        How many of the last steps the parameters that are kept are the mean of: each step
        follows few samples, and their mean is nearer to what all of them ask for.
    looks
        How often the samples that judge are looked at.
    patience
        After how many looks that show nothing better it ends.
    """

    steps: int
    batch: int = 32
    at_once: int = 32
    rate: float = 0.005
    features: float = 200.0
    mixed: float = 0.5
    memory: int = 50
    looks: int = 20
    patience: int = 15
    seed: int = 0


class Distillation:
    """An original, and a graph with parameters that come nearer to it."""

    def __init__(
        self,
        reference: Graph,
        graph: Graph,
        parameters: Sequence[Parameters],
        features: Features,
    ) -> None:
        self.parameters, self.features = parameters, features
        self._judged = judged_values(reference)
        wanted = [*dict.fromkeys((*self._judged, *features))]
        given = {name for p in parameters for name in p.values()}
        self._original = Network(reference, wanted)
        self._network = Network(graph, wanted, given)
        self._energy: dict[str, float] = {}
        self._ways: Sequence[Way] = ()

    def trained(
        self,
        samples: Sequence[Mapping[str, Array]],
        judges: Sequence[Mapping[str, Array]],
        course: Course,
        progress: Callable[[int, int, float], None] = lambda done, all_, nats: None,
    ) -> tuple[float, float]:
        """Train, and leave the parameters in the best state that was seen.

        Returns
        -------
        before, after
            Nats of the samples that judge.
        """
        leaves = [leaf for p in self.parameters for leaf in p.leaves]
        adam = torch.optim.Adam(
            [{"params": [leaf.tensor], "lr": 0.0} for leaf in leaves], foreach=False
        )
        rng = np.random.default_rng(course.seed)
        order = _order(rng, len(samples), course)
        wanted = self._answers(judges, course)
        self._ways = self._allowed(samples[:_ASKED], course)
        before = best = self._nats(judges, wanted, course)
        kept, waiting = [leaf.tensor.detach().clone() for leaf in leaves], 0
        mean = [tensor.clone() for tensor in kept]
        every = max(course.steps // course.looks, 1)
        progress(0, course.steps, before)
        for step in range(course.steps):
            rate = course.rate * (1 + math.cos(math.pi * step / course.steps)) / 2
            for group, leaf in zip(adam.param_groups, leaves, strict=True):
                group["lr"] = rate * leaf.unit * min(1.0, (step + 1) / 10)
            chosen = [samples[k] for k in order[step]]
            slopes = self._gradients(leaves, chosen, rng, course)
            for leaf, slope in zip(leaves, slopes, strict=True):
                leaf.tensor.grad = slope
            adam.step()
            with torch.no_grad():
                share = 1 / min(step + 1, course.memory)
                for tensor, leaf in zip(mean, leaves, strict=True):
                    tensor.lerp_(leaf.tensor, share)
            if (step + 1) % every and step + 1 < course.steps:
                continue
            with _swapped(leaves, mean):
                now = self._nats(judges, wanted, course)
            progress(step + 1, course.steps, now)
            waiting += 1
            if now < best:
                best, waiting = now, 0
                kept = [tensor.clone() for tensor in mean]
            if waiting >= course.patience:
                break
        with torch.no_grad():
            for leaf, tensor in zip(leaves, kept, strict=True):
                leaf.tensor.copy_(tensor)
        return before, best

    def _gradients(
        self,
        leaves: Sequence[Leaf],
        samples: Sequence[Mapping[str, Array]],
        rng: np.random.Generator,
        course: Course,
    ) -> list[Tensor | None]:
        """Return the gradient of a batch for each leaf.

        The batch is cut into parts, which are computed in threads of their own and added up in
        order: who is ready first does not matter.
        """
        parts = [
            mixed(varied(part, self._ways, rng), course.mixed, rng)
            for part in _stacks(samples, min(course.at_once, -(-len(samples) // _THREADS)))
        ]
        tensors = [leaf.tensor for leaf in leaves]

        def one(feeds: dict[str, Tensor]) -> Sequence[Tensor | None]:
            with torch.no_grad():
                wanted = self._original.run_all(feeds)
            loss = self._loss(wanted, self._network.run_all(feeds, self._values()), course)
            share = len(next(iter(feeds.values()))) / len(samples)
            found: Sequence[Tensor | None] = torch.autograd.grad(
                loss * share, tensors, allow_unused=True
            )
            return found

        total: list[Tensor | None] = [None] * len(leaves)
        with ThreadPoolExecutor(_THREADS) as pool:
            for found in pool.map(one, parts):
                total = [_sum(a, b) for a, b in zip(total, found, strict=True)]
        return total

    def _values(self) -> dict[str, Tensor]:
        return {n: t for p in self.parameters for n, t in p.values().items()}

    def _loss(
        self, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], course: Course
    ) -> Tensor:
        parts = [
            _nats(wanted[name], found[name], judged, self._energy.get(name), _TEMPERATURE)
            for name, judged in self._judged.items()
        ]
        loss = torch.stack([p.mean() for p in parts]).sum()
        if not self.features or not course.features:
            return loss
        errors = []
        for name, kept in self.features.items():
            want = wanted[name]
            if kept is not None:
                want = want.index_select(2, torch.from_numpy(kept))
            error = (found[name] - want).square().mean()
            errors.append(error / want.square().mean().clamp(min=1e-20))
        return loss + course.features * torch.stack(errors).mean()

    def _answers(
        self, samples: Sequence[Mapping[str, Array]], course: Course
    ) -> list[dict[str, Tensor]]:
        """Return what the original predicts."""
        found: list[dict[str, Tensor]] = []
        with torch.no_grad():
            for part in _stacks(samples, course.at_once):
                answers = self._original.run_all(part)
                found.append({name: answers[name] for name in self._judged})
        for name, judged in self._judged.items():
            if judged.numbers:
                squares = [float(f[name].square().mean()) for f in found]
                self._energy[name] = float(np.mean(squares))
        return found

    def _allowed(
        self, samples: Sequence[Mapping[str, Array]], course: Course
    ) -> tuple[Way, ...]:
        """Return in which ways images may differ without being others to the original.

        Photographs may be mirrored, digits may not; a spectrogram may be moved in time, and
        hardly in pitch.
        """
        rng = np.random.default_rng(course.seed)
        lost = dict.fromkeys(WAYS, 0.0)
        for part in _stacks(samples, course.at_once):
            with torch.no_grad():
                want = self._original.run_all(part)
                for way in WAYS:
                    got = self._original.run_all(varied(part, [way], rng))
                    for name, judged in self._judged.items():
                        energy = self._energy.get(name)
                        nats = _nats(want[name], got[name], judged, energy, 1.0)
                        lost[way] += float(nats.double().sum())
        return tuple(way for way in WAYS if lost[way] <= _MINDED * len(samples))

    def _nats(
        self,
        samples: Sequence[Mapping[str, Array]],
        wanted: Sequence[Mapping[str, Tensor]],
        course: Course,
    ) -> float:
        """Return what the graph loses now, on average over samples."""
        with torch.no_grad():
            values = self._values()

        def one(part: dict[str, Tensor], want: Mapping[str, Tensor]) -> float:
            with torch.no_grad():  # which holds for one thread
                found = self._network.run_all(part, values)
                lost = [
                    _nats(want[name], found[name], judged, self._energy.get(name), 1.0)
                    for name, judged in self._judged.items()
                ]
            return sum(float(nats.double().sum()) for nats in lost)

        with ThreadPoolExecutor(_THREADS) as pool:
            total = sum(pool.map(one, _stacks(samples, course.at_once), wanted))
        return total / max(len(samples), 1) if math.isfinite(total) else math.inf


@contextmanager
def _swapped(leaves: Sequence[Leaf], tensors: Sequence[Tensor]) -> Iterator[None]:
    """Let leaves have other values for a while."""
    own = [leaf.tensor.detach().clone() for leaf in leaves]
    with torch.no_grad():
        for leaf, tensor in zip(leaves, tensors, strict=True):
            leaf.tensor.copy_(tensor)
    yield
    with torch.no_grad():
        for leaf, tensor in zip(leaves, own, strict=True):
            leaf.tensor.copy_(tensor)


def _nats(
    want: Tensor, got: Tensor, judged: Judged, energy: float | None, temperature: float
) -> Tensor:
    """Return what each of several stacked samples loses: see :class:`Divergence`."""
    axis = judged.axis
    error, found = got - want, want.new_zeros(len(want))
    if axis is not None:
        axis = axis if axis < 0 else axis + 1
        p, q = ((t / temperature).log_softmax(axis) for t in (want, got))
        found = ((p.exp() * (p - q)).sum(axis) * temperature**2).flatten(1).mean(1)
        error = error.mean(axis)
    if judged.numbers:
        squares = want.square().flatten(1).mean(1)
        least = max(_LEAST_SIGNAL * (energy or 0.0), 1e-30)
        found = found + error.square().flatten(1).mean(1) / squares.clamp(min=least) / 2
    return found


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _order(rng: np.random.Generator, count: int, course: Course) -> list[Array]:
    """Return which samples make each batch: every one once before any comes again."""
    size = min(course.batch, count)
    turns = -(-course.steps * size // count)
    every = np.concatenate([rng.permutation(count) for _ in range(turns)])
    return [every[k * size : (k + 1) * size] for k in range(course.steps)]


def _stacks(
    samples: Sequence[Mapping[str, Array]], at_once: int
) -> Iterator[dict[str, Tensor]]:
    """Yield samples stacked, those of one shape together, not too many at once."""
    shapes: dict[tuple[tuple[int, ...], ...], list[Mapping[str, Array]]] = {}
    for sample in samples:
        shapes.setdefault(tuple(a.shape for a in sample.values()), []).append(sample)
    for same in shapes.values():
        for k in range(0, len(same), at_once):
            part = same[k : k + at_once]
            yield {name: tensor_of(np.stack([s[name] for s in part])) for name in part[0]}
