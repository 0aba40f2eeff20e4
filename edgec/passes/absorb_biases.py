"""Channels that lie off the middle, moved there: the bias of the next layers takes that up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic
from edgec.evaluate import Evaluator
from edgec.ir import Array, Builder, DType, Graph, Node, Value
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    Convolution,
    DepthwiseConv,
    FullyConnected,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupedConv,
    Identity,
    MaxPool,
    ReduceMean,
    Reshape,
    Sub,
)
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.channel_means import places

__all__ = ["AbsorbBiases"]

_CHANNELS = 1
_LAYERS = (Convolution, FullyConnected)
_LEAST_DB = 0.5
"""What makes a step of the result's grid finer by less is not worth a new bias."""


class _Ends(NamedTuple):
    """Least and largest of each channel."""

    low: Array
    high: Array

    @property
    def span(self) -> float:
        """Length of the range that holds all channels and zero."""
        low, high = min(float(self.low.min()), 0.0), max(float(self.high.max()), 0.0)
        return high - low

    def moved(self, by: Array) -> _Ends:
        return _Ends(self.low - by, self.high - by)


@dataclass(frozen=True, slots=True)
class AbsorbBiases(Pass):
    """Take a constant off each channel of a layer, and add what it does to the layers behind.

    One scale for all channels of a result has to span them all: channels that lie beside each
    other share it badly. A layer without an activation may have the middle of its range taken
    off each channel, ``b1' = b1 - c``; behind a ReLU, at most the least result ``c`` of a
    channel, which never is negative, so that ``relu(y - c) + c`` is ``relu(y)`` for all
    results ``y`` that are no less. Layers that read it have ``b2' = b2 + W2 c``.

    Sums, poolings without zeros in them and reshapes of single pixels pass a constant on. A
    convolution that pads with zeros cannot take it up, as the zeros would be something else
    then; nor can anything else that is not listed.

    Lossy: exact without an activation; behind a ReLU, as long as no result is less than on the
    samples. Ratios on record say how much finer a step of the result's grid becomes.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample.

    References
    ----------
    Nagel et al., arXiv:1906.04721, section 4.1.3, for results behind a ReLU.
    """

    name: ClassVar[str] = "absorb-biases"
    promise: ClassVar[Promise] = Lossy()
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        shifts, records = self._shifts(graph)
        return (_shifted(graph, shifts), tuple(records)) if shifts else (graph, ())

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        why = _obstacles(graph)
        return tuple(
            Diagnostic(f"nothing can be taken off its bias: {why[node.output]}", node.layer)
            for node in graph.nodes
            if isinstance(node.op, _LAYERS) and node.output in why
        )

    def _shifts(self, graph: Graph) -> tuple[dict[Value, Array], list[LayerRecord]]:
        """Return what is taken off the channels of each layer, and what that gains."""
        why = _obstacles(graph)
        layers = {
            n.output.name: n
            for n in graph.nodes
            if isinstance(n.op, _LAYERS) and n.output not in why
        }
        found: dict[Value, Array] = {}
        records: list[LayerRecord] = []
        for name, ends in self._ends(graph, [n.output for n in layers.values()]).items():
            node = layers[name]
            by = (ends.low + ends.high) / 2 if _is_plain(node) else ends.low
            gain = _decibels(ends.span, ends.moved(by).span)
            if gain >= _LEAST_DB:
                found[node.output] = by
                records.append(LayerRecord(node.layer, 0.0, gain, "absorbed"))
        return found, records

    def _ends(self, graph: Graph, values: Sequence[Value]) -> dict[str, _Ends]:
        if not values or not self.samples:
            return {}
        evaluator = Evaluator(graph, values, optimize=True)
        found: dict[str, _Ends] = {}
        for sample in self.samples:
            for name, array in evaluator.run(sample).items():
                axes = places(array.ndim)
                low, high = array.min(axes), array.max(axes)
                known = found.get(name, _Ends(low, high))
                found[name] = _Ends(np.minimum(known.low, low), np.maximum(known.high, high))
        return {
            name: _Ends(*(e.astype(np.float64) for e in ends)) for name, ends in found.items()
        }


def _is_plain(node: Node) -> bool:
    return getattr(node.op, "activation", Activation.NONE) is Activation.NONE


def _decibels(before: float, after: float) -> float:
    return 20 * math.log10(before / after) if before > 0 and after > 0 else 0.0


def _obstacles(graph: Graph) -> dict[Value, str]:
    """Return the values that nothing can be taken off, and why."""
    found: dict[Value, str] = {}
    for node in reversed(graph.nodes):
        for value in node.outputs:
            why = "makes an output of the model" if value in graph.outputs else ""
            for reader in graph.users.get(value, ()):
                why = why or _obstacle(graph, reader, value, found)
            if not why:
                why = _own(graph, node)
            if why:
                found[value] = why
    return found


def _own(graph: Graph, node: Node) -> str:
    """Return why a node itself cannot make another result, or nothing."""
    if node.outputs[0].type.dtype is not DType.FLOAT32 or node.outputs[0].type.dims is None:
        return "is not float32"
    if not isinstance(node.op, _LAYERS):
        return ""
    if node.op.activation not in (Activation.NONE, Activation.RELU):
        return "clips every channel"
    if any(graph.constant(v) is None for v in node.inputs[1:]):
        return "has weights that are stored as integers or computed"
    return ""


def _obstacle(graph: Graph, node: Node, value: Value, found: Mapping[Value, str]) -> str:
    """Return why a reader of a value cannot make up for a constant, or nothing."""
    op = node.op
    match op:
        case Convolution() | FullyConnected():
            if any(graph.constant(v) is None for v in node.inputs[1:]):
                return f"{node.layer} has weights that are stored as integers or computed"
            if isinstance(op, Convolution) and any(op.pad):
                return f"{node.layer} pads it with zeros"
            return ""
        case Add() | Sub() if op.activation is Activation.NONE:
            same = all(v.type == node.output.type for v in node.inputs)
            return found.get(node.output, "") if same else f"{node.layer} broadcasts it"
        case Identity() | MaxPool() | GlobalAveragePool() | GlobalMaxPool():
            return found.get(node.output, "")
        case AveragePool() if not (op.count_include_pad or op.ceil_mode):
            return found.get(node.output, "")
        case ReduceMean() if 0 not in op.axes and _CHANNELS not in op.axes:
            return found.get(node.output, "")
        case Reshape() if _channels_of_pixel(value) == _channels_of_pixel(node.output) != 0:
            return found.get(node.output, "")
    return f"{node.layer} does not pass a constant on"


def _channels_of_pixel(value: Value) -> int:
    """Return the number of channels of a value that is nothing but these, else 0."""
    t = value.type
    if not t.is_static or t.rank < 2 or any(n != 1 for n in t.ints[2:]):
        return 0
    return t.ints[_CHANNELS]


def _shifted(graph: Graph, shifts: Mapping[Value, Array]) -> Graph:
    """Return the graph with constants taken off, and made up for."""
    b = Builder(graph)
    off: dict[Value, Array] = {}
    for node in graph.nodes:
        inputs, old = (
            [b.now(v) for v in node.inputs],
            node.output if len(node.outputs) == 1 else None,
        )
        given = [off.get(v) for v in node.inputs]
        mine = None if old is None else shifts.get(old)
        if old is None or (mine is None and all(g is None for g in given)):
            b.copy(node)
            continue
        if isinstance(node.op, _LAYERS):
            made = _made_up(graph, node, given[0])
            if mine is not None:
                made = made - mine
            near = node.inputs[2].name if len(inputs) > 2 else f"{old.name}/bias"
            weight = graph.constant(node.inputs[1])
            dtype = np.float32 if weight is None else weight.dtype
            inputs[2:] = [b.constant(made.astype(dtype), near=f"{near}.shifted")]
            total = mine
        elif isinstance(node.op, Add | Sub):
            zero = np.zeros(1)
            x, y = (zero if g is None else g for g in given)
            total = x + y if isinstance(node.op, Add) else x - y
        else:
            total = given[0]
        names = [old.name if total is None else b.fresh(f"{old.name}.shifted")]
        (new,) = b.add(node.op, *inputs, names=names, absorbs=(node,))
        b.replace(old, new)
        if total is not None:
            off[old] = total
    return b.finish()


def _made_up(graph: Graph, node: Node, off: Array | None) -> Array:
    """Return the bias of a layer that reads what something was taken off."""
    weight, *bias = (graph.constant(v) for v in node.inputs[1:])
    assert weight is not None
    start = np.zeros(1) if not bias or bias[0] is None else bias[0].astype(np.float64)
    count = len(weight)
    start = np.broadcast_to(start, (count,))
    if off is None:
        return start
    sums = weight.astype(np.float64).sum(tuple(range(2, weight.ndim)))
    match node.op:
        case DepthwiseConv():
            more = sums[:, 0] * off.repeat(count // len(off))
        case GroupedConv(groups=groups):
            more = (sums * off.reshape(groups, -1).repeat(count // groups, axis=0)).sum(axis=1)
        case _:
            more = sums @ off
    return np.asarray(start + more)
