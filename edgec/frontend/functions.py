"""Bodies of ONNX functions: operators that the standard writes in terms of simpler ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import onnx
from onnx.defs import OpSchema, SchemaError

from edgec.errors import InternalError, ModelError
from edgec.frontend.qoperator import InPairs
from edgec.frontend.runtime_types import runtime_types
from edgec.frontend.typing import captures, constant_value, opaque, plain, typed
from edgec.ir import (
    ABSENT,
    OPSET,
    Builder,
    ContainerType,
    DType,
    Node,
    OnnxNode,
    Op,
    TensorType,
    Value,
)
from edgec.ops import Identity, Opaque
from edgec.ops.opaque import tensor_type, type_proto

__all__ = ["add_nodes", "body_of", "expand", "name_results"]

_AXES_ARE_INPUTS = 13  # of Squeeze and Unsqueeze

# Operators that no opset since 13 gave another meaning, only more element types and
# attributes: version history of https://onnx.ai/onnx/operators/.
_SETTLED = frozenset({
    "Add", "Cast", "CastLike", "Constant", "ConstantOfShape", "Conv", "ConvTranspose",
    "Div", "Equal", "Flatten", "Identity", "If", "IsInf", "IsNaN", "Loop", "Mul", "Pow",
    "Range", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reshape", "Scan", "Shape",
    "Size", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


def body_of(
    op: Opaque, inputs: Sequence[TensorType], outputs: int
) -> onnx.FunctionProto | None:
    """Return what the standard says an operator is, or ``None`` if it says nothing.

    Parameters
    ----------
    inputs
        Types of the operands; some bodies depend on them.
    outputs
        Number of outputs.
    """
    if op.domain or op.captures:
        return None
    try:
        schema = onnx.defs.get_schema(op.op_type, op.opset, "")
    except SchemaError:
        return None
    node = op.node_proto()
    node.input.extend(f"i{k}" if t.dtype.onnx else "" for k, t in enumerate(inputs))
    node.output.extend(f"o{k}" for k in range(outputs))
    data = _body(schema, op.opset, node, inputs)
    if not data:
        return None
    function = onnx.FunctionProto()
    function.ParseFromString(data)
    return _resolved(function, node, schema)


def _body(
    schema: Any, opset: int, node: onnx.NodeProto, inputs: Sequence[TensorType]
) -> bytes | None:
    # The stubs that onnx ships know nothing of functions.
    if schema.has_context_dependent_function:
        known = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        if known:
            types = [
                (type_proto(t) if t.dtype.onnx else onnx.TypeProto()).SerializeToString()
                for t in inputs
            ]
            found: bytes = schema.get_context_dependent_function_with_opset_version(
                max(known), node.SerializeToString(), types
            )
            return found
    known = [v for v in schema.function_opset_versions if v <= opset]
    if not schema.has_function or not known:
        return None
    plain_body: bytes = schema.get_function_with_opset_version(max(known))
    return plain_body


def _resolved(
    function: onnx.FunctionProto, node: onnx.NodeProto, schema: OpSchema
) -> onnx.FunctionProto:
    """Put the node's attributes where the body refers to them."""
    given = {a.name: a for a in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            given[name] = attribute.default_value
    for inner in function.node:
        kept: list[onnx.AttributeProto] = []
        for attribute in inner.attribute:
            if attribute.ref_attr_name:
                value = given.get(attribute.ref_attr_name)
                if value is None:
                    continue
                named = onnx.AttributeProto()
                named.CopyFrom(value)
                named.name = attribute.name
                kept.append(named)
            else:
                kept.append(attribute)
        del inner.attribute[:]
        inner.attribute.extend(kept)
    return function


def expand(b: Builder, node: Node) -> bool:
    """Add the body of a function in place of the node that calls it.

    Returns
    -------
    expanded
        Whether there is a body that can be written down; nothing was added otherwise.
    """
    if not isinstance(node.op, Opaque):
        return False
    inputs = [b.now(v) for v in node.inputs]
    body = body_of(node.op, [v.type for v in inputs], len(node.outputs))
    if body is None:
        return False
    opset = next((o.version for o in body.opset_import if o.domain in ("", "ai.onnx")), 0)
    if any(opaque(n, "", _kept_at(n, opset), (), ()) is None for n in body.node):
        return False  # a node that can be neither typed nor kept: its meaning has changed since
    values: dict[str, Value] = dict.fromkeys(body.input, ABSENT)
    values.update(zip(body.input, inputs, strict=False))
    names = dict(zip(body.output, node.output_names, strict=False))
    declared = _inferred(body.node, opset, values)
    # What the caller's type already says of its results holds for those of the body.
    declared |= {
        name: value.type
        for name, value in zip(body.output, node.outputs, strict=False)
        if isinstance(value.type, TensorType)
    }
    add_nodes(b, body.node, opset, values, names, node, declared=declared)
    name_results(b, body.output, values, node)
    return True


def name_results(
    b: Builder, results: Iterable[str], values: Mapping[str, Value], node: Node
) -> None:
    """Let what a body returns stand for the outputs of `node`, under their names."""
    for result, value in zip(results, node.outputs, strict=False):
        found = values[result]
        if found.name != value.name:  # a body may return a constant, or what it was given
            (found,) = b.add(_identity(found), found, names=[value.name], absorbs=(node,))
        b.replace(value, found)


def _identity(value: Value) -> Op:
    if not isinstance(value.type, ContainerType):
        return Identity()
    proto = onnx.NodeProto(op_type="Identity").SerializeToString(deterministic=True)
    return Opaque("Identity", "", OPSET, proto, (value.type,))


def _kept_at(proto: onnx.NodeProto, opset: int) -> int:
    """Return the opset to keep a node of `opset` at, where it means the same.

    What bodies compute shapes and types with has only ever got more element types and
    attributes. The newest opsets are those that runtimes do not have yet, and nodes of older
    ones would not mix.
    """
    inner = (n for a in proto.attribute for g in (a.g, *a.graphs) for n in g.node)
    settled = all(
        _is_settled(n, opset) or _since(n.op_type, opset) == _since(n.op_type, OPSET)
        for n in (proto, *inner)
        if n.domain in ("", "ai.onnx")
    )
    return OPSET if settled else opset


def _is_settled(proto: onnx.NodeProto, opset: int) -> bool:
    if proto.op_type not in _SETTLED or opset < _AXES_ARE_INPUTS:
        return False
    known = onnx.defs.get_schema(proto.op_type, OPSET, "").attributes
    return all(a.name in known for a in proto.attribute)


def _since(op_type: str, opset: int) -> int | None:
    """Return the opset that gave an operator the meaning it has in `opset`, if it has one."""
    if not onnx.defs.has(op_type, opset, ""):
        return None
    version: int = onnx.defs.get_schema(op_type, opset, "").since_version
    return version


def _inferred(
    protos: Sequence[onnx.NodeProto], opset: int, values: Mapping[str, Value]
) -> dict[str, TensorType]:
    """Return the types that onnx infers of what nodes compute, as far as it can tell."""
    fed = [
        onnx.helper.make_value_info(name, type_proto(v.type))
        for name, v in values.items()
        if not v.is_absent
    ]
    graph = onnx.helper.make_graph(list(protos), "body", fed, [])
    imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    with suppress(onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    found: dict[str, TensorType] = {}
    for info in model.graph.value_info:
        if info.type.HasField("tensor_type") and info.type.tensor_type.elem_type:
            found[info.name] = tensor_type(info.type)
    return found


def add_nodes(
    b: Builder,
    protos: Sequence[onnx.NodeProto],
    opset: int,
    values: dict[str, Value],
    names: Mapping[str, str],
    caller: Node,
    *,
    versions: Mapping[str, int] | None = None,
    declared: Mapping[str, TensorType] | None = None,
) -> None:
    """Add ONNX nodes to a graph, typed where they can be.

    Parameters
    ----------
    opset
        That gives the nodes their meaning.
    values
        What the nodes read by name; what they compute is added.
    names
        Names in the graph of some of the results; the others get names near the caller's.
    caller
        Whose layer the new nodes belong to, unless they have names.
    versions
        Of other domains.
    declared
        Types by name, for nodes of which onnx cannot tell.
    """
    read = {n for proto in protos for n in (*proto.input, *captures(proto))} | names.keys()
    taken = {n for proto in protos for n in proto.output} | read | values.keys()
    in_pairs = InPairs(max(opset, OPSET), values, b.array, _Fresh(taken, read))
    domains = {**(versions or {}), "": opset}
    unknown = TensorType(DType.UNDEFINED, None)
    todo = [(proto, False) for proto in reversed(protos)]
    while todo:
        proto, is_part = todo.pop()
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        if parts := in_pairs.nodes(proto, domain, proto.name):
            for name, held in in_pairs.constants.items():
                values[name] = b.constant(held, near=_near(caller, name))
            todo += [(part, True) for part in reversed(parts)]
            continue
        attributes = {a.name: plain(a) for a in proto.attribute}
        if proto.op_type == "Constant" and not proto.domain:
            array = constant_value(attributes)
            if array is None:
                raise InternalError("the body of a function has a constant without a value")
            values[proto.output[0]] = b.constant(array, near=_near(caller, proto.output[0]))
            continue
        outer = tuple(dict.fromkeys(captures(proto)))
        for name in (*proto.input, *outer):
            if name and name not in values:
                raise ModelError(f"{caller.layer}: a node of its body reads {name}, "
                                 "which nothing computes")  # fmt: skip
        inputs = [values[name] if name else ABSENT for name in proto.input]
        version = in_pairs.opset_of(proto) if is_part else domains.get(domain, 1)
        node = OnnxNode(
            proto.op_type,
            version,
            attributes,
            tuple(v.type for v in inputs),
            tuple(b.array(v) for v in inputs),
            max((i + 1 for i, name in enumerate(proto.output) if name in read), default=0),
        )
        op = None if domain else typed(node)
        if op is None:
            known = tuple((declared or {}).get(name, unknown) for name in proto.output)
            if domain and unknown in known:
                known = runtime_types(proto, domains, [v.type for v in inputs]) or known
            kept_at = version if domain else _kept_at(proto, version)
            op = opaque(proto, domain, kept_at, known, outer, versions)
            if op is None:
                raise InternalError(f"{proto.op_type} of opset {opset} cannot be kept")
            inputs += [values[name] for name in outer]
        else:
            inputs = inputs[: type(op).operands]
        while inputs and inputs[-1].is_absent:
            inputs.pop()
        wanted = [
            names[name] if name in names else b.fresh(_near(caller, name or "unused"))
            for name in proto.output
        ]
        layer = replace(caller, origin=(proto.name,)) if proto.name else caller
        found = b.add(op, *inputs, names=wanted, absorbs=(layer,))
        values.update(zip(proto.output, found, strict=False))


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Gives names that the nodes of a body do not have, for what will be read."""

    taken: set[str]
    read: set[str]

    def __call__(self, near: str) -> str:
        name, n = near, 1
        while name in self.taken:
            name, n = f"{near}.{n}", n + 1
        self.taken.add(name)
        self.read.add(name)
        return name


def _near(caller: Node, name: str) -> str:
    return f"{caller.outputs[0].name}/{name}"
