"""Between which numbers a value lies, whatever goes in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir import Node, Value
from edgec.ops import (
    AveragePool,
    Binary,
    Clip,
    Concat,
    Convolution,
    Expand,
    FullyConnected,
    GlobalAveragePool,
    GlobalMaxPool,
    HardSigmoid,
    MaxPool,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Tanh,
    Transpose,
)

__all__ = ["UNBOUNDED", "bounds", "own_bounds"]

Bounds = tuple[float, float]

UNBOUNDED: Bounds = (-np.inf, np.inf)

_DEPTH = 8
_KEEPS = (
    AveragePool, Concat, Expand, GlobalAveragePool, GlobalMaxPool, MaxPool, Reshape, Slice,
    Transpose,
)  # fmt: skip
"""Results are operands, or means of them: padding of pools is left out, or counts as zero."""


def bounds(value: Value, producer: Callable[[Value], Node | None]) -> Bounds:
    """Return the least and the largest number that `value` can hold; infinite if not known.

    Parameters
    ----------
    producer
        Returns the node that makes a value, if there is one.
    """
    return _bounds(value, producer, _DEPTH)


def own_bounds(node: Node) -> Bounds:
    """Return the bounds that an operator sets itself."""
    match node.op:
        case Relu():
            return 0.0, np.inf
        case Clip(low, high) if low <= high:
            return low, high
        case Sigmoid() | HardSigmoid() | Softmax():
            return 0.0, 1.0
        case Tanh():
            return -1.0, 1.0
        case Binary() | Convolution() | FullyConnected() as layer:
            return layer.activation.bounds
    return UNBOUNDED


def _bounds(value: Value, producer: Callable[[Value], Node | None], depth: int) -> Bounds:
    node = producer(value)
    if node is None or not depth:
        return UNBOUNDED
    low, high = own_bounds(node)
    if not isinstance(node.op, (Relu, Clip, *_KEEPS)):
        return low, high
    inner = [_bounds(v, producer, depth - 1) for v in node.reads]
    least, largest = min(a for a, _ in inner), max(b for _, b in inner)
    if isinstance(node.op, AveragePool) and node.op.count_include_pad:
        least, largest = min(least, 0.0), max(largest, 0.0)
    least, largest = max(low, least), min(high, largest)
    return (least, largest) if least <= largest else (low, high)
