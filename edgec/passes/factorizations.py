"""Products of small layers that stand for a large one, fitted to what the layer reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from edgec.ir import Array
from edgec.passes.factor_form import NOTHING, TURNS, Factors, Form, or_alike

__all__ = ["LowRank", "Separable", "Spatial", "Tucker", "cut_energy"]


@dataclass(frozen=True, slots=True)
class Separable(Form):
    """A depthwise convolution with `multiplier` kernels to a channel, then a pointwise one.

    ``W[o, c, :] = sum_r P[o, c R + r] D[c, r, :]``; what is free in the first is ``D``,
    ``[C, R, k]``.

    References
    ----------
    Guo et al., arXiv:1808.05517, section 3 (the start, which is their solution).
    """

    shape: tuple[int, ...]
    multiplier: int

    def __str__(self) -> str:
        return f"separable, {self.multiplier} to a channel"

    @override
    def problem(self) -> str | None:
        if len(self.shape) < 3:
            return "is a product without a kernel, and has no separable form"
        most = min(self.shape[0], math.prod(self.shape[2:]))
        return _outside("a multiplier", self.multiplier, most)

    @property
    @override
    def units(self) -> int:
        return self.shape[1] * self.multiplier

    @override
    def blank(self) -> Factors:
        outputs, channels, *kernel = self.shape
        first = np.zeros((channels, self.multiplier, math.prod(kernel)))
        return Factors(first, np.zeros((outputs, self.units)))

    @override
    def start(self, weight: Array) -> Factors:
        outputs, channels, *_ = self.shape
        # Of each input channel the kernels to all outputs: their R main directions.
        kernels = weight.reshape(outputs, channels, -1).transpose(1, 0, 2)
        u, s, v = np.linalg.svd(kernels, full_matrices=False)
        r = self.multiplier
        last = (u[:, :, :r] * s[:, None, :r]).transpose(1, 0, 2).reshape(outputs, -1)
        return Factors(v[:, :r], last)

    @override
    def lift(self, first: Array) -> Array:
        channels, r, k = first.shape
        full = np.zeros((channels, r, channels, k))
        at = np.arange(channels)
        full[at, :, at] = first
        return full.reshape(channels * r, channels * k)

    @override
    def drop(self, full: Array) -> Array:
        channels, r = self.shape[1], self.multiplier
        at = np.arange(channels)
        return full.reshape(channels, r, channels, -1)[at, :, at]

    @override
    def normal(self, gram: Array, covariance: Array) -> Callable[[Array], Array]:
        # Of the product with H only the blocks on the diagonal count: much less work.
        channels, r = self.shape[1], self.multiplier
        columns = np.ascontiguousarray(gram.reshape(-1, channels, r).transpose(1, 0, 2))
        inner = covariance.reshape(len(covariance), channels, -1)
        read = np.ascontiguousarray(inner.transpose(1, 0, 2))

        def product(first: Array) -> Array:
            lifted = (columns @ first).transpose(1, 0, 2)  # [m, C, k]
            rows = lifted.reshape(channels, r, -1)
            return np.asarray(rows @ read)

        return product


@dataclass(frozen=True, slots=True)
class LowRank(Form):
    """A layer with `rank` results, then a pointwise one: of what is read the main directions.

    The optimum is known: with ``W H W^T = U L U^T`` the last factor is ``U_r`` and the first
    ``U_r^T W``; the error is the sum of the other eigenvalues (:func:`cut_energy`).

    References
    ----------
    Zhang et al., arXiv:1505.06798, section 3.1; Eckart and Young (1936).
    """

    shape: tuple[int, ...]
    rank: int

    def __str__(self) -> str:
        return f"rank {self.rank}"

    @override
    def problem(self) -> str | None:
        most = min(self.shape[0], math.prod(self.shape[1:]))
        return _outside("a rank", self.rank, most)

    @property
    @override
    def units(self) -> int:
        return self.rank

    @override
    def blank(self) -> Factors:
        outputs, *inner = self.shape
        return Factors(np.zeros((self.rank, math.prod(inner))), np.zeros((outputs, self.rank)))

    @override
    def start(self, weight: Array) -> Factors:
        u, s, v = np.linalg.svd(weight, full_matrices=False)
        r = self.rank
        return Factors(v[:r], u[:, :r] * s[:r])

    @override
    def lift(self, first: Array) -> Array:
        return first

    @override
    def drop(self, full: Array) -> Array:
        return full

    @override
    def fitted(
        self,
        weight: Array,
        covariance: Array,
        metric: Array | None = None,
        turns: int = TURNS,
    ) -> Factors:
        counts = or_alike(metric, len(weight))
        last, inner = _directions(weight @ covariance @ weight.T, counts, self.rank)
        return Factors(inner @ weight, last)


@dataclass(frozen=True, slots=True)
class Spatial(Form):
    """A convolution along the first axis with `rank` results, then one along the second.

    ``W[o, c, u, v] = sum_s A[o, s, v] B[s, c, u]``; what is free in the first is ``B``,
    ``[r, C, kh]``.

    References
    ----------
    Jaderberg et al., arXiv:1405.3866, section 2.1, scheme 2 (the start).
    """

    shape: tuple[int, ...]
    rank: int

    def __str__(self) -> str:
        return f"spatial, rank {self.rank}"

    @override
    def problem(self) -> str | None:
        if len(self.shape) != 4:
            return "is no convolution over images, and has no spatial form"
        outputs, channels, kh, kw = self.shape
        return _outside("a rank", self.rank, min(outputs * kw, channels * kh))

    @property
    @override
    def units(self) -> int:
        return self.rank

    @override
    def blank(self) -> Factors:
        outputs, channels, kh, kw = self.shape
        first = np.zeros((self.rank, channels, kh))
        return Factors(first, np.zeros((outputs, self.rank * kw)))

    @override
    def start(self, weight: Array) -> Factors:
        outputs, channels, kh, kw = self.shape
        unfolded = weight.reshape(self.shape).transpose(0, 3, 1, 2).reshape(outputs * kw, -1)
        u, s, v = np.linalg.svd(unfolded, full_matrices=False)
        r = self.rank
        last = (u[:, :r] * s[:r]).reshape(outputs, kw, r).transpose(0, 2, 1)
        return Factors(v[:r].reshape(r, channels, kh), last.reshape(outputs, r * kw))

    @override
    def lift(self, first: Array) -> Array:
        kw = self.shape[3]
        full = np.zeros((self.rank, kw, *first.shape[1:], kw))
        for v in range(kw):
            full[:, v, :, :, v] = first
        return full.reshape(self.rank * kw, -1)

    @override
    def drop(self, full: Array) -> Array:
        _, channels, kh, kw = self.shape
        split = full.reshape(self.rank, kw, channels, kh, kw)
        return np.asarray(sum(split[:, v, :, :, v] for v in range(kw)))

    @override
    def normal(self, gram: Array, covariance: Array) -> Callable[[Array], Array]:
        # Only products with the blocks of one column of the kernel count.
        _, channels, kh, kw = self.shape
        columns = gram.reshape(-1, self.rank, kw)
        read = covariance.reshape(len(covariance), channels * kh, kw)
        by_column = np.ascontiguousarray(read.transpose(2, 0, 1))

        def product(first: Array) -> Array:
            flat = first.reshape(self.rank, -1)
            lifted = np.stack([columns[:, :, v] @ flat for v in range(kw)], axis=-1)
            rows = lifted.reshape(self.rank, kw, -1).transpose(1, 0, 2)
            return np.asarray((rows @ by_column).sum(axis=0).reshape(first.shape))

        return product


@dataclass(frozen=True, slots=True)
class Tucker(Form):
    """A pointwise layer to `inner` channels, a convolution to `rank`, and a pointwise one.

    What is free in the first is the pointwise ``V [inner, C]``; the last two are one factor of
    low rank, ``A = U_r U_r^T A'`` with ``A'`` the one without that limit.

    References
    ----------
    Kim et al., arXiv:1511.06530, section 3.1.
    """

    shape: tuple[int, ...]
    inner: int
    rank: int

    def __str__(self) -> str:
        return f"tucker, {self.inner} to {self.rank}"

    @override
    def problem(self) -> str | None:
        if len(self.shape) < 3:
            return "is a product without a kernel, and has no Tucker form"
        outputs, channels, *kernel = self.shape
        most = min(channels, outputs * math.prod(kernel))
        return _outside("an inner rank", self.inner, most) or _outside(
            "a rank", self.rank, min(self.shape[0], self.inner * math.prod(self.shape[2:]))
        )

    @property
    @override
    def units(self) -> int:
        return self.inner

    @override
    def blank(self) -> Factors:
        outputs, channels, *kernel = self.shape
        last = np.zeros((outputs, self.inner * math.prod(kernel)))
        return Factors(np.zeros((self.inner, channels)), last)

    @override
    def start(self, weight: Array) -> Factors:
        outputs, channels, *_ = self.shape
        unfolded = weight.reshape(outputs, channels, -1).transpose(1, 0, 2)
        u, *_ = np.linalg.svd(unfolded.reshape(channels, -1), full_matrices=False)
        first = u[:, : self.inner].T
        lifted = self.lift(first)
        alike = np.eye(weight.shape[1]), np.eye(outputs)
        return Factors(first, self.last(lifted, weight, *alike))

    @override
    def lift(self, first: Array) -> Array:
        places = int(np.prod(self.shape[2:]))
        return np.kron(first, np.eye(places))

    @override
    def drop(self, full: Array) -> Array:
        channels, places = self.shape[1], int(np.prod(self.shape[2:]))
        split = full.reshape(self.inner, places, channels, places)
        return np.asarray(np.einsum("spcp->sc", split))

    @override
    def normal(self, gram: Array, covariance: Array) -> Callable[[Array], Array]:
        # Only products with the blocks of one place in the kernel count.
        channels, places = self.shape[1], math.prod(self.shape[2:])
        split = gram.reshape(self.inner, places, self.inner, places).transpose(1, 0, 3, 2)
        rows = np.ascontiguousarray(split).reshape(places, -1, self.inner)
        read = covariance.reshape(len(covariance), channels, places)
        by_place = np.ascontiguousarray(read.transpose(2, 0, 1))

        def product(first: Array) -> Array:
            made = (rows @ first).reshape(places, self.inner, places, channels)
            lifted = made.transpose(0, 1, 3, 2).reshape(places, self.inner, -1)
            return np.asarray((lifted @ by_place).sum(axis=0))

        return product

    @override
    def last(self, lifted: Array, weight: Array, covariance: Array, metric: Array) -> Array:
        free = Form.last(self, lifted, weight, covariance, metric)
        yielded = free @ (lifted @ covariance @ lifted.T) @ free.T
        outer, inner = _directions(yielded, metric, self.rank)
        return np.asarray(outer @ (inner @ free))


def _directions(yielded: Array, metric: Array, rank: int) -> tuple[Array, Array]:
    """Return ``A [O, r]`` and ``B [r, O]`` with ``A B`` the best projection of results.

    With ``G^(1/2) Y G^(1/2) = U L U^T``, where ``Y`` is the covariance of the results:
    ``A = G^(-1/2) U_r`` and ``B = U_r^T G^(1/2)``.
    """
    values, axes = np.linalg.eigh(metric)
    root = np.sqrt(np.maximum(values, NOTHING * values.max(initial=0)))
    half, back = (axes * root) @ axes.T, (axes / root) @ axes.T
    _, found = np.linalg.eigh(half @ yielded @ half)
    u = np.ascontiguousarray(found[:, ::-1][:, :rank])
    return back @ u, u.T @ half


def _outside(what: str, rank: int, most: int) -> str | None:
    return None if 1 <= rank <= most else f"can have {what} of {most} at most, not {rank}"


def cut_energy(weight: Array, covariance: Array) -> Array:
    """Return the squared error of each rank, from 0 on, that :class:`LowRank` leaves."""
    values = np.maximum(np.linalg.eigvalsh(weight @ covariance @ weight.T), 0)
    return np.asarray(np.append(np.cumsum(values)[::-1], 0.0))
