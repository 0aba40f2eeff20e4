"""Alphabets: the few integers that all weights of a layer, or of a channel, are taken from."""

from __future__ import annotations

import numpy as np

from edgec.ir import Array

__all__ = ["fitted", "nearest"]

_AT_ONCE = 1 << 20
"""Numbers in one array of the dynamic programme."""


def fitted(points: Array, weights: Array, count: int, limits: tuple[int, int]) -> Array:
    """Return the integers that stand for points with the least weighted squared error.

    The optimum of k-means in one dimension with centres that are integers, by dynamic
    programming over all integers: the best ``k`` of them with ``c`` the largest follow from the
    best ``k - 1`` and what the points between two neighbours cost, each taken by the nearer
    one. As neighbours divide at multiples of a half, sums over cells of that width are exact.

    Parameters
    ----------
    points
        ``[B, n]``: of so many alphabets.
    weights
        What a squared error costs, ``[B, n]``; at least 0.
    count
        How many integers an alphabet has.
    limits
        The least and the largest integer.

    Returns
    -------
    alphabets
        ``[B, count]``, int64, each in ascending order without repetition. All integers where
        there are no more than `count`.

    References
    ----------
    Wang and Song, The R Journal 3/2 (2011) (k-means by dynamic programming); Choi et al.,
    arXiv:1612.01543, equations 7 and 8 (weights from second derivatives).
    """
    low, high = limits
    length = high - low + 1
    if count >= length:
        every = np.arange(low, high + 1)
        return np.repeat(every[None], len(points), axis=0)
    found = [
        _fitted(points[i : i + step], weights[i : i + step], count, low, length)
        for step in (max(1, _AT_ONCE // length**2),)
        for i in range(0, len(points), step)
    ]
    return np.concatenate(found)


def _fitted(points: Array, weights: Array, count: int, low: int, length: int) -> Array:
    sums = _sums(points, weights, low, length)
    letters = np.arange(length) + low
    at_letters = sums[:, :, 1::2]  # edge 1 + 2 i is at integer i

    def cost(moments: Array, letter: Array) -> Array:
        """Return what points with some sums cost, taken by a letter."""
        zero, one, two = moments
        return np.asarray(np.maximum(two - 2 * letter * one + letter**2 * zero, 0))

    between = np.full((len(points), length, length), np.inf)  # [of one, of the one before]
    for i in range(length - 1):
        middles = sums[:, :, 2 + 2 * i : 1 + i + length]
        mine = cost(middles - sums[:, :, 1 + 2 * i, None], letters[i])
        next_ = cost(at_letters[:, :, i + 1 :] - middles, letters[i + 1 :])
        between[:, i + 1 :, i] = mine + next_
    least = cost(at_letters, letters)
    back: list[Array] = []
    for _ in range(count - 1):
        every = least[:, None, :] + between
        back.append(every.argmin(axis=2))
        least = np.take_along_axis(every, back[-1][:, :, None], axis=2)[:, :, 0]
    at = (least + cost(sums[:, :, -1:] - at_letters, letters)).argmin(axis=1)
    chosen = [at]
    for step in reversed(back):
        at = np.take_along_axis(step, at[:, None], axis=1)[:, 0]
        chosen.append(at)
    return np.asarray(np.stack(chosen[::-1], axis=1) + low)


def _sums(points: Array, weights: Array, low: int, length: int) -> Array:
    """Return sums of ``w``, ``w x`` and ``w x^2`` up to each edge, ``[3, B, edges]``.

    The first edge is below all points; then come those at the halves from the least integer
    to the largest; the last is above all points.
    """
    cells = 2 * length  # below the least, between the halves, from the largest on
    cell = np.clip(np.floor(2 * (points - low)) + 1, 0, cells - 1).astype(np.int64)
    cell += np.arange(len(points))[:, None] * cells
    size = len(points) * cells
    found = np.zeros((3, len(points), cells + 1))
    for k, value in enumerate((weights, weights * points, weights * points**2)):
        each = np.bincount(cell.ravel(), value.ravel(), size).reshape(len(points), cells)
        found[k, :, 1:] = each.cumsum(axis=1)
    return found


def nearest(alphabet: Array, x: Array) -> Array:
    """Return the letters nearest to numbers.

    Parameters
    ----------
    alphabet
        In ascending order: ``[K]`` for all numbers, or ``[..., K]`` for each of them.
    """
    middles = (alphabet[..., 1:] + alphabet[..., :-1]) / 2
    if alphabet.ndim == 1:
        return np.asarray(alphabet[np.searchsorted(middles, x)])
    at = (x[..., None] > middles).sum(axis=-1, keepdims=True)
    return np.asarray(np.take_along_axis(alphabet, at, axis=-1)[..., 0])
