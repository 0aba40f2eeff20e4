"""Operators that act on each element alone, or on elements of several values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgec import ops
from edgec.differentiable.rule import Rule, activated
from edgec.ir import DType, Op

__all__ = ["ELEMENTWISE", "TORCH_TYPES"]

TORCH_TYPES = {
    DType.FLOAT16: torch.float16,
    DType.BFLOAT16: torch.bfloat16,
    DType.FLOAT32: torch.float32,
    DType.FLOAT64: torch.float64,
    DType.BOOL: torch.bool,
    DType.INT8: torch.int8,
    DType.INT16: torch.int16,
    DType.INT32: torch.int32,
    DType.INT64: torch.int64,
    DType.UINT8: torch.uint8,
    DType.UINT16: torch.uint16,
    DType.UINT32: torch.uint32,
    DType.UINT64: torch.uint64,
}


def _clip(op: ops.Clip, x: Tensor) -> Tensor:
    return x.clamp(op.low, op.high)


def _gelu(op: ops.Gelu, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=op.approximate)


def _selu(op: ops.Selu, x: Tensor) -> Tensor:
    negative = op.alpha * (x.clamp(max=0).exp() - 1)
    return op.gamma * torch.where(x > 0, x, negative)


def _shrink(op: ops.Shrink, x: Tensor) -> Tensor:
    above = torch.where(x > op.lambd, x - op.bias, 0 * x)
    return torch.where(x < -op.lambd, x + op.bias, above)


def _prelu(op: ops.PRelu, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def _is_infinite(op: ops.IsInf, x: Tensor) -> Tensor:
    nothing = torch.zeros_like(x, dtype=torch.bool)
    above = x == math.inf if op.positive else nothing
    return above | (x == -math.inf if op.negative else nothing)


def _cast(op: ops.Cast, x: Tensor) -> Tensor:
    return x != 0 if op.to is DType.BOOL else x.to(TORCH_TYPES[op.to])


def _divided(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _power(op: ops.Pow, x: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(x, exponent).to(x.dtype)


def _remainder(op: ops.Mod, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if op.fmod else torch.remainder(a, b)


def _shifted(op: ops.BitShift, a: Tensor, b: Tensor) -> Tensor:
    wide, places = a.to(torch.int64), b.to(torch.int64)
    moved = wide << places if op.left else wide >> places
    return moved.to(a.dtype)


def _where(op: ops.Where, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _dropout(op: ops.Dropout, x: Tensor) -> tuple[Tensor, Tensor]:
    return x, torch.ones_like(x, dtype=torch.bool)


def _of_one(function: Callable[[Tensor], Tensor]) -> Rule:
    """Return the rule of an operator without attributes."""
    return lambda op, x: function(x)


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    return lambda op, a, b: function(a, b)


def _activated(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """Return the rule of an operator of two values that carries an activation."""
    return lambda op, a, b: activated(function(a, b), op.activation)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """Return the rule of an operator of any number of values."""
    return lambda op, *values: reduce(function, values)


def _mean(op: ops.Mean, *values: Tensor) -> Tensor:
    total: Any = reduce(torch.add, values)
    return total / len(values)


ELEMENTWISE: dict[type[Op], Rule] = {
    ops.Abs: _of_one(torch.abs),
    ops.Acos: _of_one(torch.acos),
    ops.Acosh: _of_one(torch.acosh),
    ops.Add: _activated(torch.add),
    ops.And: _of_two(torch.logical_and),
    ops.Asin: _of_one(torch.asin),
    ops.Asinh: _of_one(torch.asinh),
    ops.Atan: _of_one(torch.atan),
    ops.Atanh: _of_one(torch.atanh),
    ops.BitShift: _shifted,
    ops.BitwiseAnd: _of_two(torch.bitwise_and),
    ops.BitwiseNot: _of_one(torch.bitwise_not),
    ops.BitwiseOr: _of_two(torch.bitwise_or),
    ops.BitwiseXor: _of_two(torch.bitwise_xor),
    ops.Cast: _cast,
    ops.Ceil: _of_one(torch.ceil),
    ops.Celu: lambda op, x: functional.celu(x, op.alpha),
    ops.Clip: _clip,
    ops.Cos: _of_one(torch.cos),
    ops.Cosh: _of_one(torch.cosh),
    ops.Div: _activated(_divided),
    ops.Dropout: _dropout,
    ops.Elu: lambda op, x: functional.elu(x, op.alpha),
    ops.Equal: _of_two(torch.eq),
    ops.Erf: _of_one(torch.erf),
    ops.Exp: _of_one(torch.exp),
    ops.Floor: _of_one(torch.floor),
    ops.Gelu: _gelu,
    ops.Greater: _of_two(torch.gt),
    ops.GreaterOrEqual: _of_two(torch.ge),
    ops.HardSigmoid: lambda op, x: (op.alpha * x + op.beta).clamp(0, 1),
    ops.HardSwish: lambda op, x: x * (x / 6 + 0.5).clamp(0, 1),
    ops.Identity: _of_one(lambda x: x),
    ops.IsInf: _is_infinite,
    ops.IsNaN: _of_one(torch.isnan),
    ops.LeakyRelu: lambda op, x: functional.leaky_relu(x, op.alpha),
    ops.Less: _of_two(torch.lt),
    ops.LessOrEqual: _of_two(torch.le),
    ops.Log: _of_one(torch.log),
    ops.Max: _folded(torch.maximum),
    ops.Mean: _mean,
    ops.Min: _folded(torch.minimum),
    ops.Mish: _of_one(functional.mish),
    ops.Mod: _remainder,
    ops.Mul: _activated(torch.mul),
    ops.Neg: _of_one(torch.neg),
    ops.Not: _of_one(torch.logical_not),
    ops.Or: _of_two(torch.logical_or),
    ops.PRelu: _prelu,
    ops.Pow: _power,
    ops.Reciprocal: _of_one(torch.reciprocal),
    ops.Relu: _of_one(torch.relu),
    ops.Round: _of_one(torch.round),
    ops.Selu: _selu,
    ops.Shrink: _shrink,
    ops.Sigmoid: _of_one(torch.sigmoid),
    ops.Sign: _of_one(torch.sign),
    ops.Sin: _of_one(torch.sin),
    ops.Sinh: _of_one(torch.sinh),
    ops.Softplus: _of_one(functional.softplus),
    ops.Softsign: _of_one(functional.softsign),
    ops.Sqrt: _of_one(torch.sqrt),
    ops.Sub: _activated(torch.sub),
    ops.Sum: _folded(torch.add),
    ops.Swish: lambda op, x: x * torch.sigmoid(op.alpha * x),
    ops.Tan: _of_one(torch.tan),
    ops.Tanh: _of_one(torch.tanh),
    ops.ThresholdedRelu: lambda op, x: torch.where(x > op.alpha, x, 0 * x),
    ops.Where: _where,
    ops.Xor: _of_two(torch.logical_xor),
}
