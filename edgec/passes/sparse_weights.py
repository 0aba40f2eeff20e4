"""Which weights of a layer become zero, and what the others become to make up for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import Array
from edgec.passes.compensated_rounding import Factor, damped

__all__ = ["Sparsity", "fitted_to", "mask_by_magnitude", "pruned"]

_DAMPING = 0.01
_BLOCK = 64
_STEPS = 40
_CLOSE = 1e-7
"""Of the square of what is missing at the start: the error follows to a few thousandths."""


@dataclass(frozen=True, slots=True)
class Sparsity:
    """How many weights become zero.

    Parameters
    ----------
    share
        Of all weights of a layer that become zero; not used with a pattern.
    pattern
        At most how many are left of how many that follow each other along the input channels.
    """

    share: float = 0.5
    pattern: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.pattern is None:
            return f"{100 * self.share:g} %"
        return f"{self.pattern[0]}:{self.pattern[1]}"


def pruned(
    weight: Array, hessian: Array, sparsity: Sparsity, inner: int, *, fit: bool = True
) -> Array:
    """Return weights of which some are zero, with ``(w - v) H (w - v)^T`` small for each row.

    Columns are taken one after the other. What a zero costs is ``w^2 / U_jj^2``, with ``U`` the
    upper Cholesky factor of the inverse of ``H``: with what the columns still to come will make
    up for. Of each block of columns the zeros are those that cost least; with a pattern, those
    of each few columns in a row. At last all weights that are left are fitted together.

    Parameters
    ----------
    weight
        ``[G, O, n]``, float64.
    hessian
        ``[G, n, n]``.
    inner
        How many of the columns belong to one input channel: a pattern goes along the channels.
    fit
        Whether all weights are fitted at last; without that it is quicker and nearly as good.

    References
    ----------
    Frantar and Alistarh, arXiv:2301.00774 (SparseGPT), algorithm 1; the fit at the end is
    that of arXiv:2208.11580 (ExactOBS) for the zeros chosen.
    """
    order = along_channels(weight.shape[2], inner)
    factor = Factor.of(hessian, _DAMPING, np.repeat(order[None], len(weight), axis=0))
    upper, left = factor.upper, weight[:, :, order].copy()
    n = left.shape[2]
    step = _BLOCK
    if sparsity.pattern is not None:
        channels = n // inner
        ends = [
            start + min(k + sparsity.pattern[1], channels)
            for start in range(0, n, channels)
            for k in range(0, channels, sparsity.pattern[1])
        ]
    else:
        ends = [min(k + step, n) for k in range(0, n, step)]
    used = np.take_along_axis(np.einsum("gnn->gn", hessian), factor.order, axis=1) > 0
    kept = np.ones(left.shape, bool)
    begin = 0
    for end in ends:
        pivots = np.einsum("gnn->gn", upper)[:, None, begin:end]
        cost = (left[:, :, begin:end] / pivots) ** 2 * used[:, None, begin:end]
        kept[:, :, begin:end] = _dearest(cost, sparsity)
        errors = np.zeros(cost.shape)
        for j in range(begin, end):
            error = np.where(kept[:, :, j], 0, left[:, :, j] / upper[:, None, j, j])
            errors[:, :, j - begin] = error
            left[:, :, j:end] -= error[:, :, None] * upper[:, None, j, j:end]
        left[:, :, end:] -= errors @ upper[:, begin:end, end:]
        begin = end
    back = np.argsort(order)
    if not fit:
        return np.asarray(np.where(kept, left, 0)[:, :, back])
    return fitted_to(weight, hessian, kept[:, :, back])


def along_channels(n: int, inner: int) -> Array:
    """Return the order of columns in which those of one place of the kernel come together."""
    return np.arange(n).reshape(-1, inner).T.ravel()


def mask_by_magnitude(weight: Array, sparsity: Sparsity, inner: int) -> Array:
    """Return which weights are left if the smallest become zero."""
    n = weight.shape[2]
    order = along_channels(n, inner)
    cost = weight[:, :, order] ** 2
    kept = np.ones(cost.shape, bool)
    if sparsity.pattern is None:
        kept = _dearest(cost, sparsity)
    else:
        channels = n // inner
        for start in range(0, n, channels):
            for k in range(0, channels, sparsity.pattern[1]):
                part = slice(start + k, start + min(k + sparsity.pattern[1], channels))
                kept[:, :, part] = _dearest(cost[:, :, part], sparsity)
    return np.asarray(kept[:, :, np.argsort(order)])


def _dearest(cost: Array, sparsity: Sparsity) -> Array:
    """Return which of some weights ``[G, O, columns]`` are left."""
    if sparsity.pattern is not None:
        rank = np.argsort(np.argsort(-cost, axis=2, kind="stable"), axis=2, kind="stable")
        return np.asarray(rank < sparsity.pattern[0])
    gone = round(sparsity.share * cost.size)
    kept = np.ones(cost.size, bool)
    kept[np.argsort(cost.ravel(), kind="stable")[:gone]] = False
    return kept.reshape(cost.shape)


def fitted_to(weight: Array, hessian: Array, kept: Array) -> Array:
    """Return weights that are zero where not kept, and nearest to those given elsewhere.

    The least squares ``(w - v) H (w - v)^T`` of each row over what is kept, by conjugate
    gradients with the diagonal as preconditioner: no step makes an error larger.
    """
    whole = damped(hessian, _DAMPING)
    diagonal = np.einsum("gnn->gn", whole)[:, None, :]
    found = np.where(kept, weight, 0)
    residual = np.where(kept, (weight - found) @ whole, 0)
    scaled = residual / diagonal
    along = scaled.copy()
    square = np.einsum("gon,gon->go", residual, scaled)
    begun = np.maximum(square, np.finfo(np.float64).tiny)
    for _ in range(_STEPS):
        product = np.where(kept, along @ whole, 0)
        curvature = np.einsum("gon,gon->go", along, product)
        open_ = (curvature > 0) & (square > _CLOSE * begun)
        if not open_.any():
            break
        step = np.where(open_, square / np.where(open_, curvature, 1), 0)[:, :, None]
        found = found + step * along
        residual = residual - step * product
        scaled = residual / diagonal
        now = np.einsum("gon,gon->go", residual, scaled)
        along = (
            scaled + np.where(open_, now / np.maximum(square, 1e-300), 0)[:, :, None] * along
        )
        square = np.where(open_, now, square)
    return np.asarray(found)
