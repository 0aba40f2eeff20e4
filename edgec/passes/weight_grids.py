"""Grids of weights."""

from __future__ import annotations

import numpy as np

from edgec.ir import Array, QuantParams

__all__ = ["next_power_of_two", "weight_params"]

_FEW_STEPS = 15
"""Up to so many steps to each side, a scale that cuts off the largest weights may pay."""

_SHRUNK = np.linspace(1.0, 0.3, 71)
"""Shares of the largest weight that are tried as the end of the grid."""

_HALVES = np.array((1.0, 0.5, 0.25))


def weight_params(
    weight: Array,
    channel: int | None,
    top: int,
    bias: Array | None = None,
    x_scale: float = 1.0,
    y_scale: float = 1.0,
    *,
    power_of_two: bool = False,
) -> QuantParams:
    """Return symmetric scales of the weights of a layer.

    The largest weight is the last step of the grid; with few steps, the end of the grid is
    where the mean squared error is least. A scale is raised until the bias fits into int32 at
    ``x_scale`` times it, and until kernels can compute with it.

    Parameters
    ----------
    weight
        Weights of any rank.
    channel
        The axis that has a scale for each index; ``None`` for one scale.
    top
        The largest integer.
    bias
        One number for each output channel.
    x_scale, y_scale
        Scales of what the layer reads and makes.
    power_of_two
        Whether scales are powers of two: those that cover the weights, or half of that where
        the mean squared error is less.
    """
    rows = weight.reshape(1, -1)
    if channel is not None:
        rows = np.moveaxis(weight, channel, 0).reshape(weight.shape[channel], -1)
    rows = rows.astype(np.float64)
    scale = np.abs(rows).max(axis=1, initial=0.0) / top
    if power_of_two:
        scale = next_power_of_two(scale)
        scale = scale * _best_shares(rows, scale, top, _HALVES)
    elif top <= _FEW_STEPS:
        scale = scale * _best_shares(rows, scale, top, _SHRUNK)
    if bias is not None:  # room for the bias in 31 bits
        least = np.abs(bias.astype(np.float64)) / (x_scale * 2.0**30)
        scale = np.maximum(scale, least if channel is not None else least.max(initial=0.0))
    # Kernels multiply by s_x * s_w / s_y as a 31-bit number: below 2^-31 nothing would be left.
    floor = max(y_scale / x_scale * 2.0**-31, float(np.finfo(np.float32).tiny) / x_scale)
    scale = np.maximum(scale, max(floor, 2.0**-120))
    if power_of_two:
        scale = next_power_of_two(scale)
    scale = scale.astype(np.float32)
    return QuantParams(tuple(map(float, scale)), (0,) * len(scale), channel)


def next_power_of_two(scale: Array) -> Array:
    """Return the least powers of two that are not below some scales; zero stays zero.

    What is above by no more than float32 rounds a scale is that power.
    """
    mantissa, exponent = np.frexp(scale)
    return np.where(scale > 0, np.ldexp(1.0, exponent - (mantissa <= 0.5 + 2.0**-23)), 0.0)


def _best_shares(rows: Array, scale: Array, top: int, shares: Array) -> Array:
    """Return by which factor each scale had best be smaller, for the least squared error."""
    best, least = np.ones(len(rows)), np.full(len(rows), np.inf)
    for share in shares:
        step = np.maximum(scale * share, np.finfo(np.float64).tiny)[:, None]
        steps = np.clip(np.rint(rows / step), -top, top)
        error = np.square(rows - steps * step).sum(axis=1)
        better = error < least
        best[better], least[better] = share, error[better]
    return best
