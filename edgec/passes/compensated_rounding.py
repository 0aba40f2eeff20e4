"""Rounding of weights so that the error of one makes up for that of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array

__all__ = [
    "Factor",
    "Moments",
    "compensated",
    "damped",
    "descended",
    "pulled",
    "round_compensated",
]

_BLOCK = 64


@dataclass(slots=True)
class Moments:
    """Sums over what a layer reads and what it should yield, in groups of channels.

    Each group of output channels ``y [P, O]`` is a product of its own patches ``x [P, n]``.

    Parameters
    ----------
    xx
        ``sum(x x^T)``, ``[G, n, n]``, float64.
    yx
        ``sum(y x^T)``, ``[G, O, n]``.
    x, y, yy
        ``sum(x)``, ``sum(y)`` and ``sum(y^2)``: ``[G, n]``, ``[G, O]``, ``[G, O]``.
    count
        Number of patches.
    """

    xx: Array
    yx: Array
    x: Array
    y: Array
    yy: Array
    count: int = 0

    @classmethod
    def empty(cls, groups: int, outputs: int, inputs: int) -> Moments:
        """Return moments of nothing."""
        shapes = (
            (groups, inputs, inputs),
            (groups, outputs, inputs),
            (groups, inputs),
            (groups, outputs),
            (groups, outputs),
        )
        xx, yx, x, y, yy = (np.zeros(s) for s in shapes)
        return cls(xx, yx, x, y, yy)

    def add(self, x: Array, y: Array) -> None:
        """Take patches ``[G, P, n]`` and results ``[G, P, O]``, float32.

        Products of one call are summed in float32, calls in float64.
        """
        turned = y.transpose(0, 2, 1)
        self.xx += x.transpose(0, 2, 1) @ x
        self.yx += turned @ x
        self.x += x.sum(axis=1, dtype=np.float64)
        self.y += y.sum(axis=1, dtype=np.float64)
        self.yy += (y.astype(np.float64) ** 2).sum(axis=1)
        self.count += x.shape[1]

    def centred(self) -> tuple[Array, Array]:
        """Return the covariances ``xx`` and ``yx`` of one patch: the bias is free."""
        n = max(self.count, 1)
        mx, my = self.x / n, self.y / n
        return (
            self.xx / n - mx[:, :, None] * mx[:, None, :],
            self.yx / n - my[:, :, None] * mx[:, None, :],
        )

    def bias(self, weight: Array) -> Array:
        """Return the bias ``[G, O]`` with the least squared error for given weights."""
        n = max(self.count, 1)
        return np.asarray((self.y - np.einsum("gon,gn->go", weight, self.x)) / n)

    def error(self, weight: Array, bias: Array) -> Array:
        """Return the mean squared error of each output, ``[G, O]``."""
        n = max(self.count, 1)
        product = np.einsum("gon,gon->go", weight @ self.xx, weight)
        crossed = np.einsum("gon,gon->go", weight, self.yx)
        summed = np.einsum("gon,gn->go", weight, self.x)
        total = product - 2 * crossed + self.yy + 2 * bias * (summed - self.y)
        return np.asarray(np.maximum(total / n + bias**2, 0))


def round_compensated(
    weight: Array,
    factor: Factor,
    scale: Array,
    limits: tuple[int, int],
    zeros: Array | None = None,
) -> Array:
    """Return the integers of :func:`compensated`, where all between two limits may be taken."""

    def rounded(x: Array) -> Array:
        return np.asarray(np.clip(np.rint(x), *limits))

    return compensated(weight, factor, scale, rounded, zeros)


def compensated(
    weight: Array,
    factor: Factor,
    scale: Array,
    rounded: Callable[[Array], Array],
    zeros: Array | None = None,
) -> Array:
    """Return integers ``q`` so that ``(w - s q) H (w - s q)^T`` is small for each row.

    Columns are rounded one after the other, those with the largest ``H_jj`` first, and what a
    column is off is made up for by those still to come, as far as they go along with it:
    ``w[k] -= (w[j] - s q[j]) / U[j, j] * U[j, k]`` with ``U`` the upper Cholesky factor of the
    inverse of ``H``. A column that nothing is known of is rounded to nearest.

    Parameters
    ----------
    weight
        ``[G, O, n]``, float64.
    scale
        ``[G, O]``.
    rounded
        Returns the integers that may stand for numbers ``[G, O]`` of one column.
    zeros
        Which weights are to be zero whatever that costs, ``[G, O, n]``.

    References
    ----------
    Frantar et al., arXiv:2210.17323, algorithm 1; in order of the diagonal.
    """
    groups, outputs, n = weight.shape
    order, upper = factor.order, factor.upper
    left = np.take_along_axis(weight, order[:, None, :], axis=2)
    taken = np.empty_like(left)
    fixed = None if zeros is None else np.take_along_axis(zeros, order[:, None, :], axis=2)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        errors = np.zeros((groups, outputs, stop - start))
        for j in range(start, stop):
            q = rounded(left[:, :, j] / scale)
            if fixed is not None:
                q = np.where(fixed[:, :, j], 0, q)
            taken[:, :, j] = q
            error = (left[:, :, j] - q * scale) / upper[:, None, j, j]
            errors[:, :, j - start] = error
            left[:, :, j + 1 : stop] -= error[:, :, None] * upper[:, None, j, j + 1 : stop]
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    found = np.empty_like(taken)
    np.put_along_axis(found, np.broadcast_to(order[:, None, :], found.shape), taken, axis=2)
    return found


def descended(
    weight: Array,
    q: Array,
    hessian: Array,
    scale: Array,
    rounded: Callable[[Array], Array],
    sweeps: int,
    zeros: Array | None = None,
) -> Array:
    """Return integers with ``(w - s q) H (w - s q)^T`` smaller still, one column at a time.

    Each column in its turn takes the integers that are best beside all others as they are, so
    that no step makes the error larger.

    Parameters
    ----------
    weight
        ``[G, O, n]``, float64.
    q
        Integers to begin with, ``[G, O, n]``.
    hessian
        ``[G, n, n]``. A column that nothing is known of stays as it is.
    sweeps
        How often each column has its turn, at most.
    zeros
        Which integers stay as they are.
    """
    now = q.copy()
    off = weight / scale[:, :, None] - now
    slope = off @ hessian
    diagonal = np.einsum("gnn->gn", hessian)
    for _ in range(sweeps):
        moved = False
        for j in range(weight.shape[2]):
            along = diagonal[:, j, None]
            known = np.broadcast_to(along > 0, now.shape[:2])
            if zeros is not None:
                known = known & ~zeros[:, :, j]
            best = now[:, :, j] + slope[:, :, j] / np.where(along > 0, along, 1)
            step = np.where(known, rounded(best) - now[:, :, j], 0)
            if not step.any():
                continue
            moved = True
            now[:, :, j] += step
            slope -= step[:, :, None] * hessian[:, None, j, :]
        if not moved:
            break
    return now


@dataclass(frozen=True, slots=True)
class Factor:
    """The upper Cholesky factors of the inverses of matrices, in order of their diagonals.

    Parameters
    ----------
    order
        Which row of the matrix stands where, ``[G, n]``.
    upper
        ``U`` with ``U^T U = H^-1``, ``[G, n, n]``.
    """

    order: Array
    upper: Array

    @classmethod
    def of(cls, matrix: Array, damping: float, order: Array | None = None) -> Factor:
        """Return the factors of matrices with something added to their diagonals.

        Parameters
        ----------
        damping
            What is added, relative to the mean of the diagonal.
        order
            Of the rows, ``[G, n]``; that of the diagonal if not given.
        """
        if order is None:
            order = np.argsort(-np.einsum("gnn->gn", matrix), axis=1, kind="stable")
        index = np.arange(len(matrix))[:, None, None]
        ordered = damped(matrix, damping)[index, order[:, :, None], order[:, None, :]]
        # With J the reversal of rows: where C C^T = J H J, U = J C^-1 J has U^T U = H^-1.
        lower = np.linalg.cholesky(ordered[:, ::-1, ::-1])
        return cls(order, np.linalg.inv(lower)[:, ::-1, ::-1])


def damped(matrix: Array, damping: float) -> Array:
    """Return matrices with a share of the mean of their diagonals added to these."""
    n = matrix.shape[1]
    mean = np.einsum("gnn->g", matrix) / n
    mean[mean <= 0] = 1.0
    return np.asarray(matrix + damping * mean[:, None, None] * np.eye(n))


def pulled(weight: Array, xx: Array, yx: Array, damping: float) -> Array:
    """Return weights moved to where their products are nearest to what is wanted.

    ``w + (yx - w xx) (xx + damping)^-1``: with little damping the least squares, which follow
    the noise of few patches; with much the weights as they are.
    """
    missing = yx - weight @ xx
    moved = np.linalg.solve(damped(xx, damping), missing.transpose(0, 2, 1))
    return np.asarray(weight + moved.transpose(0, 2, 1))
