"""Which layers of a graph are quantized, and which values must share their parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgec.errors import Diagnostic
from edgec.ir import (
    DType,
    Fixed,
    Graph,
    Measured,
    Node,
    QuantRule,
    Role,
    SameAsInput,
    Value,
)
from edgec.ops import Binary, Dequantize, Quantize, Softmax, Where
from edgec.passes.scheme import Scheme
from edgec.passes.widths import element_types

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to quantize.

    Parameters
    ----------
    nodes
        Rules of the nodes that compute on integers, by the names of their outputs.
    group_of
        For every activation such a node reads or writes, the value that stands for its
        group; one group has one set of parameters.
    fixed
        Ranges that an operator prescribes, by group.
    measured
        The values whose range calibration must find.
    computed
        All activations of such nodes that are no constants: measured or not.
    reasons
        Why the other nodes stay in float.
    types
        What those nodes store the activations they read and write as, by the names of their
        outputs. Nodes of other types read a value through a step from one grid to another.
    """

    nodes: Mapping[tuple[str, ...], QuantRule]
    group_of: Mapping[Value, Value]
    fixed: Mapping[Value, Fixed]
    measured: tuple[Value, ...]
    computed: tuple[Value, ...]
    reasons: tuple[Diagnostic, ...]
    types: Mapping[tuple[str, ...], DType]

    def role(self, node: Node, operand: int) -> Role:
        """Return the role of an operand of a node that is quantized."""
        return self.nodes[node.output_names].role(operand)

    def needs_range(self, value: Value) -> bool:
        """Whether the value's group takes its range from measurement."""
        return value in self.measured


_PLAIN = Scheme()
_NO_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType({})


def plan(
    graph: Graph,
    keep_float: Collection[str] = (),
    scheme: Scheme = _PLAIN,
    ranges: Mapping[str, tuple[float, float]] = _NO_RANGES,
    spared: Collection[str] = (),
    wide: Collection[str] = (),
) -> Plan:
    """Return which nodes of a float graph are quantized.

    Parameters
    ----------
    keep_float
        Layers that stay in float, by their names in the user's model.
    scheme
        How the device wants integers: operators that it has no kernels for stay in float.
    ranges
        What calibration saw, by name, if it has: some values turn out to be masks.
    spared
        Layers that stay in float because their integers would lose too much; no reason is
        given for them.
    wide
        Layers whose activations have 16 bits whatever the scheme says.
    """
    unwanted = _Unwanted(frozenset(keep_float), frozenset(spared))
    mixed: dict[tuple[str, ...], str] = {}
    while True:
        nodes, reasons = _quantizable(graph, unwanted, scheme, ranges, mixed)
        groups = _Groups()
        for node in graph.nodes:
            if (rule := nodes.get(node.output_names)) is not None:
                groups.take(node, rule)
        types = element_types(graph, nodes, scheme, wide)
        conflicts = {**groups.conflicts(), **_too_wide(graph, types, scheme)}
        if not conflicts:
            break
        mixed.update(conflicts)
    group_of = {value: groups.find(value) for value in groups.parent}
    fixed = {groups.find(value): f for value, f in groups.fixed.items()}
    computed = tuple(v for v in group_of if graph.constant(v) is None)
    measured = tuple(
        v for v in computed if group_of[v] not in fixed and v not in groups.derived
    )
    return Plan(nodes, group_of, fixed, measured, computed, tuple(reasons), types)


def _too_wide(
    graph: Graph, types: Mapping[tuple[str, ...], DType], scheme: Scheme
) -> dict[tuple[str, ...], str]:
    """Return the nodes whose kernels know 8 bits only, but which would have 16."""
    return {
        node.output_names: "the runtime has no kernel of 16 bits for it"
        for node in graph.nodes
        if types.get(node.output_names) is DType.INT16 and isinstance(node.op, scheme.narrow)
    }


@dataclass(frozen=True, slots=True)
class _Unwanted:
    """Layers that stay in float, by who wants it."""

    asked: frozenset[str]
    spared: frozenset[str]

    def is_spared(self, node: Node) -> bool:
        """Whether a node is one of those that lose too much; whoever spares it says so."""
        return not self.spared.isdisjoint((*node.origin, *node.output_names))


def _quantizable(
    graph: Graph,
    unwanted: _Unwanted,
    scheme: Scheme,
    ranges: Mapping[str, tuple[float, float]],
    mixed: Mapping[tuple[str, ...], str],
) -> tuple[dict[tuple[str, ...], QuantRule], list[Diagnostic]]:
    """Return the nodes that can be quantized, and why the others cannot."""
    nodes: dict[tuple[str, ...], QuantRule] = {}
    integer: set[Value] = set()  # outputs of quantized nodes
    reasons: list[Diagnostic] = []
    for node in graph.nodes:
        if unwanted.is_spared(node):
            continue
        why = mixed.get(node.output_names) or _obstacle(graph, node, unwanted, ranges, integer)
        rule = node.op.quant_rule()
        if not why and rule is not None and isinstance(node.op, scheme.floating):
            why = "the runtime has no integer kernel for it"
        if why:
            reasons.append(Diagnostic(f"{node.op} stays in float: {why}", node.layer))
            continue
        pair = isinstance(node.op, Quantize | Dequantize)
        floats = any(v.type.dtype is DType.FLOAT32 for v in node.outputs)
        if rule is not None and floats and not pair:
            nodes[node.output_names] = rule
            integer.update(node.outputs)
    return nodes, reasons


_MASK = 1e6
"""A number beyond this is a mask ("minus infinity"), not data: its scale would drown both."""


def _is_masked(graph: Graph, value: Value, ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Whether a value has such numbers, or some were added to it just before."""
    producer = graph.producers.get(value)
    sources = (value, *(producer.reads if producer and isinstance(producer.op, Binary) else ()))
    arrays = (graph.constant(v) for v in sources)
    if any(a is not None and float(np.abs(a).max(initial=0)) > _MASK for a in arrays):
        return True
    # Layers may well yield such numbers; a mask is made by arithmetic on each element.
    made = (v for v in sources if _is_elementwise(graph.producers.get(v)))
    seen = (ranges.get(v.name, (0.0, 0.0)) for v in made)
    return any(max(-low, high) > _MASK for low, high in seen)


def _is_elementwise(node: Node | None) -> bool:
    return node is not None and isinstance(node.op, Binary | Where)


def _obstacle(
    graph: Graph,
    node: Node,
    unwanted: _Unwanted,
    ranges: Mapping[str, tuple[float, float]],
    integer: Collection[Value],
) -> str:
    """Return why a node cannot be quantized; empty if it can."""
    if isinstance(node.op, Quantize | Dequantize):
        return ""
    if not unwanted.asked.isdisjoint((*node.origin, *node.output_names)):
        return "as asked for with --keep-float"
    if _is_integer(graph, node):
        return "the model quantizes it already"
    operands = (*node.data, *node.outputs)
    if not any(v.type.dtype.is_float for v in operands):
        return ""  # nothing to quantize: indices, shapes
    rule = node.op.quant_rule()
    if rule is None:
        return "edgec has no integer form of this operator"
    if any(v.type.dtype is not DType.FLOAT32 for v in operands):
        return "its operands are not all float32"
    for index, value in enumerate(node.inputs):
        role = rule.role(index)
        parameter = not value.is_absent and role in (Role.WEIGHT, Role.BIAS)
        if parameter and graph.constant(value) is None:
            return f"its {role.value} is computed, not constant"
    data = [v for i, v in enumerate(node.inputs) if rule.role(i) is Role.ACTIVATION]
    if all(graph.constant(v) is not None for v in data):
        return "it reads constants only"
    if isinstance(node.op, Softmax) and node.inputs[0].type.shape[node.op.axis] == 1:
        return "it is 1 everywhere, which no grid below 1 holds"
    if any(_is_masked(graph, v, ranges) for v in (*data, *node.outputs)):
        return "its data are masked by numbers beside which so few bits hold nothing else"
    if isinstance(rule.output, SameAsInput):
        entries = (*graph.inputs, *integer)
        if any(v not in entries and graph.constant(v) is None for v in data):
            return "it only moves values that are in float"
    return ""


def _is_integer(graph: Graph, node: Node) -> bool:
    """Whether a node of a model that came quantized is between its own pairs."""
    producers = [graph.producers.get(v) for v in node.data]
    readers = [n for v in node.outputs for n in graph.users.get(v, ())]
    before = all(n is not None and isinstance(n.op, Dequantize) for n in producers)
    after = all(isinstance(n.op, Quantize) for n in readers)
    return bool(producers and readers and before and after)


class _Groups:
    """Union-find over values that share parameters."""

    def __init__(self) -> None:
        self.parent: dict[Value, Value] = {}
        self.fixed: dict[Value, Fixed] = {}
        self.derived: set[Value] = set()  # range follows from other members of the group
        self.joins: list[Node] = []

    def find(self, value: Value) -> Value:
        self.parent.setdefault(value, value)
        while self.parent[value] != value:
            self.parent[value] = value = self.parent[self.parent[value]]
        return value

    def take(self, node: Node, rule: QuantRule) -> None:
        data = [v for i, v in enumerate(node.inputs) if rule.role(i) is Role.ACTIVATION]
        for value in (*data, *node.outputs):
            self.find(value)
        match rule.output:
            case Fixed() as fixed:
                self.fixed[node.output] = fixed
            case SameAsInput():
                first, *others = node.outputs
                for value in (*data, *others):
                    self.parent[self.find(value)] = self.find(first)
                self.derived.update(node.outputs)
                if len(data) > 1:
                    self.joins.append(node)
            case Measured():
                pass

    def conflicts(self) -> dict[tuple[str, ...], str]:
        """Return joins of values whose parameters cannot agree, and why."""
        sources: dict[Value, set[Fixed | None]] = {}
        for value in self.parent:
            if value not in self.derived:
                sources.setdefault(self.find(value), set()).add(self.fixed.get(value))
        why = "it joins values whose ranges their operators prescribe with others"
        return {
            node.output_names: why
            for node in self.joins
            if len(sources.get(self.find(node.output), ())) > 1
        }
