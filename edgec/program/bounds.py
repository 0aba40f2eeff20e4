"""Between which integers each channel lies, whatever is fed.

Interval arithmetic on what is stored: all that TFLite does to int8 rises or falls with each of
its operands, so the bounds of a result follow from those of the operands. Channels are the
last axis; a bound holds at every place of a picture.

The integers are TFLite Micro's. LiteRT's own CPU kernels and XNNPACK round otherwise: once
where it rounds twice, or a product in float32. Whatever such a kernel stores lies less than 3/4
from the real number that is meant, as what TFLite Micro stores does, so both differ by at most
one integer; a mean may differ by two (see there). Bounds that are to hold for all three are
widened by that after each layer that rounds. Other runtimes are not covered: a GPU delegate
that computes in float16 may be further off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgec.ir import Array, DType
from edgec.program import operators as ops
from edgec.program.arithmetic import (
    Ints,
    Multiplier,
    multiplied,
    multipliers_of,
    output_range,
    rounds_clearly,
)
from edgec.program.operators import Activation, Operator
from edgec.program.program import Layer, Program
from edgec.program.tensors import Tensor

__all__ = ["Bounds", "bounds_of", "channels_of"]

_INT32 = (-(1 << 31), (1 << 31) - 1)
_BLOCK = 1 << 20
"""Weights that are looked at together: products of 64 bits take eight times the memory."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the greatest integer that each channel can have."""

    low: Ints
    high: Ints

    @property
    def constant(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Which channels never change."""
        return np.asarray(self.low == self.high)

    def hull(self, value: int) -> Bounds:
        """Return bounds that let a value through, too."""
        return Bounds(np.minimum(self.low, value), np.maximum(self.high, value))

    def clipped(self, low: int, high: int) -> Bounds:
        """Return the bounds of what is clipped."""
        return Bounds(np.clip(self.low, low, high), np.clip(self.high, low, high))

    def stored(self, activation: Activation, result: Tensor, doubt: int) -> Bounds:
        """Return the bounds after an activation.

        Parameters
        ----------
        doubt
            By how much kernels differ in where the activation ends if that lies between two
            integers.
        """
        least, most = result.dtype.limits
        low, high = output_range(activation, result)
        if not doubt or rounds_clearly(activation, result):
            return self.clipped(low, high)
        lower = self.clipped(max(low - doubt, least), max(high - doubt, least))
        upper = self.clipped(min(low + doubt, most), min(high + doubt, most))
        return Bounds(lower.low, upper.high)


def channels_of(tensor: Tensor) -> int:
    """Return how long the last axis is."""
    return tensor.shape[-1] if tensor.shape else 1


def bounds_of(program: Program, slack: int = 0) -> dict[int, Bounds]:
    """Return bounds of all int8 tensors that are fed, stored or computed.

    Parameters
    ----------
    slack
        By how many integers the result of a layer that rounds may differ from TFLite Micro's;
        a mean by twice as many.
    """
    found: dict[int, Bounds] = {}
    for k, tensor in enumerate(program.tensors):
        if tensor.dtype is not DType.INT8:
            continue
        found[k] = _anything(tensor)
        if tensor.data is not None:
            rows = tensor.data.reshape(-1, channels_of(tensor)).astype(np.int64)
            found[k] = Bounds(rows.min(0), rows.max(0))
    for step in program.steps:
        rule = _RULES.get(type(step.op))
        layer = program.layer(step)
        whole = [t for t in (*layer.inputs[:1], *layer.outputs) if t is not None]
        if rule is None or any(t.dtype is not DType.INT8 for t in whole):
            continue
        operands = [found[k] for k in step.inputs if k in found]
        bounds = rule(layer, operands, slack)
        if bounds is not None:
            found[step.outputs[0]] = bounds
    return found


def _anything(tensor: Tensor) -> Bounds:
    low, high = tensor.dtype.limits
    count = channels_of(tensor)
    return Bounds(np.full(count, low, np.int64), np.full(count, high, np.int64))


def _sums(layer: Layer, weights: Array, low: Ints, high: Ints, slack: int) -> Bounds | None:
    """Return bounds of weighted sums as they are stored.

    Parameters
    ----------
    weights
        A row for each result.
    low, high
        Of what each weight is multiplied with, less the zero point: a row for all results, or
        one for each.
    """
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    least, most = np.zeros((2, len(weights)), np.int64)
    if bias is not None:
        assert bias.data is not None
        least += bias.data.reshape(-1)
        most += bias.data.reshape(-1)
    rows = max(1, _BLOCK // max(1, weights[:1].size))
    for start in range(0, len(weights), rows):
        block = slice(start, start + rows)
        ends = [end[block] if len(end) > 1 else end for end in (low, high)]
        a, b = (weights[block].astype(np.int64) * end for end in ends)
        least[block] += np.minimum(a, b).sum(1)
        most[block] += np.maximum(a, b).sum(1)
    factors = multipliers_of(layer)
    values = np.array([m.value for m in factors], np.int64)
    shifts = np.array([m.shift for m in factors], np.int64)
    left = np.left_shift(1, np.maximum(shifts, 0))
    if (least * left < _INT32[0]).any() or (most * left > _INT32[1]).any():
        return None  # sums may wrap around
    y = layer.output
    assert isinstance(layer.op, (ops.Conv, ops.DepthwiseConv, ops.FullyConnected))
    bounds = Bounds(
        multiplied(least, values, shifts) + y.zero_point - slack,
        multiplied(most, values, shifts) + y.zero_point + slack,
    )
    return bounds.stored(layer.op.activation, y, slack)


def _centred(layer: Layer, x: Bounds) -> Bounds:
    """Return bounds of an operand less its zero point; where it is padded, 0 is possible."""
    zero = layer.input(0).zero_point
    bounds = Bounds(x.low - zero, x.high - zero)
    pads = getattr(layer.op, "pads", ())
    return bounds.hull(0) if any(map(any, pads)) else bounds


def _conv(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    x, w = layer.input(0), layer.input(1)
    assert w.data is not None
    depth = w.shape[3]
    if depth != x.shape[3]:
        return None
    bounds = _centred(layer, operands[0])
    weights = w.data.reshape(w.shape[0], -1)
    low, high = (np.tile(b, (1, weights.shape[1] // depth)) for b in (bounds.low, bounds.high))
    return _sums(layer, weights, low, high, slack)


def _depthwise(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    x, w = layer.input(0), layer.input(1)
    assert w.data is not None
    bounds = _centred(layer, operands[0])
    weights = w.data.reshape(-1, w.shape[3]).T
    times = w.shape[3] // x.shape[3]
    low, high = (np.repeat(b, times)[:, None] for b in (bounds.low, bounds.high))
    return _sums(layer, weights, low, high, slack)


def _fully_connected(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    x, w = layer.input(0), layer.input(1)
    assert w.data is not None
    if w.shape[1] % channels_of(x):
        return None
    bounds = _centred(layer, operands[0])
    times = w.shape[1] // channels_of(x)
    low, high = (np.tile(b, (1, times)) for b in (bounds.low, bounds.high))
    return _sums(layer, w.data, low, high, slack)


def _pool(layer: Layer, operands: list[Bounds], slack: int) -> Bounds:
    assert isinstance(layer.op, (ops.AveragePool, ops.MaxPool))
    # A mean of integers lies between them however it is rounded.
    return operands[0].stored(layer.op.activation, layer.output, slack)


def _mean(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    assert isinstance(layer.op, ops.Mean)
    x, y = layer.input(0), layer.output
    if layer.op.axes[-1] == len(x.shape) - 1:
        return None
    count = math.prod(x.shape[a] for a in layer.op.axes)
    factor = Multiplier.of(x.scale / y.scale)
    shift = min(count.bit_length() - 1, 32, 31 + factor.shift)
    value = np.int64((factor.value << shift) // count)
    if value > _INT32[1] or factor.shift > 0:
        return None
    x0, by = x.zero_point, np.int64(factor.shift - shift)
    # LiteRT's own kernel rounds what the zero point takes off alone, by up to 1/2, and then the
    # sum, in two steps by up to 3/4: 5/4 from the real number. TFLite Micro is up to 3/4 from
    # it, perhaps on the other side, so the integers are up to two apart.
    doubt = 2 * slack
    low, high = ((b - x0) * count for b in (operands[0].low, operands[0].high))
    bounds = Bounds(
        multiplied(low, value, by) + y.zero_point - doubt,
        multiplied(high, value, by) + y.zero_point + doubt,
    )
    return bounds.clipped(*y.dtype.limits)


def _add(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    assert isinstance(layer.op, ops.Add)
    a, b, y = layer.input(0), layer.input(1), layer.output
    left = 20
    twice = 2 * max(a.scale, b.scale)
    factors = [Multiplier.of(t.scale / twice) for t in (a, b)]
    last = Multiplier.of(twice / ((1 << left) * y.scale))
    if last.shift > 0:
        return None

    def total(sides: list[Ints]) -> Ints:
        terms = [
            factor.times((side - t.zero_point) << left)
            for factor, side, t in zip(factors, sides, (a, b), strict=True)
        ]
        return last.times(terms[0] + terms[1]) + y.zero_point

    bounds = Bounds(
        total([o.low for o in operands]) - slack, total([o.high for o in operands]) + slack
    )
    return bounds.stored(layer.op.activation, y, slack)


def _reshape(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    (x,), before, after = operands, channels_of(layer.input(0)), channels_of(layer.output)
    if after % before == 0:
        return Bounds(np.tile(x.low, after // before), np.tile(x.high, after // before))
    if before % after == 0:
        return Bounds(x.low.reshape(-1, after).min(0), x.high.reshape(-1, after).max(0))
    return None


def _pad(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    assert isinstance(layer.op, ops.Pad)
    if layer.op.pads and any(layer.op.pads[-1]):
        return None
    return operands[0].hull(int(layer.op.value))


def _concatenation(layer: Layer, operands: list[Bounds], slack: int) -> Bounds | None:
    assert isinstance(layer.op, ops.Concatenation)
    grids = {t.grid for t in (*layer.inputs, layer.output) if t is not None}
    if len(grids) != 1 or layer.op.activation != "none":
        return None
    if layer.op.axis == len(layer.output.shape) - 1:
        return Bounds(
            np.concatenate([o.low for o in operands]),
            np.concatenate([o.high for o in operands]),
        )
    return Bounds(np.min([o.low for o in operands], 0), np.max([o.high for o in operands], 0))


_RULES: Mapping[type[Operator], Callable[[Layer, list[Bounds], int], Bounds | None]] = (
    MappingProxyType(
        {
            ops.Add: _add,
            ops.AveragePool: _pool,
            ops.Concatenation: _concatenation,
            ops.Conv: _conv,
            ops.DepthwiseConv: _depthwise,
            ops.FullyConnected: _fully_connected,
            ops.MaxPool: _pool,
            ops.Mean: _mean,
            ops.Pad: _pad,
            ops.Reshape: _reshape,
        }
    )
)
"""How bounds go through an operator; the results of all others may be anything."""
