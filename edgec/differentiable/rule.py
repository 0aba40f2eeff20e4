"""How one operator is computed on tensors."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from edgec.ops import Activation

__all__ = ["Rule", "activated", "along"]

Rule = Callable[..., Tensor | tuple[Tensor, ...]]
"""Takes an operator and its operands, ``None`` for absent ones; returns the output or all."""


def activated(x: Tensor, activation: Activation) -> Tensor:
    """Return what an activation that an operator carries makes of its result."""
    low, high = activation.bounds
    if activation is Activation.NONE:
        return x
    return x.relu() if activation is Activation.RELU else x.clamp(low, high)


def along(values: Tensor, axis: int, rank: int) -> Tensor:
    """Return a vector in a shape in which it runs along an axis."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)
