"""Weights of one layer, taken from few integers so that their errors make up for each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgec.ir import Array
from edgec.passes.alphabets import fitted, nearest
from edgec.passes.compensated_rounding import Factor, compensated, damped, descended

__all__ = ["Clustered", "Clustering"]

_DAMPING = 0.05
"""More than where steps are small: what is made up for is larger, and so is what is wrong."""

_TURNS, _SWEEPS = 2, 2
"""More of them bring the layers of the benchmarks' models by no more than 0.1 dB nearer."""

_SCALINGS = 3
_FACTORS = np.linspace(0.6, 1.4, 33)
"""Of a channel's scale, when the letters are not its own."""


@dataclass(frozen=True, slots=True)
class Clustered:
    """Integers of a layer, all of them letters.

    Parameters
    ----------
    integers
        ``[G, O, n]``, float64.
    alphabet
        In ascending order: ``[K]``, or ``[G, O, K]`` where each channel has its own.
    scale
        ``[G, O]``.
    error
        ``sum((w - s q) H (w - s q)^T)`` with a little damping.
    """

    integers: Array
    alphabet: Array
    scale: Array
    error: float


def _error(found: Clustered) -> float:
    return found.error


@dataclass(frozen=True, slots=True)
class Clustering:
    """What the weights of a layer are to be near to.

    Parameters
    ----------
    target
        Real weights, ``[G, O, n]``.
    hessian
        How much it costs to be off, ``[G, n, n]``.
    scale
        Of the grid, ``[G, O]``.
    limits
        The least and the largest integer.
    free
        Whether the scale of each channel may change.
    zeros
        Which weights stay zero, ``[G, O, n]``, if some do.
    """

    target: Array
    hessian: Array
    scale: Array
    limits: tuple[int, int]
    free: bool
    zeros: Array | None = None

    def into(self, count: int, *, per_channel: bool) -> Clustered:
        """Return integers from alphabets of so many letters.

        The alphabet comes from optimal k-means, where each weight counts by the diagonal of
        the Hessian. Then it takes turns: integers are chosen one column after the other, with
        what a column is off made up for by the others; and for these choices the letters, and
        the scales if they are free, follow by least squares. What is best is returned.
        """
        hessian = damped(self.hessian, _DAMPING)
        factor = Factor.of(self.hessian, _DAMPING)

        def made(alphabet: Array, scale: Array, start: Array | None = None) -> Clustered:
            """Return the choices made from the start, or mended from some that there are."""
            letters = partial(nearest, alphabet)
            if start is None:
                start = compensated(self.target, factor, scale, letters, self.zeros)
            start = start.astype(np.float64)
            q = descended(self.target, start, hessian, scale, letters, _SWEEPS, self.zeros)
            off = self.target - q * scale[:, :, None]
            return Clustered(q, alphabet, scale, float(np.sum((off @ hessian) * off)))

        stretch = self.free and not per_channel
        best = made(*self._begun(count, per_channel=per_channel, stretch=False))
        if stretch:
            other = made(*self._begun(count, per_channel=per_channel, stretch=True))
            best = min(best, other, key=_error)
        for _ in range(_TURNS):
            scale = self._scaled(best.integers, best.scale, hessian) if stretch else best.scale
            alphabet, q = self._refitted(best.integers, best.alphabet, scale, hessian)
            now = min(made(alphabet, scale, q), made(alphabet, scale), key=_error)
            if now.error >= best.error:
                break
            best = now
        return best

    def plainly(self, count: int, *, per_channel: bool) -> Array:
        """Return the weights ``[G, O, n]`` with nothing made up for: each by its own letter."""
        alphabet, scale = self._begun(count, per_channel=per_channel, stretch=self.free)
        letters: Callable[[Array], Array] = partial(nearest, alphabet)
        steps = self.target / scale[:, :, None]
        if per_channel:
            rows = [letters(steps[:, :, j]) for j in range(steps.shape[2])]
            return np.asarray(np.stack(rows, axis=2) * scale[:, :, None])
        return np.asarray(letters(steps) * scale[:, :, None])

    def _begun(self, count: int, *, per_channel: bool, stretch: bool) -> tuple[Array, Array]:
        """Return the alphabet of k-means, and the scales that go with it."""
        shape = self.target.shape
        each = np.broadcast_to(np.einsum("gnn->gn", self.hessian)[:, None, :], shape)
        each = np.maximum(each, 1e-9 * max(float(each.mean()), 1e-30))
        scale = self.scale
        rows = shape[0] * shape[1], shape[2]
        if per_channel:
            steps = (self.target / scale[:, :, None]).reshape(rows)
            found = fitted(steps, each.reshape(rows), count, self.limits)
            return self._with_zero(found.reshape(*shape[:2], -1)), scale
        alphabet = self._common(each, scale, count)
        for _ in range(_SCALINGS if stretch else 0):
            scale = self._nearest_scale(alphabet, each)
            alphabet = self._common(each, scale, count)
        return alphabet, scale

    def _common(self, each: Array, scale: Array, count: int) -> Array:
        steps = (self.target / scale[:, :, None]).reshape(1, -1)
        weights = (each * scale[:, :, None] ** 2).reshape(1, -1)
        return self._with_zero(fitted(steps, weights, count, self.limits)[0])

    def _with_zero(self, alphabet: Array) -> Array:
        """Return alphabets in which the letter next to zero is zero, if weights are to be."""
        if self.zeros is None:
            return alphabet
        at = np.abs(alphabet).argmin(axis=-1)[..., None]
        found = alphabet.copy()
        np.put_along_axis(found, at, 0, axis=-1)
        return found

    def _nearest_scale(self, alphabet: Array, each: Array) -> Array:
        """Return the scale of each channel with which the letters are nearest to it."""
        best, least = self.scale, np.full(self.scale.shape, np.inf)
        for factor in _FACTORS:
            scale = self.scale * factor
            q = nearest(alphabet, self.target / scale[:, :, None])
            off = ((self.target - q * scale[:, :, None]) ** 2 * each).sum(axis=2)
            best, least = np.where(off < least, scale, best), np.minimum(off, least)
        return np.asarray(best)

    def _scaled(self, q: Array, scale: Array, hessian: Array) -> Array:
        """Return the scales with which integers are nearest to the target."""
        product = q @ hessian
        along = np.einsum("gon,gon->go", product, self.target)
        square = np.einsum("gon,gon->go", product, q)
        factor = along / np.maximum(square * self.scale, 1e-300)
        fits = (square > 0) & (factor > _FACTORS[0]) & (factor < _FACTORS[-1])
        return np.where(fits, self.scale * factor, scale)

    def _refitted(
        self, q: Array, alphabet: Array, scale: Array, hessian: Array
    ) -> tuple[Array, Array]:
        """Return the letters that are best for the choices made, and the choices with them."""
        count = alphabet.shape[-1]
        each = [q == alphabet[..., k, None] for k in range(count)]
        for k in range(1, count):  # of letters that are there twice the first is taken
            each[k] &= alphabet[..., k, None] != alphabet[..., k - 1, None]
        step = scale[:, :, None]
        wanted = (self.target @ hessian) * step
        right = np.stack([(z * wanted).sum(axis=2) for z in each], axis=-1)
        normal = np.zeros((*q.shape[:2], count, count))
        for k, z in enumerate(each):
            product = (z @ hessian) * step**2
            for m in range(k, count):
                normal[..., k, m] = normal[..., m, k] = (product * each[m]).sum(axis=2)
        if alphabet.ndim == 1:
            normal, right = normal.sum(axis=(0, 1)), right.sum(axis=(0, 1))
        level = np.maximum(np.einsum("...kk->...", normal)[..., None] / count, 1e-300)
        ridge = 1e-6 * level[..., None] * np.eye(count)
        # Letters that nobody took stay where they are.
        fit = np.linalg.solve(normal + ridge, (right + 1e-6 * level * alphabet)[..., None])
        whole = np.clip(np.rint(fit[..., 0]), *self.limits).astype(np.int64)
        if self.zeros is not None:
            whole = np.where(alphabet == 0, 0, whole)
        now = sum(z * whole[..., k, None].astype(np.float64) for k, z in enumerate(each))
        return np.sort(whole, axis=-1), np.asarray(now)
