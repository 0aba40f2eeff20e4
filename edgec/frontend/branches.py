"""Conditions that are known: the branch that is taken becomes part of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import onnx

from edgec.frontend.files import array_of, dense_array_of
from edgec.frontend.functions import add_nodes, name_results
from edgec.frontend.shapes import Binding
from edgec.ir import Array, Builder, Node, TensorType
from edgec.ops import If
from edgec.ops.opaque import tensor_type

__all__ = ["declared_types", "initializers", "take_branch"]


def take_branch(b: Builder, node: Node) -> bool:
    """Add the branch of an ``If`` whose condition is a constant, in place of the node.

    Its nodes keep their layer names; values get names that nothing else has.

    Returns
    -------
    taken
        Whether `node` is such an ``If``; nothing was added otherwise.
    """
    op = node.op
    if not isinstance(op, If):
        return False
    condition, *outer = [b.now(v) for v in node.inputs]
    known = b.array(condition)
    if known is None or known.size != 1:
        return False
    name = "then_branch" if known.any() else "else_branch"
    body = op.bodies.get(name)
    if body is None or len(body.output) < len(node.outputs):
        return False
    values = dict(zip(op.captures, outer, strict=True))
    for constant, array in initializers(body):
        values[constant] = b.constant(array, f"{node.outputs[0].name}/{constant}")
    declared = declared_types(body)
    declared.update(
        (info.name, value.type) for info, value in zip(body.output, node.outputs, strict=False)
    )
    names = {
        info.name: value.name for info, value in zip(body.output, node.outputs, strict=False)
    }
    add_nodes(
        b,
        body.node,
        op.opset,
        values,
        names,
        node,
        versions=dict(op.imports),
        declared=declared,
    )
    name_results(b, [v.name for v in body.output], values, node)
    return True


def initializers(body: onnx.GraphProto) -> Iterator[tuple[str, Array]]:
    """Yield the constants of a subgraph by name."""
    for tensor in body.initializer:
        yield tensor.name, array_of(tensor, Path())
    for sparse in body.sparse_initializer:
        yield sparse.values.name, dense_array_of(sparse, Path())


def declared_types(body: onnx.GraphProto) -> dict[str, TensorType]:
    """Return the types that a subgraph itself tells of its values."""
    found: dict[str, TensorType] = {}
    nothing = Binding({}, {}, frozenset())  # lengths in there are named after no one knows what
    for info in (*body.value_info, *body.output):
        if info.type.WhichOneof("value"):
            with suppress(ValueError):  # a type that edgec does not know
                found[info.name] = nothing.apply(tensor_type(info.type))
    return found
