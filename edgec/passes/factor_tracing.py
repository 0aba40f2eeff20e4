"""Factors that the channels of a graph can be divided by without changing what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType

import numpy as np

from edgec.ir import Array, Builder, DType, Graph, Node, Op, Value
from edgec.ops import (
    Abs,
    Activation,
    Add,
    AveragePool,
    Concat,
    Convolution,
    ConvTranspose,
    DepthwiseConv,
    Div,
    Expand,
    FullyConnected,
    Gather,
    GlobalAveragePool,
    GlobalLpPool,
    GlobalMaxPool,
    GroupedConv,
    Identity,
    InstanceNorm,
    LayerNorm,
    LeakyRelu,
    LpPool,
    MatMul,
    Max,
    MaxPool,
    Mean,
    Min,
    Mul,
    Neg,
    Pad,
    PRelu,
    ReduceL1,
    ReduceL2,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Relu,
    Reshape,
    Resize,
    RMSNorm,
    Slice,
    Split,
    Sub,
    Sum,
    Transpose,
    Where,
)
from edgec.passes.axis_groups import axis_groups
from edgec.passes.factors import Cause, Factors

__all__ = ["Part", "Trace", "trace"]

_CHANNELS = 1
_X, _WEIGHT = 0, 1

_ELEMENTWISE = (Identity, Relu, LeakyRelu, Abs, Neg)
_POOLS = (
    MaxPool,
    AveragePool,
    LpPool,
    GlobalAveragePool,
    GlobalLpPool,
    GlobalMaxPool,
)
_REDUCTIONS = (ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceL1, ReduceL2)
_LINEAR = (Add, Sub, Sum, Mean, Max, Min)
_LAYERS = (Convolution, ConvTranspose, FullyConnected)


@dataclass(frozen=True, slots=True)
class Part:
    """A constant operand that takes factors up: it is multiplied by some, divided by others.

    Parameters
    ----------
    read, made
        Numbers of factors that broadcast with the constant: those that what the node reads is
        divided by, and those that its result is divided by.
    is_weight
        Whether this is the matrix or kernel of a layer.
    """

    node: Node
    operand: int
    read: Array
    made: Array
    is_weight: bool = False


@dataclass
class Trace:
    """What can be divided by which factors.

    Every place of a value has the number of a factor: ``numbers[value]`` has an axis for each
    of the value's, of length 1 where all places along it have the same.

    Attributes
    ----------
    parts
        By the first output of a node: the constants that take factors up.
    causes
        By the first output of a node: why the node itself lets none of its results be divided.
    """

    graph: Graph
    factors: Factors = field(default_factory=Factors)
    numbers: dict[Value, Array] = field(default_factory=dict)
    parts: dict[Value, list[Part]] = field(default_factory=dict)
    causes: dict[Value, Cause] = field(default_factory=dict)
    least: list[tuple[Array, Array]] = field(default_factory=list)

    @property
    def weights(self) -> Iterator[Part]:
        """The kernels and matrices of all layers, in order."""
        return (p for parts in self.parts.values() for p in parts if p.is_weight)

    def refused(self) -> Iterator[tuple[Node, Cause]]:
        """Yield the layers of whose channels none has a free factor, and why."""
        layers = {part.node.outputs[0] for part in self.weights}
        for node in self.graph.nodes:
            made = self.numbers[node.outputs[0]]
            is_layer = node.outputs[0] in layers or isinstance(node.op, _LAYERS)
            if is_layer and not self.factors.free(made).any():
                cause = self.causes.get(node.outputs[0])
                yield node, cause or self.factors.cause(int(made.flat[0])) or _NONE

    def rescaled(self, by: Array) -> Graph:
        """Return the graph with every place of a value divided by its factor.

        Values that are not as they were get other names.

        Parameters
        ----------
        by
            A factor for each number; what counts is that of the number that stands for it.
        """
        b = Builder(self.graph)
        for node in self.graph.nodes:
            inputs = [b.now(v) for v in node.inputs]
            for part in self.parts.get(node.outputs[0], ()):
                array = self.graph.constant(node.inputs[part.operand])
                if array is None:
                    continue
                read, made = (by[self.factors.find(n)] for n in (part.read, part.made))
                factor = read / made
                if (factor != 1).any() and array.any():
                    new = (array.astype(np.float64) * factor).astype(array.dtype)
                    old = node.inputs[part.operand].name
                    inputs[part.operand] = b.constant(new, near=f"{old}.scaled")
            moved = [(by[self.factors.find(self.numbers[v])] != 1).any() for v in node.outputs]
            if inputs == list(node.inputs) and not any(moved):
                b.copy(node)
                continue
            names = [
                b.fresh(f"{v.name}.scaled") if other else v.name
                for v, other in zip(node.outputs, moved, strict=True)
            ]
            made_values = b.add(node.op, *inputs, names=names, absorbs=(node,))
            for old_value, new_value in zip(node.outputs, made_values, strict=True):
                b.replace(old_value, new_value)
        return b.finish()


_NONE = Cause("it", "has no channels")
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
        why = why or f"is {type(node.op).__name__}, which scales no channel through"
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

    def _clipped(self, node: Node) -> list[Array]:
        """A layer whose activation cuts off at a number: its result has to be as it is."""
        low, high = getattr(node.op, "activation", Activation.NONE).bounds
        cause = Cause(node.layer, f"clips all channels to [{low:g}, {high:g}]")
        if isinstance(node.op, _LAYERS):
            peaks = self.peaks.get(node.output.name)
            found = self.layer(node, fixed=peaks is None or low != 0)
            if found is not None:
                if peaks is None or low != 0:
                    self.trace.causes[node.output] = cause
                else:
                    self.trace.least.append((found[0].reshape(-1), peaks / high))
                return found
        return self._unknown(node, cause.reason)

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

    def same(self, node: Node) -> list[Array]:
        return [self.of[node.inputs[0]]]

    def layer(self, node: Node, *, fixed: bool = False) -> list[Array] | None:
        """A convolution or fully connected layer: columns take up, rows give."""
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
        rows = np.zeros(count, np.int64) if fixed else self.factors.fresh(count)
        columns, made = _shaped(node.op, weight.shape, read, rows)
        self.add(node, _WEIGHT, columns, made, is_weight=True)
        for operand in range(2, len(node.inputs)):
            self.add(node, operand, np.zeros(1, np.int64), rows)
        return [_at(rows, _CHANNELS, node.output.type.rank)]

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
        """A product of two values: as attention adds values up by weights that have no factor."""
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
        found, *rest = np.broadcast_arrays(*(_ranked(n, rank) for n in computed))
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
        numbers = _ranked(self.of[x], rank)
        axes = [axis for axis, length in enumerate(k.type.ints, rank - k.type.rank) if length > 1]
        varies = {axis for axis, length in enumerate(numbers.shape) if length > 1}
        if len(axes) != 1 or not varies <= set(axes) or x.type.dims != node.output.type.dims:
            return [numbers] if x.type.dims == node.output.type.dims else None
        made = _at(self.factors.fresh(max(k.type.ints)), axes[0], rank)
        read, given = (numbers, made) if isinstance(node.op, Mul) else (made, numbers)
        lead = rank - k.type.rank  # axes of length 1
        self.add(node, operand, *(n.reshape(n.shape[lead:]) for n in (read, given)))
        return [made]

    def _gated(self, node: Node) -> list[Array] | None:
        """A product of two values, one of which has no factor: a gate, mostly."""
        value, gate = node.inputs
        if isinstance(node.op, Mul) and (
            not self.factors.free(self.of[value]).any() or _size(value) < _size(gate)
        ):
            value, gate = gate, value
        self.factors.fix(self.of[gate], Cause(node.layer, "multiplies two computed values"))
        return [_ranked(self.of[value], node.output.type.rank)]

    def slopes(self, node: Node) -> list[Array]:
        x, slope = node.inputs
        self.factors.fix(self.of[slope], Cause(node.layer, "has computed slopes"))
        return [self.of[x]]

    def pool(self, node: Node) -> list[Array] | None:
        numbers = self.of[node.inputs[0]]
        return [numbers] if _is_single(numbers, *range(2, numbers.ndim)) else None

    def reduction(self, node: Node) -> list[Array] | None:
        numbers, axes = self.of[node.inputs[0]], getattr(node.op, "axes", ())
        if not _is_single(numbers, *axes):
            return None
        return [numbers if getattr(node.op, "keepdims", True) else numbers.squeeze(axes)]

    def resize(self, node: Node) -> list[Array] | None:
        op, numbers = node.op, self.of[node.inputs[0]]
        if not isinstance(op, Resize) or op.beyond != 0 or not _is_single(numbers, *op.axes):
            return None
        return [numbers]

    def pad(self, node: Node) -> list[Array] | None:
        op, numbers = node.op, self.of[node.inputs[0]]
        if not isinstance(op, Pad) or op.value != 0:
            return None
        for axis, ends in enumerate(op.ends()):
            if any(ends) and numbers.shape[axis] > 1:
                if min(ends) < 0:
                    return None
                shape = list(numbers.shape)
                parts = [self.factors.fresh(*shape[:axis], n, *shape[axis + 1 :]) for n in ends]
                # Zeros, which any factor leaves as they are.
                numbers = np.concatenate([parts[0], numbers, parts[1]], axis)
        return [numbers]

    def transpose(self, node: Node) -> list[Array]:
        perm = node.op.perm if isinstance(node.op, Transpose) else ()
        return [self.of[node.inputs[0]].transpose(perm)]

    def reshape(self, node: Node) -> list[Array] | None:
        x, y = node.inputs[0], node.output
        numbers = self.of[x]
        if numbers.size == 1:
            return [numbers.reshape((1,) * y.type.rank)]
        if not (x.type.is_static and y.type.is_static) or 0 in x.type.ints:
            return None
        before, after = [1] * x.type.rank, [1] * y.type.rank
        for group in axis_groups(x.type.ints, y.type.ints):
            if not _is_single(numbers, *group.before):
                for axis in group.before:
                    before[axis] = x.type.ints[axis]
                for axis in group.after:
                    after[axis] = y.type.ints[axis]
        return [_collapsed(np.broadcast_to(numbers, before).reshape(after))]

    def expand(self, node: Node) -> list[Array]:
        return [_ranked(self.of[node.inputs[0]], node.output.type.rank)]

    def slice(self, node: Node) -> list[Array] | None:
        op, x = node.op, node.inputs[0]
        numbers = self.of[x]
        if not isinstance(op, Slice):
            return None
        if _is_single(numbers, *op.axes):
            return [numbers]
        if not x.type.is_static:
            return None
        for axis, kept in op.ranges(x.type).items():
            if numbers.shape[axis] > 1:
                numbers = numbers.take(list(kept), axis)
        return [numbers]

    def split(self, node: Node) -> list[Array] | None:
        op, numbers = node.op, self.of[node.inputs[0]]
        if not isinstance(op, Split):
            return None
        if numbers.shape[op.axis] == 1:
            return [numbers] * len(node.outputs)
        return np.split(numbers, list(accumulate(op.sizes))[:-1], op.axis)

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
            _is_single(n, *others) for n in parts
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
        """A normalisation by statistics of its own: what it reads stays, its factors are new."""
        x, *params = node.inputs
        if not params or any(v.is_absent or self.constant(v) is None for v in params):
            return None
        self.factors.fix(self.of[x], Cause(node.layer, "normalises over channels"))
        made, rank = self.factors.fresh(*params[0].type.ints), x.type.rank
        for operand in range(1, len(node.inputs)):
            self.add(node, operand, np.zeros(1, np.int64), made)
        if isinstance(node.op, InstanceNorm):
            return [_at(made, _CHANNELS, rank)]
        return [_ranked(made, rank)]


_Rule = Callable[[_Tracer, Node], "list[Array] | None"]

_RULES: tuple[tuple[type[Op] | tuple[type[Op], ...], _Rule], ...] = (
    (_LAYERS, _Tracer.layer),
    (MatMul, _Tracer.product),
    (_ELEMENTWISE, _Tracer.same),
    ((*_LINEAR, Where), _Tracer.terms),
    ((Mul, Div), _Tracer.multiplied),
    (PRelu, _Tracer.slopes),
    (_POOLS, _Tracer.pool),
    (_REDUCTIONS, _Tracer.reduction),
    (Resize, _Tracer.resize),
    (Pad, _Tracer.pad),
    (Transpose, _Tracer.transpose),
    (Reshape, _Tracer.reshape),
    (Expand, _Tracer.expand),
    (Slice, _Tracer.slice),
    (Split, _Tracer.split),
    (Gather, _Tracer.gather),
    (Concat, _Tracer.concat),
    ((LayerNorm, RMSNorm, InstanceNorm), _Tracer.norm),
)


def _is_real(node: Node) -> bool:
    return all(v.type.dtype is DType.FLOAT32 and v.type.dims is not None for v in node.outputs)


def _ones(value: Value) -> Array:
    """The numbers of a value all of whose factors are one."""
    return np.zeros((1,) * len(value.type.dims or ()), np.int64)


def _ranked(numbers: Array, rank: int) -> Array:
    return numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)


def _at(numbers: Array, axis: int, rank: int) -> Array:
    """Return numbers laid out along an axis."""
    return numbers.reshape([-1 if i == axis else 1 for i in range(rank)])


def _is_single(numbers: Array, *axes: int) -> bool:
    """Whether all places along some axes have the same factor; with no axes, all places."""
    if not axes:
        return True
    return all(numbers.shape[axis] == 1 for axis in axes)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _collapsed(numbers: Array) -> Array:
    """Return numbers with length 1 along the axes along which they do not differ."""
    for axis in range(numbers.ndim):
        first = numbers.take([0], axis)
        if numbers.shape[axis] > 1 and (numbers == first).all():
            numbers = first
    return np.ascontiguousarray(numbers)


def _size(value: Value) -> int:
    return value.type.size if value.type.is_static else 0


def _shaped(
    op: Op, kernel: tuple[int, ...], read: Array, rows: Array
) -> tuple[Array, Array]:
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
            return groups.repeat(kernel[0] // op.groups, axis=0).reshape(*kernel[:2], *tail), made
        case ConvTranspose():
            groups = rows.reshape(op.groups, kernel[1])
            each = groups.repeat(kernel[0] // op.groups, axis=0)
            return read.reshape(-1, 1, *tail), each.reshape(*kernel[:2], *tail)
        case _:
            return read.reshape(1, -1, *tail), made
