"""Quantization, with gradients that go straight through the rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from edgec import ops
from edgec.differentiable.rule import Rule, along
from edgec.ir import Op, QuantParams

__all__ = ["QUANTIZATION", "rounded"]


def rounded(x: Tensor) -> Tensor:
    """Return the nearest integers, halves to even; the gradient is that of ``x`` itself."""
    return x + (x.round() - x).detach()


def _grid(params: QuantParams, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    axis = 0 if params.axis is None else params.axis
    scale, zero = (torch.tensor(p, dtype=dtype) for p in (params.scale, params.zero_point))
    if params.axis is None:
        return scale.reshape(()), zero.reshape(())
    return along(scale, axis, x.ndim), along(zero, axis, x.ndim)


def _quantize(op: ops.Quantize, x: Tensor) -> Tensor:
    scale, zero = _grid(op.params, x, torch.float32)
    return (rounded(x / scale) + zero).clamp(*op.dtype.limits)


def _dequantize(op: ops.Dequantize, x: Tensor) -> Tensor:
    if x.is_floating_point():  # what was quantized here is carried as real numbers
        scale, zero = _grid(op.params, x, torch.float32)
        return (x - zero) * scale
    scale, zero = _grid(op.params, x, torch.float64)  # int32 does not fit into float32
    return ((x.to(torch.float64) - zero) * scale).to(torch.float32)


QUANTIZATION: dict[type[Op], Rule] = {
    ops.Dequantize: _dequantize,
    ops.Quantize: _quantize,
}
