"""Reading images between their pixels, as gathers of pixels and sums with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, DType, Graph, Node, Op, Value
from edgec.ops import (
    Abs,
    Add,
    And,
    Cast,
    Clip,
    Conv,
    DeformConv,
    Floor,
    Gather,
    GreaterOrEqual,
    GridSample,
    GroupedConv,
    LessOrEqual,
    Mul,
    ReduceMax,
    ReduceSum,
    Reshape,
    RoiAlign,
    Round,
    Slice,
    Sub,
    Transpose,
)
from edgec.passes.base import Pass, Promise, Within

__all__ = ["DecomposeSampling"]


@dataclass(frozen=True, slots=True)
class DecomposeSampling(Pass):
    """Write ``GridSample``, ``DeformConv`` and ``RoiAlign`` with gathers.

    Each result is a sum of pixels with weights: of 1, 2 or 4 pixels along each axis. Indices
    and weights are computed in the graph, so that they fold away where the places are
    constant; those of `RoiAlign` must be.

    Within rounding: the places are computed in another order.
    """

    name: ClassVar[str] = "decompose-sampling"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._decompose(b, node):
                b.copy(node)
        return b.finish()

    def _decompose(self, b: Builder, node: Node) -> bool:
        if not isinstance(node.op, GridSample | DeformConv | RoiAlign):
            return False
        if not all(v.type.is_static and v.type.size for v in (*node.reads, *node.outputs)):
            return False
        match node.op:
            case GridSample() as op:
                return _grid_sample(_Steps(b, node), op)
            case DeformConv() as op:
                return _deform_conv(_Steps(b, node), op)
            case RoiAlign() as op:
                return _roi_align(_Steps(b, node), op)


class _Steps:
    """Adds the nodes that stand for one node, with numbers as operands where need be."""

    def __init__(self, b: Builder, node: Node) -> None:
        self.b = b
        self.node = node
        self.inputs = [b.now(v) for v in node.inputs]

    def __call__(self, op: Op, *operands: Value | float | Sequence[float]) -> Value:
        """Return the result of `op`; numbers are constants of the first operand's type."""
        first = next(v for v in operands if isinstance(v, Value))
        values = [
            v
            if isinstance(v, Value)
            else self.b.constant(np.array(v, first.type.dtype.numpy), self.node.outputs[0].name)
            for v in operands
        ]
        return self.b.step(op, *values, of=self.node)

    def reshaped(self, x: Value, *shape: int) -> Value:
        return self(Reshape(shape), x)

    def finish(self, op: Op, *values: Value) -> bool:
        self.b.add(op, *values, like=self.node)
        return True


@dataclass(frozen=True, slots=True)
class _Axis:
    """Which pixels along one axis are read, and with which weights: both ``[..., T]``."""

    pixels: Value
    weights: Value


# ---- places along one axis


def _axis(s: _Steps, at: Value, length: int, op: GridSample) -> _Axis:
    """Return what is read at the places ``at [..., 1]``, in pixels."""
    low, high = (0, length - 1) if op.align_corners else (-0.5, length - 0.5)
    if op.mode == "nearest":
        at = s(Round(), at)
    # Where four pixels count, ONNX Runtime moves these and not the place between them.
    if op.mode == "cubic":
        pass
    elif op.padding == "border":
        at = s(Clip(0.0, length - 1.0), at)
    elif op.padding == "reflection":
        at = _reflected(s, at, low, high)
    if op.mode == "nearest":
        return _taps(s, at, (0,), None, length, op.padding, (low, high))
    floor = s(Floor(), at)
    t = s(Sub(), at, floor)
    if op.mode == "linear":
        weights = s(Abs(), s(Add(), t, (-1.0, 0.0)))  # 1 - t and t, which is in [0, 1)
        return _taps(s, floor, (0, 1), weights, length, op.padding, (low, high))
    distance = s(Abs(), s(Add(), t, (1.0, 0.0, -1.0, -2.0)))
    weights = _cubic(s, distance)
    return _taps(s, floor, (-1, 0, 1, 2), weights, length, op.padding, (low, high))


def _cubic(s: _Steps, d: Value) -> Value:
    """Return the weights of four taps at distances d: the outer two are 1 to 2 away."""
    a = -0.75
    # Polynomials in d by powers 3, 2, 1, 0, for the outer and the inner taps.
    outer, inner = (a, -5 * a, 8 * a, -4 * a), (a + 2, -(a + 3), 0.0, 1.0)
    columns = [(o, i, i, o) for o, i in zip(outer, inner, strict=True)]
    total = s(Mul(), d, columns[0])
    for column in columns[1:-1]:
        total = s(Mul(), s(Add(), total, column), d)
    return s(Add(), total, columns[-1])


def _taps(
    s: _Steps,
    first: Value,
    steps: Sequence[int],
    weights: Value | None,
    length: int,
    padding: str,
    ends: tuple[float, float],
) -> _Axis:
    """Return the pixels `steps` from ``first [..., 1]``, those beyond the image as padding."""
    at = s(Add(), first, [float(step) for step in steps])
    if padding == "reflection":
        at = _reflected(s, at, *ends)
    elif padding == "zeros":
        inside = s(And(), s(GreaterOrEqual(), at, 0.0), s(LessOrEqual(), at, length - 1.0))
        known = s(Cast(), inside)
        weights = known if weights is None else s(Mul(), weights, known)
    at = s(Clip(0.0, length - 1.0), at)
    if weights is None:
        weights = s(Add(), s(Mul(), at, 0.0), 1.0)
    return _Axis(s(Cast(DType.INT32), at), weights)


def _reflected(s: _Steps, at: Value, low: float, high: float) -> Value:
    """Return places folded back at both ends until they lie between them."""
    period = 2 * (high - low)
    if period <= 0:
        return s(Mul(), at, 0.0)
    away = s(Abs(), s(Sub(), at, low)) if low else s(Abs(), at)
    turns = s(Floor(), s(Mul(), away, 1 / period))
    rest = s(Sub(), away, s(Mul(), turns, period))
    # A tent: up to half the period forth, then back.
    back = s(Abs(), s(Sub(), rest, period / 2))
    return s(Sub(), s(Mul(), back, -1.0), -(period / 2 + low))


# ---- pixels of a whole image


def _read(
    s: _Steps,
    x: Value,
    axes: Sequence[_Axis],
    base: Value | None,
    count: int,
    size: Sequence[int],
) -> Value:
    """Return ``[P, C]``: sums of pixels of ``x [B, *size, C]`` with the product of weights.

    Parameters
    ----------
    axes
        Of pixels and weights ``[P, T]``.
    base
        ``[P, 1]``: which of the B images; ``None`` for the only one.
    count
        P.
    """
    channels = x.type.ints[-1]
    flat = s.reshaped(x, -1, channels)
    index, weight = base, None
    taps = 1
    for axis, length in zip(axes, size, strict=True):
        pixels = s.reshaped(axis.pixels, count, 1, -1)
        weights = s.reshaped(axis.weights, count, 1, -1)
        own = pixels.type.ints[-1]
        if index is not None:
            rows = s.reshaped(s(Mul(), index, length), count, taps, 1)
            pixels = s(Add(), rows, pixels)
        if weight is not None:
            weights = s(Mul(), s.reshaped(weight, count, taps, 1), weights)
        taps *= own
        index, weight = s.reshaped(pixels, count, taps), s.reshaped(weights, count, taps)
    if index is None or weight is None:
        raise AssertionError("an image has an axis")
    read = s(Gather(0), flat, index)
    return s(
        ReduceSum((1,), keepdims=False), s(Mul(), read, s.reshaped(weight, count, taps, 1))
    )


def _images(s: _Steps, each: int, count: int) -> Value | None:
    """Return ``[count * each, 1]``: the number of the image, for `each` places in every one."""
    if count == 1:
        return None
    numbers = np.repeat(np.arange(count, dtype=np.int32), each)[:, None]
    return s.b.constant(numbers, near=f"{s.node.outputs[0].name}.images")


def _channels_last(s: _Steps, x: Value) -> Value:
    return s(Transpose((0, *range(2, x.type.rank), 1)), x)


def _grid_sample(s: _Steps, op: GridSample) -> bool:
    x, grid = s.inputs
    n, c, *size = x.type.ints
    out = grid.type.ints[1:-1]
    places, axes = math.prod(out), len(size)
    flat = s.reshaped(grid, n * places, axes)
    lines = []
    for i, length in enumerate(size):
        k = axes - 1 - i  # x comes first in the grid, and last in the image
        at = s(Slice((k,), (k + 1,), (1,), (1,)), flat)
        if op.align_corners:
            at = s(Mul(), s(Add(), at, 1.0), (length - 1) / 2)
        else:
            at = s(Add(), s(Mul(), s(Add(), at, 1.0), length / 2), -0.5)
        lines.append(_axis(s, at, length, op))
    base = _images(s, places, n)
    read = _read(s, _channels_last(s, x), lines, base, n * places, size)
    shaped = s.reshaped(read, n, *out, c)
    return s.finish(Transpose((0, axes + 1, *range(1, axes + 1))), shaped)


def _deform_conv(s: _Steps, op: DeformConv) -> bool:
    x, w, offset, *rest = s.inputs
    n, channels, *size = x.type.ints
    kernel, out = w.type.ints[2:], s.node.outputs[0].type.ints[2:]
    groups, taps, places = op.offset_groups, math.prod(kernel), math.prod(out)
    count = n * groups * taps * places
    pairs = s.reshaped(offset, n * groups * taps, 2, places)
    sample = GridSample()
    lines = []
    for i, length in enumerate(size):
        moved = s(Slice((i,), (i + 1,), (1,), (1,)), pairs)
        start = np.arange(out[i]) * op.stride[i] - op.pad[i]
        within = np.arange(kernel[i]) * op.dilation[i]
        # [KH, KW, OH, OW]: where each tap lies before it is moved.
        grid = np.zeros((*kernel, *out), np.float32)
        grid += within.reshape([-1 if k == i else 1 for k in range(4)])
        grid += start.reshape([-1 if k == i + 2 else 1 for k in range(4)])
        still = s.b.constant(grid.reshape(1, taps, places), near=f"{offset.name}.taps")
        at = s(Add(), s.reshaped(moved, n * groups, taps, places), still)
        lines.append(_axis(s, s.reshaped(at, count, 1), length, sample))
    image = s.reshaped(x, n * groups, channels // groups, *size)
    base = _images(s, taps * places, n * groups)
    read = _read(s, _channels_last(s, image), lines, base, count, size)
    if len(rest) > 1 and not rest[1].is_absent:
        read = s(Mul(), read, s.reshaped(rest[1], count, 1))
    apart = s.reshaped(read, n * groups, taps, places, channels // groups)
    columns = s(Transpose((0, 3, 1, 2)), apart)  # each channel with its taps, then places
    image = s.reshaped(columns, n, channels * taps, *out)
    pointwise = s.reshaped(w, w.type.ints[0], -1, 1, 1)
    bias = [v for v in rest[:1] if not v.is_absent]
    layer: Op = Conv() if op.groups == 1 else GroupedConv(groups=op.groups)
    return s.finish(layer, image, pointwise, *bias)


def _roi_align(s: _Steps, op: RoiAlign) -> bool:
    x = s.inputs[0]
    rois, batch = (s.b.array(v) for v in s.inputs[1:])
    if rois is None or batch is None or op.mode not in ("avg", "max"):
        return False
    n, c, h, w = x.type.ints
    pixels, weights = op.taps((h, w), rois, batch)
    if pixels.shape[-1] == 0:
        return False
    count = math.prod(pixels.shape[:-1])
    near = s.node.outputs[0].name
    index = s.b.constant(pixels.reshape(count, -1).astype(np.int32), near=f"{near}.pixels")
    by = s.b.constant(weights.reshape(count, -1, 1).astype(np.float32), near=f"{near}.weights")
    read = s(Mul(), s(Gather(0), s.reshaped(_channels_last(s, x), n * h * w, c), index), by)
    kind = ReduceSum if op.mode == "avg" else ReduceMax
    found = s(kind((1,), keepdims=False), read)
    shaped = s.reshaped(found, *pixels.shape[:-1], c)
    return s.finish(Transpose((0, 3, 1, 2)), shaped)
