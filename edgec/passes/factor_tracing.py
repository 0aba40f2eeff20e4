"""Factors that the channels of a graph can be divided by without changing what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgec.ir import Array, DType, Graph, Node, Op, Value
from edgec.ops import (
    Activation,
    Add,
    Concat,
    ConvTranspose,
    DepthwiseConv,
    Div,
    Gather,
    GroupedConv,
    InstanceNorm,
    LayerNorm,
    MatMul,
    Max,
    Mean,
    Min,
    Mul,
    Opaque,
    PRelu,
    RMSNorm,
    Sub,
    Sum,
    Where,
)
from edgec.passes.factor_moves import MOVES, is_single, moved, ranked
from edgec.passes.factor_trace import LAYERS, Part, Trace
from edgec.passes.factors import Cause

__all__ = ["trace"]

_CHANNELS = 1
_WEIGHT = 1
_LINEAR = (Add, Sub, Sum, Mean, Max, Min)
_NO_PEAKS: Mapping[str, Array] = MappingProxyType({})


def trace(graph: Graph, peaks: Mapping[str, Array] = _NO_PEAKS) -> Trace:
    """Return which factors the values of a float graph can be divided by.

    Layers with constant weights, and constants that values are multiplied by, make new factors;
    operators that are linear or positively homogeneous in each channel pass them on, and what
    is added up has one factor for all its terms. Everything else, the outputs of the graph
    among it, takes only what is as it was.
    """
    return _Tracer(graph, peaks).traced()


class _Tracer:
    """Goes through a graph once."""

    def __init__(self, graph: Graph, peaks: Mapping[str, Array]) -> None:
        self.graph, self.trace, self.peaks = graph, Trace(graph), peaks
        self.factors, self.of = self.trace.factors, self.trace.numbers
        self.stored: dict[Value, Part] = {}
        for value in (*graph.inputs, *graph.values()):
            if value not in graph.producers:
                self.of[value] = _ones(value)

    def traced(self) -> Trace:
        for node in self.graph.nodes:
            found = self._known(node) if _is_real(node) else None
            if found is None:
                found = self._unknown(node)
            self.of.update(zip(node.outputs, found, strict=True))
        for value in self.graph.outputs:
            layer = self.graph.producers.get(value)
            name = value.name if layer is None else layer.layer
            self.factors.fix(self.of[value], Cause(name, "makes an output of the model"))
        return self.trace

    def _unknown(self, node: Node, why: str = "") -> list[Array]:
        """Let all that a node reads be as it was."""
        kind = node.op.op_type if isinstance(node.op, Opaque) else type(node.op).__name__
        why = why or f"({kind}) is not homogeneous in each channel"
        cause = Cause(node.layer, why)
        for value in node.reads:
            self.factors.fix(self.of[value], cause)
        self.trace.causes[node.outputs[0]] = cause
        return [_ones(v) for v in node.outputs]

    def _known(self, node: Node) -> list[Array] | None:
        op = node.op
        if getattr(op, "activation", Activation.NONE) not in (Activation.NONE, Activation.RELU):
            return self._clipped(node)
        for kinds, rule in _RULES:
            if isinstance(op, kinds):
                return rule(self, node)
        return None

    def _clipped(self, node: Node) -> list[Array] | None:
        """A layer whose activation cuts off at a number: channels that reach it stay."""
        low, high = getattr(node.op, "activation", Activation.NONE).bounds
        cause = Cause(node.layer, f"clips every channel to [{low:g}, {high:g}]")
        peaks = self.peaks.get(node.outputs[0].name)
        if not isinstance(node.op, LAYERS):
            return self._unknown(node, cause.reason)
        below = None if peaks is None or low != 0 else (peaks > 0) & (peaks < high)
        found = self.layer(node, below)
        if found is not None and below is not None and peaks is not None:
            self.trace.least.append((found[0].reshape(-1)[below], peaks[below] / high))
        if below is None or not below.any():
            self.trace.causes[node.outputs[0]] = cause
        return found

    def constant(self, value: Value) -> Array | None:
        return self.graph.constant(value)

    def add(self, node: Node, operand: int, read: Array, made: Array, **kind: bool) -> None:
        part = Part(node, operand, read, made, **kind)
        self.trace.parts.setdefault(node.outputs[0], []).append(part)
        other = self.stored.setdefault(node.inputs[operand], part)
        if other is not part and part.is_weight and read.shape == other.read.shape:
            # Layers that share weights go on to share them.
            self.factors.tie(part.read, other.read)
            self.factors.tie(part.made, other.made)

    def along(self, value: Value, axis: int) -> Array | None:
        """Return the numbers along an axis if all that differ are along it."""
        numbers, length = self.of[value], value.type.shape[axis]
        if numbers.size != numbers.shape[axis] or not isinstance(length, int):
            return None
        return np.broadcast_to(numbers.reshape(-1), (length,))

    def move(self, node: Node) -> list[Array] | None:
        return moved(node, self.of[node.inputs[0]], self.factors)

    def layer(self, node: Node, free: Array | None) -> list[Array] | None:
        """A convolution or fully connected layer: columns take up, rows give.

        `free` says of each channel whether it can be divided.
        """
        x, w, *bias = node.inputs
        weight = self.constant(w)
        if weight is None or any(self.constant(v) is None for v in bias):
            return self._unknown(node, "has weights that are stored as integers or computed")
        read = self.along(x, _CHANNELS)
        if read is None:
            return None
        count = node.output.type.shape[_CHANNELS]
        if not isinstance(count, int):
            return None
        rows = np.zeros(count, np.int64)
        if free is not None:
            rows[free] = self.factors.fresh(int(free.sum()))
        columns, made = _shaped(node.op, weight.shape, read, rows)
        self.add(node, _WEIGHT, columns, made, is_weight=True)
        for operand in range(2, len(node.inputs)):
            self.add(node, operand, np.zeros(1, np.int64), rows)
        return [_at(rows, _CHANNELS, node.output.type.rank)]

    def plain(self, node: Node) -> list[Array] | None:
        count = node.output.type.shape[_CHANNELS]
        return self.layer(node, np.ones(count, bool) if isinstance(count, int) else None)

    def product(self, node: Node) -> list[Array] | None:
        a, b = node.inputs
        if a.type.rank < 2 or b.type.rank < 2:
            return None
        left, right = self.constant(a), self.constant(b)
        rank = node.output.type.rank
        if right is not None and right.ndim == 2 and left is None:
            read = self.along(a, -1)
            if read is None:
                return None
            made = self.factors.fresh(right.shape[1])
            self.add(node, 1, read.reshape(-1, 1), made, is_weight=True)
            return [_at(made, rank - 1, rank)]
        if left is not None and left.ndim == 2 and right is None:
            read = self.along(b, -2)
            if read is None:
                return None
            made = self.factors.fresh(left.shape[0])
            self.add(node, 0, read, made.reshape(-1, 1), is_weight=True)
            return [_at(made, rank - 2, rank)]
        return None if left is not None or right is not None else self._weighted_sum(node)

    def _weighted_sum(self, node: Node) -> list[Array] | None:
        """A product of two values, as attention adds up values: one of them has no factor."""
        a, b = node.inputs
        for value, other, axis in ((b, a, -2), (a, b, -1)):
            numbers = self.of[value]
            fixed = not self.factors.free(self.of[other]).any()
            if fixed and numbers.shape[axis] == 1:
                lead = node.output.type.rank - value.type.rank
                return [numbers.reshape((1,) * lead + numbers.shape)]
        return None

    def terms(self, node: Node) -> list[Array] | None:
        """What is added up or compared: one factor for all terms."""
        first = 1 if isinstance(node.op, Where) else 0
        terms = node.inputs[first:]
        computed = [self.of[v] for v in terms if self.constant(v) is None]
        rank = node.output.type.rank
        found = np.zeros((1,) * rank, np.int64)
        if not computed or (first and self.of[node.inputs[0]].size > 1):
            return None
        found, *rest = np.broadcast_arrays(*(ranked(n, rank) for n in computed))
        for other in rest:
            self.factors.tie(found, other)
        for operand in range(first, len(node.inputs)):
            if self.constant(node.inputs[operand]) is not None:
                self.add(node, operand, np.zeros(1, np.int64), found)
        return [np.ascontiguousarray(found)]

    def multiplied(self, node: Node) -> list[Array] | None:
        x, k = node.inputs
        operand = 1
        if isinstance(node.op, Mul) and self.constant(x) is not None:
            x, k, operand = k, x, 0
        rank = node.output.type.rank
        if self.constant(x) is not None:
            return None
        if self.constant(k) is None:
            return self._gated(node)
        numbers = ranked(self.of[x], rank)
        if x.type.dims != node.output.type.dims:
            return None
        lead = rank - k.type.rank  # axes of length 1
        axes = [axis for axis, length in enumerate(k.type.ints, lead) if length > 1]
        if len(axes) != 1 or self.factors.free(numbers).any() or isinstance(node.op, Div):
            return [numbers]
        # What is read has no factors: new ones begin here, as the factors `k` may be any.
        made = self.factors.fresh(max(k.type.ints))
        self.add(node, operand, np.zeros(1, np.int64), _at(made, axes[0] - lead, k.type.rank))
        return [_at(made, axes[0], rank)]

    def _gated(self, node: Node) -> list[Array] | None:
        """A product of two values, one of which has no factor: a gate, mostly."""
        value, gate = node.inputs
        if isinstance(node.op, Mul) and (
            not self.factors.free(self.of[value]).any() or _size(value) < _size(gate)
        ):
            value, gate = gate, value
        self.factors.fix(self.of[gate], Cause(node.layer, "multiplies two computed values"))
        return [ranked(self.of[value], node.output.type.rank)]

    def slopes(self, node: Node) -> list[Array]:
        x, slope = node.inputs
        self.factors.fix(self.of[slope], Cause(node.layer, "has computed slopes"))
        return [self.of[x]]

    def gather(self, node: Node) -> list[Array] | None:
        op, x = node.op, node.inputs[0]
        index, numbers = self.constant(node.inputs[1]), self.of[x]
        if not isinstance(op, Gather) or index is None or index.ndim > 1:
            return None
        if numbers.shape[op.axis] == 1:
            index = np.zeros_like(index)[:1] if index.ndim else np.zeros_like(index)
        return [numbers.take(index, op.axis)]

    def concat(self, node: Node) -> list[Array] | None:
        op = node.op
        if not isinstance(op, Concat):
            return None
        parts = [self.of[v] for v in node.inputs]
        if not any(self.factors.free(n).any() for n in parts):
            return [_ones(node.output)]
        lengths = [v.type.shape[op.axis] for v in node.inputs]
        others = [axis for axis in range(parts[0].ndim) if axis != op.axis]
        if all(n.shape[op.axis] == 1 for n in parts) and not all(
            is_single(n, *others) for n in parts
        ):
            found, *rest = np.broadcast_arrays(*parts)
            for other in rest:
                self.factors.tie(found, other)
            return [np.ascontiguousarray(found)]
        if not all(isinstance(n, int) for n in lengths):
            return None
        shape = np.broadcast_shapes(*(tuple(_without(n.shape, op.axis)) for n in parts))
        whole = [
            np.broadcast_to(n, (*shape[: op.axis], int(length), *shape[op.axis :]))
            for n, length in zip(parts, lengths, strict=True)
        ]
        return [np.concatenate(whole, op.axis)]

    def norm(self, node: Node) -> list[Array] | None:
        """A normalisation by its own statistics: what it reads stays, its factors are new."""
        x, *params = node.inputs
        if not params or any(v.is_absent or self.constant(v) is None for v in params):
            return None
        self.factors.fix(self.of[x], Cause(node.layer, "normalises over channels"))
        made, rank = self.factors.fresh(*params[0].type.ints), x.type.rank
        for operand in range(1, len(node.inputs)):
            self.add(node, operand, np.zeros(1, np.int64), made)
        if isinstance(node.op, InstanceNorm):
            return [_at(made, _CHANNELS, rank)]
        return [ranked(made, rank)]


_Rule = Callable[[_Tracer, Node], "list[Array] | None"]

_RULES: tuple[tuple[type[Op] | tuple[type[Op], ...], _Rule], ...] = (
    (LAYERS, _Tracer.plain),
    (MatMul, _Tracer.product),
    (MOVES, _Tracer.move),
    ((*_LINEAR, Where), _Tracer.terms),
    ((Mul, Div), _Tracer.multiplied),
    (PRelu, _Tracer.slopes),
    (Gather, _Tracer.gather),
    (Concat, _Tracer.concat),
    ((LayerNorm, RMSNorm, InstanceNorm), _Tracer.norm),
)


def _is_real(node: Node) -> bool:
    return all(v.type.dtype is DType.FLOAT32 and v.type.dims is not None for v in node.outputs)


def _ones(value: Value) -> Array:
    """The numbers of a value all of whose factors are one."""
    return np.zeros((1,) * len(value.type.dims or ()), np.int64)


def _at(numbers: Array, axis: int, rank: int) -> Array:
    """Return numbers laid out along an axis."""
    return numbers.reshape([-1 if i == axis else 1 for i in range(rank)])


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _size(value: Value) -> int:
    return value.type.size if value.type.is_static else 0


def _shaped(op: Op, kernel: tuple[int, ...], read: Array, rows: Array) -> tuple[Array, Array]:
    """Return the numbers of what a layer reads and makes, as they lie along its weights.

    Parameters
    ----------
    kernel
        Shape of the weights.
    read, rows
        By input channel and by output channel.
    """
    tail = (1,) * (len(kernel) - 2)
    made = rows.reshape(-1, 1, *tail)
    match op:
        case DepthwiseConv():
            return read.repeat(kernel[0] // len(read)).reshape(made.shape), made
        case GroupedConv():
            groups = read.reshape(op.groups, kernel[1])
            each = groups.repeat(kernel[0] // op.groups, axis=0)
            return each.reshape(*kernel[:2], *tail), made
        case ConvTranspose():
            groups = rows.reshape(op.groups, kernel[1])
            each = groups.repeat(kernel[0] // op.groups, axis=0)
            return read.reshape(-1, 1, *tail), each.reshape(*kernel[:2], *tail)
        case _:
            return read.reshape(1, -1, *tail), made
