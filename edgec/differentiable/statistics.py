"""Reductions, running sums and normalisations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgec import ops
from edgec.differentiable.rule import Rule, along
from edgec.ir import Op

__all__ = ["STATISTICS"]

_LEAST_DEVIATION = 1e-9  # ONNX's MeanVarianceNormalization


def _whole(total: Tensor, like: Tensor) -> Tensor:
    return total.to(like.dtype)


def _sum(op: ops.Reduction, x: Tensor) -> Tensor:
    return _whole(x.sum(op.axes, op.keepdims), x) if op.axes else x


def _mean(op: ops.ReduceMean, x: Tensor) -> Tensor:
    return x.mean(op.axes, op.keepdims) if op.axes else x


def _product(op: ops.ReduceProd, x: Tensor) -> Tensor:
    for axis in sorted(op.axes, reverse=True):
        x = _whole(x.prod(axis, op.keepdims), x)
    return x


def _extreme(op: ops.Reduction, x: Tensor) -> Tensor:
    if not op.axes:
        return x
    if x.dtype == torch.bool:
        return (torch.any if isinstance(op, ops.ReduceMax) else torch.all)(
            x, op.axes, op.keepdims
        )
    run = torch.amax if isinstance(op, ops.ReduceMax) else torch.amin
    return run(x, op.axes, op.keepdims)


def _log_sum_exp(op: ops.ReduceLogSumExp, x: Tensor) -> Tensor:
    return torch.logsumexp(x, op.axes, op.keepdims) if op.axes else x


def _place(op: ops.PlaceAlongAxis, x: Tensor) -> Tensor:
    run = torch.argmax if isinstance(op, ops.ArgMax) else torch.argmin
    if not op.last:
        return run(x, op.axis, op.keepdims)
    return x.shape[op.axis] - 1 - run(x.flip(op.axis), op.axis, op.keepdims)


def _cumulated(op: ops.Cumulative, x: Tensor) -> Tensor:
    axis, product = op.axis, isinstance(op, ops.CumProd)
    if op.reverse:
        x = x.flip(axis)
    if op.exclusive:
        first = torch.full_like(x.narrow(axis, 0, 1), int(product))
        x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    y = _whole(x.cumprod(axis) if product else x.cumsum(axis), x)
    return y.flip(axis) if op.reverse else y


def _batch_norm(
    op: ops.BatchNorm, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor
) -> Tensor:
    factor = gamma / torch.sqrt(var + op.epsilon)
    return (x - along(mean, 1, x.ndim)) * along(factor, 1, x.ndim) + along(beta, 1, x.ndim)


def _standard(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(axes, keepdim=True) + epsilon)


def _instance_norm(op: ops.InstanceNorm, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    y = _standard(x, tuple(range(2, x.ndim)), op.epsilon)
    return y * along(gamma, 1, x.ndim) + along(beta, 1, x.ndim)


def _group_norm(op: ops.GroupNorm, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    parts = x.reshape(x.shape[0], op.groups, -1)
    y = _standard(parts, (2,), op.epsilon).reshape(x.shape)
    return y * along(gamma, 1, x.ndim) + along(beta, 1, x.ndim)


def _layer_norm(
    op: ops.LayerNorm, x: Tensor, gamma: Tensor, beta: Tensor | None = None
) -> Tensor:
    y = _standard(x, tuple(range(x.ndim + op.axis, x.ndim)), op.epsilon) * gamma
    return y if beta is None else y + beta


def _rms_norm(op: ops.RMSNorm, x: Tensor, gamma: Tensor) -> Tensor:
    axes = tuple(range(x.ndim + op.axis, x.ndim))
    return x / torch.sqrt((x**2).mean(axes, keepdim=True) + op.epsilon) * gamma


def _mean_variance(op: ops.MeanVarianceNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(op.axes, keepdim=True)
    deviation = torch.sqrt((centred**2).mean(op.axes, keepdim=True))
    return centred / (deviation + _LEAST_DEVIATION)


def _norm(op: ops.LpNorm, x: Tensor) -> Tensor:
    powers = (x.abs() ** op.p).sum(op.axis, keepdim=True)
    return x / powers ** (1 / op.p)


def _response_norm(op: ops.LRN, x: Tensor) -> Tensor:
    """Normalise by the channels around; windows that leave the image see zeros."""
    flat = (x**2).reshape(x.shape[0], 1, x.shape[1], -1)
    half = op.size // 2
    sums = (
        functional.avg_pool2d(functional.pad(flat, (0, 0, half, half)), (op.size, 1), 1)
        * op.size
    )
    return x / (op.bias + op.alpha / op.size * sums.reshape(x.shape)) ** op.beta


def _hardmax(op: ops.Hardmax, x: Tensor) -> Tensor:
    first = x.argmax(op.axis, keepdim=True)
    places = along(torch.arange(x.shape[op.axis]), op.axis, x.ndim)
    return (places == first).to(x.dtype)


STATISTICS: dict[type[Op], Rule] = {
    ops.ArgMax: _place,
    ops.ArgMin: _place,
    ops.BatchNorm: _batch_norm,
    ops.CumProd: _cumulated,
    ops.CumSum: _cumulated,
    ops.GroupNorm: _group_norm,
    ops.Hardmax: _hardmax,
    ops.InstanceNorm: _instance_norm,
    ops.LRN: _response_norm,
    ops.LayerNorm: _layer_norm,
    ops.LogSoftmax: lambda op, x: torch.log_softmax(x, op.axis),
    ops.LpNorm: _norm,
    ops.MeanVarianceNorm: _mean_variance,
    ops.RMSNorm: _rms_norm,
    ops.ReduceL1: lambda op, x: _sum(op, x.abs()),
    ops.ReduceL2: lambda op, x: torch.sqrt(_sum(op, x**2)),
    ops.ReduceLogSum: lambda op, x: torch.log(_sum(op, x)),
    ops.ReduceLogSumExp: _log_sum_exp,
    ops.ReduceMax: _extreme,
    ops.ReduceMean: _mean,
    ops.ReduceMin: _extreme,
    ops.ReduceProd: _product,
    ops.ReduceSum: _sum,
    ops.ReduceSumSquare: lambda op, x: _sum(op, x**2),
    ops.Softmax: lambda op, x: torch.softmax(x, op.axis),
}
