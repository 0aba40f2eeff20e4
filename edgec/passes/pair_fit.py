"""Two layers of which one reads the other, fitted together to what comes out behind both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from edgec.ir import Array, Graph, Node
from edgec.ops import Conv, FullyConnected
from edgec.passes.base import LayerRecord

__all__ = ["Pair", "Together", "Weights", "pairs_of", "weights_of"]

Weights = tuple[Array, Array]
"""Of a layer: weights as they are stored, and biases."""

_AT_ONCE, _PLACES = 8, 8192
"""Samples in a step, and places of both layers at which these are looked at, at most."""
_RATE, _MEAN, _SQUARE = 0.05, 0.9, 0.999
"""Of the root mean square of a layer's weights, by which a step changes each at first; and how
much of the means of gradients and of their squares the next step keeps."""
_LEAST_GAIN, _NO_ERROR = 1e-3, 1e-12
_BLOCK = 4
"""Samples that are held together: every fourth of all judges."""
_MOST_BYTES = 1 << 28
"""Of what two layers read and yield on samples, and of the columns of a step."""
_MOST_MACS, _LEAST_STEPS, _LEAST_JUDGES = 1e11, 50, 4
"""Multiply-accumulates of all steps, which so are fewer in large layers; where too few are left
layers are not fitted together, nor where samples are so large that few judge."""


def pairs_of(graph: Graph, kept: Mapping[str, Array]) -> dict[str, Node]:
    """Return layers that alone read what is left of another's channels, and which that is.

    Parameters
    ----------
    kept
        Channels that are left, by the name of a layer's result.

    Returns
    -------
    pairs
        By the name of the second's result, the first.
    """
    found: dict[str, Node] = {}
    for node in graph.nodes:
        users = graph.users.get(node.outputs[0], ())
        if node.outputs[0].name not in kept or node.outputs[0] in graph.outputs:
            continue
        if len(users) == 1 and all(
            isinstance(n.op, Conv | FullyConnected) for n in (node, *users)
        ):
            (user,) = users
            if user.inputs[0] == node.outputs[0] and len(node.inputs) == len(user.inputs) == 3:
                found[user.output.name] = node
    return found


@dataclass(frozen=True, slots=True)
class _Products:
    """A layer as a product of its weights with columns."""

    op: Conv | FullyConnected
    outputs: int
    kernel: tuple[int, ...]

    def columns(self, x: Array) -> Array:
        """Return what each result is a sum over, ``[N, C * k, places]``, of ``[N, C, ...]``."""
        if isinstance(self.op, FullyConnected):
            return x.reshape(len(x), -1, 1)
        padded = np.pad(x, self._pads) if any(self.op.pad) else x
        size = self._size(padded.shape)
        found = np.empty((*x.shape[:2], *self.kernel, *size), x.dtype)
        for tap, there in self._taps(size):
            found[tap] = padded[there]
        return found.reshape(len(x), -1, math.prod(size))

    def spread(self, columns: Array, shape: tuple[int, ...]) -> Array:
        """Return what an input of a shape gets if each place gives back its columns."""
        if isinstance(self.op, FullyConnected):
            return columns.reshape(shape)
        padded = tuple(n + a + b for n, (a, b) in zip(shape, self._pads, strict=True))
        size = self._size(padded)
        apart = columns.reshape(*shape[:2], *self.kernel, *size)
        found = np.zeros(padded, columns.dtype)
        for tap, there in self._taps(size):
            found[there] += apart[tap]
        return found[
            tuple(slice(a, a + n) for n, (a, _) in zip(shape, self._pads, strict=True))
        ]

    def shaped(self, found: Array, x: Array) -> Array:
        """Return results ``[N, O, places]`` for an input ``x`` in the layer's own shape."""
        if isinstance(self.op, FullyConnected):
            return found[..., 0]
        padded = tuple(n + a + b for n, (a, b) in zip(x.shape, self._pads, strict=True))
        return found.reshape(*found.shape[:2], *self._size(padded))

    @property
    def _pads(self) -> list[tuple[int, int]]:
        assert isinstance(self.op, Conv)
        axes = len(self.op.stride)
        return [(0, 0), (0, 0), *zip(self.op.pad[:axes], self.op.pad[axes:], strict=True)]

    def _size(self, padded: tuple[int, ...]) -> tuple[int, ...]:
        assert isinstance(self.op, Conv)
        parts = zip(padded[2:], self.kernel, self.op.stride, self.op.dilation, strict=True)
        return tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in parts)

    def _taps(self, size: tuple[int, ...]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """Yield each place of the kernel in columns, and what of an input goes there."""
        assert isinstance(self.op, Conv)
        for tap in product(*map(range, self.kernel)):
            parts = zip(tap, size, self.op.stride, self.op.dilation, strict=True)
            there = (slice(t * d, t * d + (n - 1) * s + 1, s) for t, n, s, d in parts)
            every = slice(None), slice(None)
            yield (*every, *tap), (*every, *there)


@dataclass(frozen=True, slots=True)
class Together:
    """Weights of two layers, and by which factor their squared error is less where judged."""

    first: Weights
    second: Weights
    gained: float

    def told(self, alone: LayerRecord, first: str) -> LayerRecord:
        """Return the record of the second, given that of a fit of it alone."""
        after = alone.after_db + 10 * math.log10(self.gained)
        return replace(alone, after_db=after, kept=f"fitted with {first}")


@dataclass(slots=True)
class Pair:
    """What two layers read and what should come out behind both, on samples.

    When channels between two layers are gone, no weights of the second make up for all that
    they told it; the first can yield other channels instead. What is made small is the mean
    squared error behind the activation of the second, or of the sum it goes into, by steps on
    a few samples each: Adam, with a rate that falls to nothing along a cosine.

    Parameters
    ----------
    bounds
        Of the last activation.

    References
    ----------
    Kingma and Ba, arXiv:1412.6980 (Adam); Li et al., arXiv:2102.05426, section 3.2 (several
    layers reconstructed together).
    """

    bounds: tuple[float, float]
    _parts: list[tuple[Array, Array, Array | None, bool]] = field(default_factory=list)
    _seen: int = 0

    def add(self, x: Array, want: Array, added: Array | None, *, held: bool, of: int) -> None:
        """Take a sample, or leave it: of large ones some are held, one of every few fours.

        Parameters
        ----------
        x
            What the first reads, ``[N, C, ...]``.
        want
            What should come out before the last activation, ``[N, O, ...]``.
        added
            What is added to what the second yields before that, if there is such a sum.
        held
            Whether the sample judges.
        of
            How many samples there are.
        """
        size = of * (x.nbytes + want.nbytes * (1 if added is None else 2))
        if self._seen // _BLOCK % -(-size // _MOST_BYTES) == 0:
            self._parts.append((x, want, added, held))
        self._seen += 1

    def fitted(
        self, first: Node, second: Node, one: Weights, other: Weights, steps: int
    ) -> Together | None:
        """Return weights of both layers; ``None`` where these are not better than given ones.

        Parameters
        ----------
        one, other
            Weights and biases as they are.
        """
        parts, self._parts = self._parts, []
        alike = len({(x.shape, y.shape) for x, y, *_ in parts}) == 1
        judges = sum(held for *_, held in parts)
        least = 1 if len(parts) == self._seen else _LEAST_JUDGES
        if not alike or not least <= judges < len(parts):
            return None
        fit = _Fit(_of(first), _of(second), self.bounds, parts)
        steps = min(steps, int(_MOST_MACS / fit.macs(one, other)))
        if steps < _LEAST_STEPS or fit.bytes_of_columns > _MOST_BYTES:
            return None
        start = [np.asarray(a, np.float32) for a in (*one, *other)]
        now = fit.descended(start, steps)
        before, after = fit.error(start), fit.error(now)
        if not after < before * (1 - _LEAST_GAIN):  # nor is what is no number
            return None
        made = [a.astype(b.dtype) for a, b in zip(now, (*one, *other), strict=True)]
        return Together((made[0], made[1]), (made[2], made[3]), before / max(after, _NO_ERROR))


class _Fit:
    def __init__(
        self,
        one: _Products,
        two: _Products,
        bounds: tuple[float, float],
        parts: Sequence[tuple[Array, Array, Array | None, bool]],
    ) -> None:
        self.one, self.two, self.bounds = one, two, bounds
        self.x = np.concatenate([x for x, *_ in parts], dtype=np.float32)
        self.right = np.clip(
            np.concatenate([want for _, want, *_ in parts], dtype=np.float32), *bounds
        )
        added = [a for *_, a, _ in parts if a is not None]
        self.added = np.concatenate(added, dtype=np.float32) if added else None
        held = np.repeat([held for *_, held in parts], len(parts[0][0]))
        self.there, self.judges = np.flatnonzero(~held), np.flatnonzero(held)
        read = one.columns(self.x[:1])
        hidden = one.shaped(np.zeros((1, one.outputs, read.shape[-1]), np.float32), self.x[:1])
        self.places = read.shape[-1], math.prod(self.right.shape[2:])
        self.at_once = max(2, min(_AT_ONCE, _PLACES // max(self.places)))
        self.bytes_of_columns = self.at_once * (read.nbytes + two.columns(hidden).nbytes)

    def macs(self, one: Weights, other: Weights) -> float:
        """Return the multiply-accumulates of a step, forward and twice backward."""
        sizes = one[0].size, other[0].size
        work = sum(n * p for n, p in zip(sizes, self.places, strict=True))
        return float(3 * self.at_once * work)

    def error(self, weights: Sequence[Array]) -> float:
        """Return the sum of squared errors where judged."""
        starts = range(0, len(self.judges), self.at_once)
        errors = (self.forward(weights, self.judges[k : k + self.at_once])[-1] for k in starts)
        return sum(float((e.astype(np.float64) ** 2).sum()) for e in errors)

    def descended(self, start: Sequence[Array], steps: int) -> list[Array]:
        """Return weights after some steps."""
        rng = np.random.default_rng(0)
        count = min(self.at_once, len(self.there))
        now = list(start)
        # Biases move with the weights of their layer: they may all be nothing at first.
        rates = [np.float32(_RATE * _rms(start[i // 2 * 2])) for i in range(len(start))]
        means, squares = ([np.zeros_like(a) for a in start] for _ in range(2))
        for step in range(steps):
            fall = np.float32((1 + math.cos(math.pi * step / steps)) / 2)
            gradients = self.gradients(now, rng.choice(self.there, count, replace=False))
            for i, g in enumerate(gradients):
                means[i] = _MEAN * means[i] + (1 - _MEAN) * g
                squares[i] = _SQUARE * squares[i] + (1 - _SQUARE) * g * g
                mean = means[i] / (1 - _MEAN ** (step + 1))
                size = np.sqrt(squares[i] / (1 - _SQUARE ** (step + 1)))
                now[i] = now[i] - fall * rates[i] * mean / (size + _NO_ERROR)
        return now

    def forward(self, weights: Sequence[Array], at: Array) -> tuple[Array, ...]:
        """Return columns and sums of both layers, and errors behind them."""
        w1, b1, w2, b2 = weights
        x = self.x[at]
        read = self.one.columns(x)
        z = self.one.shaped(w1.reshape(len(w1), -1) @ read + b1[:, None], x)
        hidden = np.clip(z, *self.one.op.activation.bounds, dtype=np.float32)
        between = self.two.columns(hidden)
        y = self.two.shaped(w2.reshape(len(w2), -1) @ between + b2[:, None], hidden)
        y = y if self.added is None else y + self.added[at]
        return read, z, between, y, np.clip(y, *self.bounds, dtype=np.float32) - self.right[at]

    def gradients(self, weights: Sequence[Array], at: Array) -> tuple[Array, ...]:
        """Return how the mean squared error changes with each number of the weights."""
        w1, _, w2, _ = weights
        read, z, between, y, error = self.forward(weights, at)
        g = np.where(_inside(y, self.bounds), error * np.float32(2 / error.size), np.float32(0))
        g = g.reshape(*g.shape[:2], -1)
        back = self.two.spread(w2.reshape(len(w2), -1).T @ g, z.shape)
        back = np.where(_inside(z, self.one.op.activation.bounds), back, np.float32(0))
        back = back.reshape(*back.shape[:2], -1)
        return (
            (back @ read.transpose(0, 2, 1)).sum(axis=0).reshape(w1.shape),
            back.sum(axis=(0, 2)),
            (g @ between.transpose(0, 2, 1)).sum(axis=0).reshape(w2.shape),
            g.sum(axis=(0, 2)),
        )


def _of(node: Node) -> _Products:
    assert isinstance(node.op, Conv | FullyConnected)
    outputs, _, *kernel = node.inputs[1].type.ints
    return _Products(node.op, outputs, tuple(kernel))


def weights_of(graph: Graph, node: Node) -> Weights:
    """Return the weights and the biases that a layer has."""
    weight, bias = (graph.constants[v.name].array for v in node.inputs[1:3])
    return weight, bias


def _inside(x: Array, bounds: tuple[float, float]) -> Array:
    return (x > bounds[0]) & (x < bounds[1])


def _rms(array: Array) -> float:
    return float(np.sqrt((array.astype(np.float64) ** 2).mean()))
