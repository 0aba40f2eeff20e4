"""How much predictions depend on what layers yield: gradients, without labels.

Nothing here changes a graph. The module needs PyTorch, and is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgec.differentiable import deterministic
from edgec.differentiable.network import Network, tensor_of
from edgec.ir import Array, Graph, Value
from edgec.ops import Activation, Binary, Convolution, FullyConnected
from edgec.passes.divergence import Judged, judged_values

__all__ = ["mask_gradients", "output_sensitivities"]

_CHANNELS = 1
_AT_ONCE = 32
_LEAST_SIGNAL = 0.1


def mask_gradients(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    values: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Array]:
    """Return how the likelihood of what a graph predicts changes with a factor on each channel.

    For each sample a label is drawn from the graph's own prediction ``p``; the gradient is
    that of ``-log p`` of it. ``1/2 sum (sum_c g_c)^2 / samples`` over channels ``c`` is then
    about what it costs in nats to take these channels out: the diagonal is Fisher's
    information, and ``sum_c |g_c|`` and the like are the criteria named after Taylor. Outputs
    that are no classes are the means of normal distributions, as in
    :class:`~edgec.passes.divergence.Divergence`, and numbers are drawn from these.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample, all of one shape.
    values
        Names of computed values whose axis 1 has the channels.

    Returns
    -------
    gradients
        For each value ``[samples, channels]``, float64.

    References
    ----------
    Kwon et al., arXiv:2204.09656, section 3.2 (masks); Theis et al., arXiv:1801.05787.
    """
    parts: dict[str, list[Array]] = {name: [] for name in values}
    for name, slopes, results in _slopes(graph, samples, values, seed):
        products = (slopes.double() * results.double()).movedim(_CHANNELS + 1, 1)
        parts[name].append(products.flatten(2).sum(2).numpy())
    return {name: np.concatenate(found) for name, found in parts.items()}


def output_sensitivities(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    values: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Array]:
    """Return what an error of each channel of a layer's results costs, in nats.

    ``g_r = mean (dL / dy_r)^2`` over samples and places, with ``L`` as in
    :func:`mask_gradients` and ``y`` what the layer yields before its activation. An error
    ``e`` of the results costs about ``1/2 sum_r g_r sum_places e_r^2`` a sample.

    Returns
    -------
    sensitivities
        For each value ``[channels]``, float64.
    """
    makers = {v.name: node for v, node in graph.producers.items()}
    totals: dict[str, Array] = {}
    counts: dict[str, int] = dict.fromkeys(values, 0)
    for name, slopes, results in _slopes(graph, samples, values, seed):
        op = makers[name].op
        if isinstance(op, Binary | Convolution | FullyConnected):
            low, high = op.activation.bounds
            if op.activation is not Activation.NONE:
                slopes = slopes * ((results > low) & (results < high))
        squares = slopes.double().square().movedim(_CHANNELS + 1, 1).flatten(2)
        totals[name] = totals.get(name, 0.0) + squares.sum((0, 2)).numpy()
        counts[name] += squares.shape[0] * squares.shape[2]
    return {name: np.asarray(totals[name] / max(counts[name], 1)) for name in values}


class _Slopes(NamedTuple):
    """The gradient of some samples' loss along a value, and the value, ``[samples, 1, C…]``."""

    name: str
    slopes: Tensor
    results: Tensor


def _slopes(
    graph: Graph, samples: Sequence[Mapping[str, Array]], values: Sequence[str], seed: int
) -> Iterator[_Slopes]:
    judged = judged_values(graph)
    network = Network(graph, [*dict.fromkeys((*judged, *values))])
    known = {v.name: v for v in graph.values()}
    draw = np.random.default_rng(seed)
    with deterministic():
        numbers = [name for name, each in judged.items() if each.numbers]
        least = {name: _least_energy(graph, name, samples) for name in numbers}
        for feeds in _stacked(samples):
            count = len(next(iter(feeds.values())))
            shifts = {name: _zeros(known[name], count) for name in values}
            found = network.run_all(feeds, shifts=shifts)
            parts = [
                _surprise(found[n], each, draw, least.get(n, 0.0)) for n, each in judged.items()
            ]
            slopes = torch.autograd.grad(
                torch.stack(parts).sum(), list(shifts.values()), allow_unused=True
            )
            for name, slope in zip(values, slopes, strict=True):
                own = torch.zeros_like(shifts[name]) if slope is None else slope
                yield _Slopes(name, own.detach(), found[name].detach())


def _zeros(value: Value, count: int) -> Tensor:
    shape = value.type.bound().ints
    return torch.zeros((count, *shape), dtype=torch.float32, requires_grad=True)


def _stacked(samples: Sequence[Mapping[str, Array]]) -> Iterator[dict[str, Tensor]]:
    for k in range(0, len(samples), _AT_ONCE):
        some = samples[k : k + _AT_ONCE]
        yield {name: tensor_of(np.stack([s[name] for s in some])) for name in some[0]}


def _least_energy(graph: Graph, name: str, samples: Sequence[Mapping[str, Array]]) -> float:
    """Return below which energy a sample's output is no measure any more."""
    network, found = Network(graph, [name]), 0.0
    with torch.no_grad():
        for feeds in _stacked(samples):
            y = network.run_all(feeds)[name]
            found += float(y.double().square().flatten(1).mean(1).sum())
    return max(_LEAST_SIGNAL * found / max(len(samples), 1), 1e-30)


def _surprise(y: Tensor, judged: Judged, draw: np.random.Generator, least: float) -> Tensor:
    """Return ``-log p`` of labels drawn from predictions, up to what has no gradient.

    Of several places in a sample each has a label; as the divergence is their mean, each
    counts with the root of its share.

    Parameters
    ----------
    least
        The least energy of an output, which is its variance.
    """
    axis, drawn = judged.axis, y.new_zeros(())
    energy = y.detach().double().square().flatten(1).mean(1).clamp(min=least)
    if axis is not None:
        y = y.movedim(axis if axis < 0 else axis + 1, -1)
        drawn = _label_surprise(y.log_softmax(-1), draw)
        y = y.mean(-1)
    if not judged.numbers:
        return drawn
    deviation = (energy * y[0].numel()).sqrt().reshape(-1, *(1,) * (y.ndim - 1))
    noise = torch.from_numpy(draw.standard_normal(tuple(y.shape)))
    return drawn + (noise * y.double() / deviation).sum()


def _label_surprise(logits: Tensor, draw: np.random.Generator) -> Tensor:
    limits = logits.detach().double().exp().cumsum(-1)
    drawn = torch.from_numpy(draw.random((*limits.shape[:-1], 1)))
    labels = (limits < drawn * limits[..., -1:]).sum(-1, keepdim=True)
    labels = labels.clamp(max=limits.shape[-1] - 1)
    places = max(labels[0].numel(), 1)
    return -torch.gather(logits, -1, labels).sum() / places**0.5
