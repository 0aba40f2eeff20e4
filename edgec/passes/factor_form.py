"""What a form of a product is, and how it is fitted to what a layer reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array
from edgec.passes.compensated_rounding import Moments, damped

__all__ = ["NOTHING", "TURNS", "Factors", "Form", "covariance_of", "or_alike"]

_DAMPING = 1e-6
TURNS = 3
"""In which the factors are fitted, each time one after the other."""
_STEPS = 30
NOTHING = 1e-6
"""What does not count, relative to what does."""
_FEW = 0.05


@dataclass(frozen=True, slots=True)
class Factors:
    """Two factors of a weight matrix ``W [O, n]``, with what the first does to a patch.

    Parameters
    ----------
    first
        What is free in the first factor, in the shape that its form says.
    last
        ``[O, m]``, with ``W ~ last @ lift(first)``.
    """

    first: Array
    last: Array


class Form(ABC):
    """One way to write the weights of a layer ``[O, C, *kernel]`` as a product of two factors.

    The first makes ``m`` numbers of each patch, ``T = lift(first) [m, n]``, and is linear in
    what is free in it; the last makes the results of these. Both are fitted in turns to
    ``min tr (A T - W) H (A T - W)^T``, ``H`` the covariance of the patches: the last in closed
    form, ``A = W H T^T (T H T^T)^-1``, and the first by conjugate gradients on its normal
    equations ``drop(A^T A T H) = drop(A^T W H)``, where `drop` is the adjoint of `lift`. Where
    results do not count alike, ``tr G (A T - W) H (A T - W)^T`` with a matrix ``G [O, O]`` is
    least instead: with ``A^T G`` in the place of ``A^T``.
    """

    shape: tuple[int, ...]

    @abstractmethod
    def problem(self) -> str | None:
        """Return why weights of this shape have no such form."""

    @property
    @abstractmethod
    def units(self) -> int:
        """How many channels pass from the first factor to the next."""

    @abstractmethod
    def blank(self) -> Factors:
        """Return factors that are all zeros, for what only the shapes count for."""

    @abstractmethod
    def start(self, weight: Array) -> Factors:
        """Return the factors with the least error if all inputs count alike."""

    @abstractmethod
    def lift(self, first: Array) -> Array:
        """Return the matrix ``[m, n]`` that the first factor multiplies patches with."""

    @abstractmethod
    def drop(self, full: Array) -> Array:
        """Return the adjoint of `lift`: of a matrix ``[m, n]`` what falls on the first."""

    def last(self, lifted: Array, weight: Array, covariance: Array, metric: Array) -> Array:
        """Return the last factor with the least error for a given first."""
        del metric  # each result has weights of its own, so that it does not matter
        read = lifted @ covariance
        gram = damped((read @ lifted.T)[None], _DAMPING)[0]
        return np.asarray(np.linalg.solve(gram, read @ weight.T).T)

    def normal(self, gram: Array, covariance: Array) -> Callable[[Array], Array]:
        """Return the product with the matrix of the first factor's normal equations."""
        return lambda first: self.drop(gram @ self.lift(first) @ covariance)

    def fitted(
        self,
        weight: Array,
        covariance: Array,
        metric: Array | None = None,
        turns: int = TURNS,
    ) -> Factors:
        """Return factors of a weight matrix, fitted to what it reads.

        Parameters
        ----------
        metric
            How much errors of results count, ``[O, O]``; all alike if not given.
        """
        found, counts = self.start(weight), or_alike(metric, len(weight))
        target = weight @ covariance
        for _ in range(turns):
            last = self.last(self.lift(found.first), weight, covariance, counts)
            across = last.T if metric is None else last.T @ counts
            normal = self.normal(across @ last, covariance)
            first = _conjugate_gradients(normal, self.drop(across @ target), found.first)
            found = Factors(first, last)
        last = self.last(self.lift(found.first), weight, covariance, counts)
        return Factors(found.first, last)

    def dense(self, factors: Factors) -> Array:
        """Return the weight matrix that factors stand for, ``[O, n]``."""
        return np.asarray(factors.last @ self.lift(factors.first))

    def balanced(self, factors: Factors, square: Array) -> Factors:
        """Return factors of the same product, between which all channels are of one size.

        So that all use the range of one scale, if what passes between them becomes integers.

        Parameters
        ----------
        square
            The mean of ``x x^T`` over patches.
        """
        lifted = self.lift(factors.first)
        energy = np.einsum("mn,mn->m", lifted @ square, lifted).reshape(self.units, -1)
        size = np.sqrt(np.maximum(energy.mean(axis=1), 0))
        size[size <= NOTHING * max(size.max(initial=0), 1e-30)] = 1.0
        first = factors.first.reshape(self.units, -1) / size[:, None]
        last = factors.last.reshape(len(factors.last), self.units, -1) * size[:, None]
        return Factors(first.reshape(factors.first.shape), last.reshape(factors.last.shape))


def _conjugate_gradients(normal: Callable[[Array], Array], want: Array, start: Array) -> Array:
    """Return an approximate solution of ``normal(x) = want``, no worse than the start."""
    x = start.copy()
    left = want - normal(x)
    along, energy = left.copy(), float((left**2).sum())
    enough = 1e-20 * float((want**2).sum())
    for _ in range(_STEPS):
        if energy <= enough:
            break
        across = normal(along)
        curve = float((along * across).sum())
        if curve <= 0:
            break
        x += energy / curve * along
        left -= energy / curve * across
        now = float((left**2).sum())
        along = left + now / energy * along
        energy = now
    return x


def covariance_of(moments: Moments) -> Array:
    """Return the covariance of what a layer reads, ``[n, n]``.

    Of fewer than ``2 n`` patches it says nothing of many directions; then each input counts a
    little by itself, too: by a twentieth of the mean variance.
    """
    found = moments.centred()[0]
    few = moments.count < 2 * found.shape[1]
    return np.asarray(damped(found, _FEW)[0] if few else found[0])


def or_alike(metric: Array | None, outputs: int) -> Array:
    """Return how much errors of results count: all alike if nothing else is said."""
    return np.eye(outputs) if metric is None else metric
