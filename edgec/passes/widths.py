"""Which layers of a quantized graph compute on 16 bits, where the others compute on 8."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edgec.ir import DType, Graph, Node, QuantRule, Role, SameAsInput, Value
from edgec.passes.scheme import Scheme

__all__ = ["element_types"]

_Names = tuple[str, ...]


def element_types(
    graph: Graph, rules: Mapping[_Names, QuantRule], scheme: Scheme, wide: Collection[str]
) -> dict[_Names, DType]:
    """Return what each node stores its activations as, by the names of its outputs.

    What only moves values takes the type of what it moves, and the wider one where it joins
    several. What it moves from an input of the graph has the type that its readers want, the
    wider one if they differ.

    Parameters
    ----------
    rules
        Of the nodes that compute on integers.
    wide
        Names of layers that compute on 16 bits; those that only move values do not count.
    """
    found: dict[_Names, DType] = {}
    free: list[Node] = []
    named = frozenset(wide)
    for node in graph.nodes:
        rule = rules.get(node.output_names)
        if rule is None:
            continue
        if not isinstance(rule.output, SameAsInput):
            chosen = not named.isdisjoint((*node.origin, *node.output_names))
            found[node.output_names] = DType.INT16 if chosen else scheme.activation
            continue
        types = {found.get(n.output_names) for n in _makers(graph, node, rule)} - {None}
        if types:
            found[node.output_names] = _widest(types, scheme)
        else:
            free.append(node)
    for node in reversed(free):
        readers = (n for v in node.outputs for n in graph.users.get(v, ()))
        types = {found.get(n.output_names) for n in readers} - {None}
        found[node.output_names] = _widest(types, scheme)
    return found


def _makers(graph: Graph, node: Node, rule: QuantRule) -> list[Node]:
    """Return the nodes that make what a node moves."""
    data: list[Value] = [
        v for i, v in enumerate(node.inputs) if rule.role(i) is Role.ACTIVATION
    ]
    return [graph.producers[v] for v in data if v in graph.producers]


def _widest(types: Collection[DType | None], scheme: Scheme) -> DType:
    return DType.INT16 if DType.INT16 in types else scheme.activation
