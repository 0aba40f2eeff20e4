"""Weights fitted so that what comes out behind an activation is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgec.ir import Array
from edgec.passes.compensated_rounding import Moments, pulled

__all__ = ["Fit", "Fitted", "Rows"]

_LEAST_GAIN = 1e-3


@dataclass(slots=True)
class Rows:
    """What a layer reads at many places, and what should come out there.

    Parameters
    ----------
    bounds
        Of the activation.
    """

    bounds: tuple[float, float]
    _x: list[Array] = field(default_factory=list)
    _want: list[Array] = field(default_factory=list)
    _added: list[Array] = field(default_factory=list)

    def add(self, x: Array, want: Array, added: Array | None) -> None:
        """Take some places.

        Parameters
        ----------
        x
            ``[groups, places, n]``.
        want
            ``[groups, places, outputs]``: what the activation should read.
        added
            What is added to the layer's results before that.
        """
        self._x.append(x)
        self._want.append(want)
        if added is not None:
            self._added.append(added)

    def joined(self) -> tuple[Array, Array, Array | None]:
        """Return all places; this holds none any more."""
        x, want = np.concatenate(self._x, axis=1), np.concatenate(self._want, axis=1)
        added = np.concatenate(self._added, axis=1) if self._added else None
        self._x, self._want, self._added = [], [], []
        return x, want, added


@dataclass(frozen=True, slots=True)
class Fitted:
    """Weights ``[G, O, n]`` and biases ``[G, O]``, and their squared error where judged."""

    weight: Array
    bias: Array
    error: float


class _Places:
    """Places with what comes out there."""

    def __init__(self, rows: Rows) -> None:
        self.low, self.high = rows.bounds
        self.x, self.want, self.added = rows.joined()
        self.right = np.clip(self.want, self.low, self.high)

    def results(self, weight: Array, bias: Array) -> Array:
        """Return what the activation reads, ``[G, P, O]``."""
        y = self.x @ weight.transpose(0, 2, 1).astype(np.float32)
        y += bias[:, None].astype(np.float32)
        return y if self.added is None else y + self.added

    def error(self, weight: Array, bias: Array) -> float:
        """Return the mean over the places of the squared errors, summed over the outputs."""
        wrong = np.clip(self.results(weight, bias), self.low, self.high) - self.right
        return float((wrong.astype(np.float64) ** 2).sum() / max(self.x.shape[1], 1))

    def target(self, weight: Array, bias: Array) -> Array:
        """Return what the layer should yield, given what it yields with some weights.

        Where the activation cuts off what is right and what is there alike, that is what is
        there.
        """
        now = self.results(weight, bias)
        target = np.where(self.want <= self.low, np.minimum(now, self.low), self.want)
        target = np.where(self.want >= self.high, np.maximum(now, self.high), target)
        return target if self.added is None else target - self.added

    def linear(self) -> Array:
        """Return what the layer should yield if nothing were cut off."""
        return self.want if self.added is None else self.want - self.added


class Fit:
    """Least squares for one layer.

    Parameters
    ----------
    fit, judge
        Places to fit to, and those that were held out.
    weight, bias
        ``[G, O, n]`` and ``[G, O]``, as they are.
    free
        Whether the bias may change.
    """

    def __init__(
        self, fit: Rows, judge: Rows, weight: Array, bias: Array, *, free: bool
    ) -> None:
        self.fit, self.judge, self.free = _Places(fit), _Places(judge), free
        self.plain = Fitted(weight, bias, self.judge.error(weight, bias))
        right = self.judge.right.astype(np.float64)
        self.power = float((right**2).sum() / max(right.shape[1], 1))
        groups, outputs, inner = weight.shape
        self.moments = Moments.empty(groups, outputs, inner)
        self.moments.add(self.fit.x, self.fit.linear())

    def best(self, dampings: Sequence[float], turns: int) -> Fitted:
        """Return the weights with the least error on the places held out.

        Parameters
        ----------
        turns
            How often targets are moved to what is cut off, at most.
        """
        best, damping = self._best_of(self.plain, dampings)
        if not np.isfinite([self.fit.low, self.fit.high]).any():
            return best
        for _ in range(turns):
            self._aim(self.fit.target(best.weight, best.bias))
            again = dampings if damping is None else (damping,)
            found, damping = self._best_of(best, again)
            if found is best:
                break
            gained, best = best.error - found.error, found
            if gained < _LEAST_GAIN * best.error:
                break
        return best

    def _best_of(self, best: Fitted, dampings: Sequence[float]) -> tuple[Fitted, float | None]:
        """Return the best fit with its damping; what was the best so far has none."""
        chosen = None
        for damping in dampings:
            found = self._pulled(damping)
            if found.error < best.error:
                best, chosen = found, damping
        return best, chosen

    def _aim(self, target: Array) -> None:
        m = self.moments
        m.yx = (target.transpose(0, 2, 1) @ self.fit.x).astype(np.float64)
        m.y = target.sum(axis=1, dtype=np.float64)

    def _pulled(self, damping: float) -> Fitted:
        moved = pulled(self.plain.weight, *self.moments.centred(), damping)
        bias = self.moments.bias(moved) if self.free else self.plain.bias
        return Fitted(moved, bias, self.judge.error(moved, bias))
