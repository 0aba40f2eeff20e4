"""Subgraphs of control flow, as graphs of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import onnx

from edgec.frontend.branches import declared_types, initializers
from edgec.frontend.functions import add_nodes, name_results
from edgec.ir import Array, Builder, Constant, DType, Graph, Node, TensorType, Value
from edgec.ops import Opaque

__all__ = ["body_graph", "inline"]


def body_graph(
    op: Opaque,
    body: onnx.GraphProto,
    inputs: Sequence[TensorType],
    constants: Mapping[int, Array],
    outer: Sequence[tuple[Value, Array | None]],
) -> Graph:
    """Return a subgraph as a graph.

    Its inputs are those of the subgraph that are not `constants`, then the values from outside
    that are computed. Constants from outside keep their names.

    Parameters
    ----------
    inputs
        Types of the subgraph's inputs.
    constants
        Inputs whose contents are known, by position.
    outer
        What the subgraph reads from outside, as `Opaque.captures` names it, with contents
        where they are known.
    """
    values: dict[str, Value] = {}
    given: list[Value] = []
    known: dict[str, Constant] = {}
    for position, (info, t) in enumerate(zip(body.input, inputs, strict=True)):
        value = Value(f"{info.name}.given", t)
        if position in constants:
            known[value.name] = Constant(constants[position])
        else:
            given.append(value)
        values[info.name] = value
    for name, (value, array) in zip(op.captures, outer, strict=True):
        values[name] = value
        if array is not None:
            known[value.name] = Constant(array)
        elif value not in given:
            given.append(value)
    results = tuple(
        Value(f"{info.name}.result", TensorType(DType.UNDEFINED, None)) for info in body.output
    )
    b = Builder(Graph(body.name, tuple(given), results, (), MappingProxyType(known)))
    caller = Node(op, (), results, (op.op_type,))
    for name, array in initializers(body):
        values[name] = b.constant(array, near=name)
    add_nodes(b, body.node, op.opset, values, {}, caller, versions=dict(op.imports),
              declared=declared_types(body))  # fmt: skip
    name_results(b, [info.name for info in body.output], values, caller)
    return b.finish()


def inline(
    b: Builder,
    graph: Graph,
    arguments: Mapping[Value, Value],
    constants: dict[str, Value],
    caller: Node,
    place: str,
) -> list[Value]:
    """Add the nodes of a graph to another, and return what stands for its outputs.

    Parameters
    ----------
    arguments
        What stands for the inputs.
    constants
        What stands for constants, by name; those it lacks are added to it.
    caller
        The node that the graph belongs to.
    place
        Distinguishes names where a graph is added several times.
    """
    now: dict[Value, Value] = dict(arguments)
    near = f"{caller.outputs[0].name}/{place}"

    def value_of(value: Value) -> Value:
        if value.is_absent or value in now:
            return now.get(value, value)
        if value.name not in constants:
            array = graph.constants[value.name].array
            constants[value.name] = b.constant(array, near=f"{near}{value.name}")
        return constants[value.name]

    for node in graph.nodes:
        names = [b.fresh(f"{near}{v.name}") for v in node.outputs]
        made = b.add(node.op, *map(value_of, node.inputs), names=names, absorbs=(node,))
        now.update(zip(node.outputs, made, strict=False))
    return [value_of(v) for v in graph.outputs]
