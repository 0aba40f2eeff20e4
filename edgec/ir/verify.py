"""The invariants every graph keeps between passes."""

from __future__ import annotations

from collections.abc import Iterator

from edgec.errors import Diagnostic, VerificationError
from edgec.ir.graph import Graph, Node, Value

__all__ = ["verify"]


def verify(graph: Graph) -> None:
    """Raise if `graph` breaks an invariant.

    Each name is defined once and before it is used; every use carries the type of the
    definition; the type of every output is what its operator infers; nothing is dead.

    Raises
    ------
    VerificationError
        With one diagnostic for each broken invariant.
    """
    problems = (*_broken_definitions(graph), *_dead(graph))
    if problems:
        raise VerificationError(f"graph {graph.name!r} is not valid", problems)


def _broken_definitions(graph: Graph) -> Iterator[Diagnostic]:
    defined: dict[str, Value] = {k: Value(k, c.type) for k, c in graph.constants.items()}
    for value in graph.inputs:
        if value.name in defined:
            yield Diagnostic("is defined twice", str(value))
        defined[value.name] = value
    for node in graph.nodes:
        for value in node.reads:
            yield from _misuse(defined, value, node)
        yield from _mistyped(graph, node)
        for value in node.outputs:
            if value.is_absent or value.name in defined:
                yield Diagnostic(f"{value} is defined twice", str(node))
            defined[value.name] = value
    for value in graph.outputs:
        yield from _misuse(defined, value, "return")


def _misuse(
    defined: dict[str, Value], value: Value, reader: Node | str
) -> Iterator[Diagnostic]:
    found = defined.get(value.name)
    if found is None:
        yield Diagnostic(f"reads {value} before its definition", str(reader))
    elif found != value:
        message = f"reads {value} as {value.type}, defined as {found.type}"
        yield Diagnostic(message, str(reader))


def _mistyped(graph: Graph, node: Node) -> Iterator[Diagnostic]:
    try:
        inferred = node.op.infer_node(
            [v.type for v in node.inputs], [graph.constant(v) for v in node.inputs]
        )
    except ValueError as error:
        yield Diagnostic(f"inputs do not fit: {error}", str(node))
        return
    if inferred != tuple(v.type for v in node.outputs):
        want = ", ".join(map(str, inferred))
        yield Diagnostic(f"the operator infers {want}", str(node))


def _dead(graph: Graph) -> Iterator[Diagnostic]:
    read = {v.name for v in (*graph.outputs, *(v for node in graph.nodes for v in node.reads))}
    for node in graph.nodes:
        if not read.intersection(v.name for v in node.outputs):
            yield Diagnostic("is dead: nothing reads its outputs", str(node))
    for name in graph.constants.keys() - read:
        yield Diagnostic("is dead: nothing reads it", f"%{name}")
