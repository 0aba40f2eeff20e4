"""In which order channels can go, by what those that read them would lose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgec.channels.groups import ChannelGroup
from edgec.ir import Array, Graph, Node
from edgec.ops import Conv, FullyConnected

__all__ = ["Criterion", "Reader", "Trace", "columns_of", "trace"]

Criterion = Literal["l1", "l2", "energy", "obs"]
"""How channels are ranked: by the sums of the magnitudes or of the squares of the weights that
make them, by what they add to the results of the layers that read them, or by what these lose
after their other weights have made up for it."""

_ROUNDS = 16


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer that sums over channels, and what it reads.

    Parameters
    ----------
    weight
        ``[O, n]``, float64.
    covariance
        Of its patches, ``[n, n]``.
    columns
        The columns of each unit of a group, ``[units, m]``.
    power
        The variance of its results: errors are told relative to it.
    """

    weight: Array
    covariance: Array
    columns: Array
    power: float


@dataclass(frozen=True, slots=True)
class Trace:
    """The units of a group in the order in which they go.

    Parameters
    ----------
    order
        The first to go first.
    errors
        After each, what the layers that read the group have lost: squared, relative to their
        results, summed over the layers.
    """

    order: Array
    errors: Array


def columns_of(group: ChannelGroup, node: Node) -> Array | None:
    """Return the columns of a layer's weights that each unit of a group has, ``[units, m]``.

    ``None`` if the layer is no convolution of all channels and no product.
    """
    if not isinstance(node.op, Conv | FullyConnected):
        return None
    name = node.inputs[1].name
    at = next((m.at for m in group.members if m.place == (name, 1)), None)
    if at is None:
        return None
    inner = int(np.prod(node.inputs[1].type.ints[2:]))
    return (at[:, :, None] * inner + np.arange(inner)).reshape(len(at), -1)


def trace(
    graph: Graph,
    group: ChannelGroup,
    readers: Sequence[Reader],
    criterion: Criterion,
    damping: float = 0.01,
) -> Trace:
    """Return in which order the units of a group go, and what is lost by that.

    Structured optimal brain surgery: with ``K = H^-1`` and ``B`` the columns of a unit, a
    reader loses ``sum_r W_rB (K_BB)^-1 W_rB^T`` once its other weights are refitted, which
    changes both its weights and ``K``. Units go in sixteen rounds at most, the least losses
    first.

    References
    ----------
    Frantar et al., arXiv:2208.11580 (OBC); Kurtic et al., arXiv:2302.04089 (ZipLM).
    """
    if criterion in ("l1", "l2") or not readers:
        power = 1 if criterion == "l1" else 2
        scores = _made(graph, group, lambda w: np.abs(w) ** power)
        ranked = np.argsort(scores, kind="stable")
        return Trace(ranked, np.cumsum(scores[ranked]))
    states = [_State.of(reader, damping) for reader in readers]
    left = np.arange(group.size)
    order: list[int] = []
    errors: list[float] = []
    lost = 0.0
    while left.size:
        compensates = criterion == "obs"
        scores = np.sum([s.scores(left, compensates=compensates) for s in states], axis=0)
        best = np.argsort(scores, kind="stable")[: max(1, group.size // _ROUNDS)]
        for i in left[best]:
            order.append(int(i))
            for state in states:
                lost += state.remove(int(i), compensates=compensates)
            errors.append(lost)
        left = np.delete(left, best)
    return Trace(np.array(order), np.array(errors))


def _made(graph: Graph, group: ChannelGroup, of: Callable[[Array], Array]) -> Array:
    """Return a sum over the weights that make each unit."""
    total = np.zeros(group.size)
    for node in group.makers:
        name = node.inputs[1].name
        weight = graph.constant(node.inputs[1])
        for member in group.members:
            if weight is not None and member.value == name:
                rows = np.moveaxis(of(weight.astype(np.float64)), member.axis, 0)
                sums = rows.reshape(len(rows), -1).sum(axis=1)
                total += sums[member.at].sum(axis=1)
    return total


@dataclass(slots=True)
class _State:
    """What is left of a reader while units go."""

    weight: Array
    inverse: Array
    covariance: Array
    columns: Array
    power: float

    @classmethod
    def of(cls, reader: Reader, damping: float) -> _State:
        h = reader.covariance
        mean = float(np.trace(h)) / len(h) or 1.0
        inverse = np.linalg.inv(h + damping * mean * np.eye(len(h)))
        return cls(reader.weight.copy(), inverse, h, reader.columns, reader.power)

    def scores(self, units: Array, *, compensates: bool) -> Array:
        """Return what the reader would lose by each unit, relative to its results."""
        found = np.empty(len(units))
        for k, unit in enumerate(units):
            b = self.columns[unit]
            w = self.weight[:, b]
            if compensates:
                part = np.linalg.solve(self.inverse[np.ix_(b, b)], w.T)
            else:
                part = self.covariance[np.ix_(b, b)] @ w.T
            found[k] = float(np.einsum("rb,br->", w, part))
        return found / self.power

    def remove(self, unit: int, *, compensates: bool) -> float:
        """Take a unit out; return what the reader loses by that."""
        b = self.columns[unit]
        (lost,) = self.scores(np.array([unit]), compensates=compensates)
        if compensates:
            solved = np.linalg.solve(self.inverse[np.ix_(b, b)], self.inverse[b])
            self.weight -= self.weight[:, b] @ solved
            self.inverse -= self.inverse[:, b] @ solved
        self.weight[:, b] = 0
        return float(lost)
