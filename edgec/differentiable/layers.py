"""Convolutions, products and pools."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgec import ops
from edgec.differentiable.rule import Rule, activated, along
from edgec.ir import Op

__all__ = ["LAYERS"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float) -> Tensor:
    """Return ``x`` with a frame around its last axes; negative ends are cut off."""
    if not any(before) and not any(after):
        return x
    ends = [e for pair in zip(reversed(before), reversed(after), strict=True) for e in pair]
    return functional.pad(x, ends, value=value)


def _convolution(op: ops.Convolution, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    axes = len(op.stride)
    before, after = op.pad[:axes], op.pad[axes:]
    if before != after:
        x, before = _padded(x, before, after, 0.0), (0,) * axes
    groups = x.shape[1] // w.shape[1]
    y = _CONVOLUTIONS[axes](x, w, b, op.stride, before, op.dilation, groups)
    return activated(y, op.activation)


def _transposed(op: ops.ConvTranspose, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    axes = len(op.stride)
    run = _TRANSPOSED[axes]
    y = run(x, w, None, op.stride, 0, 0, op.groups, op.dilation)
    before = [-p for p in op.pad[:axes]]
    after = [o - p for o, p in zip(op.output_pad, op.pad[axes:], strict=True)]
    y = _padded(y, before, after, 0.0)
    return y if b is None else y + along(b, 1, y.ndim)


def _fully_connected(
    op: ops.FullyConnected, x: Tensor, w: Tensor, b: Tensor | None = None
) -> Tensor:
    return activated(functional.linear(x, w, b), op.activation)


def _gemm(op: ops.Gemm, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    left, right = a.T if op.trans_a else a, b.T if op.trans_b else b
    y = op.alpha * (left @ right)
    return y if c is None else y + op.beta * c


def _frame(op: ops.Pool, x: Tensor) -> tuple[list[int], list[int]]:
    """Return what to pad before and after each axis so that the last windows end with it."""
    axes, size = len(op.kernel), x.shape[2:]
    out = op.window.out(size, op.pad, ceil=op.ceil_mode)
    reached = [(int(out[i]) - 1) * op.stride[i] + op.window.span[i] for i in range(axes)]
    return list(op.pad[:axes]), [reached[i] - size[i] - op.pad[i] for i in range(axes)]


def _max_pool(op: ops.MaxPool, x: Tensor) -> Tensor:
    before, after = _frame(op, x)
    least = -float("inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    whole = _padded(x, before, after, least)
    return _MAX_POOLS[len(op.kernel)](whole, op.kernel, op.stride, 0, op.dilation)


def _windows(op: ops.Pool, x: Tensor, before: list[int], after: list[int]) -> Iterator[Tensor]:
    """Yield what each place of the window sees; padding is zero."""
    whole, size = _padded(x, before, after, 0.0), x.shape[2:]
    out = op.window.out(size, op.pad, ceil=op.ceil_mode)
    for place in itertools.product(*map(range, op.kernel)):
        cut = [
            slice(k * d, k * d + (int(n) - 1) * s + 1, s)
            for k, d, n, s in zip(place, op.dilation, out, op.stride, strict=True)
        ]
        yield whole[(slice(None), slice(None), *cut)]


def _counts(op: ops.AveragePool, x: Tensor) -> Tensor:
    """Return how many elements count under each window, without N and C."""
    found = np.ones((), np.int64)
    for i, length in enumerate(x.shape[2:]):
        low, high = 0, length
        if op.count_include_pad:
            low, high = -op.pad[i], length + op.pad[i + len(op.kernel)]
        out = int(op.window.out(x.shape[2:], op.pad, ceil=op.ceil_mode)[i])
        at = np.arange(out)[:, None] * op.stride[i] - op.pad[i]
        at = at + np.arange(op.kernel[i]) * op.dilation[i]
        found = found[..., None] * ((at >= low) & (at < high)).sum(1)
    return torch.from_numpy(np.maximum(found, 1))


def _average_pool(op: ops.AveragePool, x: Tensor) -> Tensor:
    before, after = _frame(op, x)
    plain = not any((*before, *after))
    if all(d == 1 for d in op.dilation):
        whole = _padded(x, before, after, 0.0)
        y = _AVERAGE_POOLS[len(op.kernel)](whole, op.kernel, op.stride)
        if plain:
            return y
        y = y * int(np.prod(op.kernel))
    else:
        y = torch.stack(list(_windows(op, x, before, after))).sum(0)
    return y / _counts(op, x).to(y.dtype)


def _norm_pool(op: ops.LpPool, x: Tensor) -> Tensor:
    before, after = _frame(op, x)
    powers = torch.stack([w.abs() ** op.p for w in _windows(op, x, before, after)])
    return powers.sum(0) ** (1 / op.p)


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


LAYERS: dict[type[Op], Rule] = {
    ops.AveragePool: _average_pool,
    ops.Conv: _convolution,
    ops.ConvTranspose: _transposed,
    ops.DepthwiseConv: _convolution,
    ops.Det: lambda op, x: torch.linalg.det(x),
    ops.DilatedAveragePool: _average_pool,
    ops.Einsum: lambda op, *values: torch.einsum(op.equation, *values),
    ops.FullyConnected: _fully_connected,
    ops.Gemm: _gemm,
    ops.GlobalAveragePool: lambda op, x: x.mean(_spatial(x), keepdim=True),
    ops.GlobalLpPool: lambda op, x: (
        (x.abs() ** op.p).sum(_spatial(x), keepdim=True) ** (1 / op.p)
    ),
    ops.GlobalMaxPool: lambda op, x: x.amax(_spatial(x), keepdim=True),
    ops.GroupedConv: _convolution,
    ops.LpPool: _norm_pool,
    ops.MatMul: lambda op, a, b: torch.matmul(a, b),
    ops.MaxPool: _max_pool,
}
