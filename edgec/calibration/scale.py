"""Whether inputs have the size that a model's first layers were trained for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgec.calibration.report import Warned
from edgec.evaluate import Evaluator
from edgec.ir import Array, Constant, Graph, Node, Value
from edgec.ops import (
    Activation,
    BatchNorm,
    Convolution,
    FullyConnected,
    Mul,
    ReduceMean,
)

__all__ = ["ScaleProbe"]

_SAMPLES = 32
_TRIED = 2
_HIGH, _LOW = 30.0, 0.1
"""Of 22 trained models, on their own inputs, the ratio is between 0.26 and 13; on inputs 255
times too large at least 67, on inputs 255 times too small at most 0.05."""

_UNLEARNT = 1e4
"""A bias that much smaller than its weights, or what they add up to, was never learnt."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A layer, the products it adds up, and the size that training left in its parameters."""

    layer: str
    total: Value
    axis: int
    size: float
    what: str


class ScaleProbe:
    """Compares how much the first layers' sums vary with what their parameters imply.

    A batch norm holds the variance of its input in training. Folded into a layer, it leaves
    a bias ``beta - k * mean`` of the size of what varies; other biases are learnt to be of
    that size as well. If inputs are 255 times too large, sums vary 255 times as much, and
    biases do not. Measured on the first samples, by the first part of the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._found = _candidates(graph)
        self._evaluator = _evaluator(graph, self._found)
        self._inputs = _inputs(graph, self._found)
        self._sums = [[np.zeros(1), np.zeros(1)] for _ in self._found]
        self._count = 0

    def add(self, feed: Mapping[str, Array]) -> None:
        """Take up one sample."""
        if self._evaluator is None or self._count >= _SAMPLES:
            return
        self._count += 1
        results = self._evaluator.run({v.name: feed[v.name] for v in self._inputs})
        for i, sums in enumerate(self._sums):
            for j, name in enumerate(_names(i)):
                sums[j] = sums[j] + results[name].astype(np.float64)

    def ratios(self) -> dict[str, float]:
        """Return, by layer, how much its sums vary over what its parameters imply."""
        return {layer: spread for layer, (spread, _) in self._ratios().items()}

    def _ratios(self) -> dict[str, tuple[float, float]]:
        """Return standard deviation and root mean square of the sums, in implied sizes."""
        if not self._count:
            return {}
        found: dict[str, tuple[float, float]] = {}
        for candidate, sums in zip(self._found, self._sums, strict=True):
            mean, square = (total / self._count for total in sums)
            spread = float(np.sqrt(np.maximum(square - mean**2, 0).mean()))
            found[candidate.layer] = (
                spread / candidate.size,
                float(np.sqrt(square.mean())) / candidate.size,
            )
        return found

    def warnings(self, ends: Mapping[str, tuple[float, float]]) -> Iterator[Warned]:
        """Yield what looks wrong; `ends` are the lowest and highest number of each input."""
        ratios = self._ratios()
        for candidate in self._found:
            ratio, whole = ratios.get(candidate.layer, (0.0, 0.0))
            if whole > _UNLEARNT or not whole:
                continue
            # Samples that hardly differ vary little, whatever their size.
            if whole > _LOW and ratio < _HIGH:
                return
            large = ratio >= _HIGH
            size, way = ("large", "divide") if large else ("small", "multiply")
            reach = ", ".join(
                f"{v.name!r} goes from {ends[v.name][0]:.4g} to {ends[v.name][1]:.4g}"
                for v in self._inputs
                if v.name in ends
            )
            yield Warned(
                "scale",
                candidate.layer,
                f"its inputs seem far too {size}: what it adds up varies {ratio:.3g} times as "
                f"much as {candidate.what} implies",
                f"{way} the samples by what training did, for instance by 255; input {reach}",
            )
            return


def _candidates(graph: Graph) -> tuple[_Candidate, ...]:
    """Return the first layers whose parameters tell the size of what they add up."""
    found: list[_Candidate] = []
    for node in graph.nodes:
        if len(found) == _TRIED:
            break
        candidate = _norm(graph, node) or _layer(graph, node)
        if candidate is not None and _ancestry(graph, candidate.total)[1]:
            found.append(candidate)
    return tuple(found)


def _norm(graph: Graph, node: Node) -> _Candidate | None:
    if not isinstance(node.op, BatchNorm):
        return None
    variance = graph.constant(node.inputs[4])
    x = node.inputs[0]
    if variance is None or not variance.size or x.type.dims is None or x.type.rank < 2:
        return None
    size = float(np.sqrt(variance.mean(dtype=np.float64)))
    return _Candidate(node.layer, x, 1, size, "its batch norm") if size > 0 else None


def _layer(graph: Graph, node: Node) -> _Candidate | None:
    if not isinstance(node.op, Convolution | FullyConnected) or len(node.inputs) < 3:
        return None
    weight, bias = graph.constant(node.inputs[1]), graph.constant(node.inputs[2])
    if weight is None or bias is None or not bias.size:
        return None
    # A batch norm that follows says it better; the bias before it is left from no training.
    if any(isinstance(n.op, BatchNorm) for n in graph.users.get(node.output, ())):
        return None
    size, weights = (float(np.sqrt(np.mean(a.astype(np.float64) ** 2))) for a in (bias, weight))
    if not size * _UNLEARNT > weights or node.output.type.dims is None:
        return None
    return _Candidate(node.layer, node.output, 1, size, "its bias")


def _ancestry(graph: Graph, value: Value) -> tuple[set[str], tuple[Value, ...]]:
    """Return the outputs of the nodes that a value is computed by, and the inputs it needs."""
    seen: set[str] = set()
    todo = [value]
    while todo:
        v = todo.pop()
        node = graph.producers.get(v)
        if v.name not in seen:
            seen.add(v.name)
            todo.extend(node.reads if node is not None else ())
    return seen, tuple(v for v in graph.inputs if v.name in seen)


def _inputs(graph: Graph, found: tuple[_Candidate, ...]) -> tuple[Value, ...]:
    needed = {v.name for c in found for v in _ancestry(graph, c.total)[1]}
    return tuple(v for v in graph.inputs if v.name in needed)


def _names(i: int) -> tuple[str, str]:
    return f"edgec.mean.{i}", f"edgec.square.{i}"


def _evaluator(graph: Graph, found: tuple[_Candidate, ...]) -> Evaluator | None:
    """Return what computes the mean and mean square of each channel of the sums."""
    if not found:
        return None
    needed: set[str] = set()
    for candidate in found:
        needed |= _ancestry(graph, candidate.total)[0]
    nodes = [n for n in graph.nodes if needed.intersection(n.output_names)]
    outputs: list[Value] = []
    for i, candidate in enumerate(found):
        total = candidate.total
        producer = graph.producers.get(total)
        if producer is not None and isinstance(producer.op, Convolution | FullyConnected):
            # Without its bias, whose part in the mean would leave no digits to the rest.
            plain = replace(producer.op, activation=Activation.NONE)
            total = Value(f"edgec.total.{i}", total.type)
            nodes.append(Node(plain, producer.inputs[:2], (total,)))
        square = Value(f"edgec.squares.{i}", total.type)
        nodes.append(Node(Mul(), (total, total), (square,)))
        axes = tuple(a for a in range(total.type.rank) if a != candidate.axis)
        for name, source in zip(_names(i), (total, square), strict=True):
            reduce = ReduceMean(axes, keepdims=False)
            (t,) = reduce.infer(source.type)
            outputs.append(Value(name, t))
            nodes.append(Node(reduce, (source,), (outputs[-1],)))
    read = {v.name for n in nodes for v in n.reads}
    constants = {k: c for k, c in graph.constants.items() if k in read}
    part: Mapping[str, Constant] = MappingProxyType(constants)
    whole = Graph(graph.name, _inputs(graph, found), tuple(outputs), tuple(nodes), part)
    return Evaluator(whole)
