"""From an ONNX node to an operator: a class of its own where one fits, opaque otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgec.frontend.files import array_of, dense_array_of
from edgec.ir import OPSET, UNKNOWN, Array, OnnxNode, Op, TensorType
from edgec.ops import OPS, Cast, Dropout, Identity, Opaque, Reshape
from edgec.ops.arguments import axis_of
from edgec.ops.control import CONTROL_FLOW

__all__ = ["READ_AS", "captures", "constant_value", "opaque", "plain", "retyped", "typed"]

_CLASSES: dict[str, list[type[Op]]] = {}
for _cls in OPS:
    _CLASSES.setdefault(_cls.onnx_name, []).append(_cls)


def typed(node: OnnxNode) -> Op | None:
    """Return the typed operator for a node of the default domain, or ``None``.

    Typed operators need to know their operands: a node with an operand of unknown shape stays
    opaque until constant folding finds the shape.
    """
    if any(
        t.dims is None or UNKNOWN in t.dims for i, t in enumerate(node.inputs) if node.has(i)
    ):
        return None
    if node.op_type in READ_AS:
        return READ_AS[node.op_type][1](node)
    node = replace(node, attributes={k: _array(v) for k, v in node.attributes.items()})
    for cls in _CLASSES.get(node.op_type, ()):
        if (op := cls.from_onnx(node)) is not None:
            return op
    return None


def _cast(node: OnnxNode) -> Op | None:
    """Return CastLike as the cast it is."""
    attributes = {**node.attributes, "to": node.inputs[1].dtype.onnx}
    return Cast.from_onnx(replace(node, op_type="Cast", attributes=attributes))


def _array(value: Any) -> Any:
    """Return an attribute that is a tensor as an array, any other as it is."""
    here = isinstance(value, onnx.TensorProto) and not value.external_data
    return array_of(value, Path()) if here else value


def _reshape(node: OnnxNode) -> Op | None:
    """Return Flatten, Squeeze or Unsqueeze as the reshape it is."""
    x = node.inputs[0]
    if x.dims is None:
        return None
    dims = x.shape
    if node.op_type == "Flatten":
        axis = node.attributes.get("axis", 1)
        axis = axis_of(axis, len(dims)) if axis != len(dims) else axis  # both ends are allowed
        out = tuple(_product(part) for part in (dims[:axis], dims[axis:]))
        return Reshape.to(out)
    array = node.constant(1)
    if node.has(1) and array is None:
        return None
    axes = node.attributes.get("axes") if array is None else array.reshape(-1).tolist()
    if node.op_type == "Squeeze":
        gone = (
            {axis_of(a, len(dims)) for a in axes}
            if axes
            else {i for i, d in enumerate(dims) if d == 1}
        )
        if any(isinstance(dims[i], int) and dims[i] != 1 for i in gone):
            raise ValueError(f"axes {sorted(gone)} of {x} are not all of length 1")
        return Reshape.to(tuple(d for i, d in enumerate(dims) if i not in gone))
    if axes is None:
        return None
    rank = len(dims) + len(axes)
    added, rest = {axis_of(a, rank) for a in axes}, iter(dims)
    if len(added) != len(axes):
        raise ValueError(f"axes {sorted(axes)} name one axis twice")
    return Reshape.to(tuple(1 if i in added else next(rest) for i in range(rank)))


def _dropout(node: OnnxNode) -> Op | None:
    """Return Dropout as what it is at inference."""
    op = Dropout.from_onnx(node)
    return Identity() if op is not None and node.outputs == 1 else op


def _product(dims: tuple[int | str, ...]) -> int | str:
    total = 1
    for d in dims:
        if isinstance(d, str):
            return d if len(dims) == 1 else "?"
        total *= d
    return total


READ_AS: Mapping[str, tuple[type[Op], Callable[[OnnxNode], Op | None]]] = {
    "CastLike": (Cast, _cast),
    "Dropout": (Identity, _dropout),
    "Flatten": (Reshape, _reshape),
    "Squeeze": (Reshape, _reshape),
    "Unsqueeze": (Reshape, _reshape),
}
"""Operators of ONNX that are another one in the graph, and how they become it."""


def opaque(
    proto: onnx.NodeProto,
    domain: str,
    opset: int,
    declared: tuple[TensorType, ...],
    captures: tuple[str, ...],
    versions: Mapping[str, int] | None = None,
) -> Opaque | None:
    """Return a node kept as it is, or ``None`` if the model must first be raised to `OPSET`.

    Parameters
    ----------
    versions
        Of the domains that nodes in subgraphs may have.
    """
    kept = onnx.NodeProto(op_type=proto.op_type, domain=domain)
    kept.attribute.extend(sorted(proto.attribute, key=lambda a: a.name))
    for body in _bodies(kept):
        _forget_remarks(body)
    if domain == "":
        changed = _is_changed(proto, opset)
        if changed and opset < OPSET:
            return None
        opset = opset if changed else OPSET
    data = kept.SerializeToString(deterministic=True)
    inside = sorted({n.domain for n in _inner_nodes(proto)} - {"", "ai.onnx", domain})
    imports = tuple((name, (versions or {}).get(name, 1)) for name in inside)
    kind = Opaque if domain else CONTROL_FLOW.get(proto.op_type, Opaque)
    return kind(proto.op_type, domain, opset, data, declared, captures, imports)


def _inner_nodes(proto: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for body in _bodies(proto):
        for inner in body.node:
            yield inner
            yield from _inner_nodes(inner)


def _forget_remarks(body: onnx.GraphProto) -> None:
    """Drop what exporters note about each node of a subgraph: whole stack traces, at times."""
    for thing in (body, *body.input, *body.output, *body.value_info, *body.node):
        thing.ClearField("doc_string")
        thing.ClearField("metadata_props")
    for node in body.node:
        for inner in _bodies(node):
            _forget_remarks(inner)


def _since(op_type: str, opset: int) -> int:
    """Return the opset that gave an operator the meaning it has in `opset`."""
    version: int = onnx.defs.get_schema(op_type, opset, "").since_version
    return version


def _bodies(proto: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in proto.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _is_changed(node: onnx.NodeProto, opset: int) -> bool:
    """Whether a node, or one inside of it, means something else in the opset `OPSET`."""
    if node.domain in ("", "ai.onnx"):
        since = _since(node.op_type, opset)
        if since > OPSET or (opset < OPSET and since != _since(node.op_type, OPSET)):
            return True
    return any(_is_changed(inner, opset) for body in _bodies(node) for inner in body.node)


def retyped(
    op: Opaque,
    inputs: Sequence[TensorType],
    constants: Sequence[Array | None],
    outputs: int = 1,
) -> Op | None:
    """Return a typed operator for an opaque one whose operands are better known by now.

    Parameters
    ----------
    outputs
        Number of leading outputs up to the last that something reads.
    """
    if op.domain or op.captures:
        return None
    attributes = {a.name: plain(a) for a in op.node_proto().attribute}
    node = OnnxNode(
        op.op_type,
        op.opset,
        attributes,
        tuple(inputs),
        tuple(constants),
        outputs,
        len(op.declared),
    )
    return typed(node)


def plain(attribute: onnx.AttributeProto) -> Any:
    """Return an attribute as plain Python; tensors and graphs stay protobufs.

    A float is the shortest one that is the same in float32: what was 0.2 before it was stored
    is 0.2 again.
    """
    value = helper.get_attribute_value(attribute)
    if isinstance(value, float):
        return float(str(np.float32(value)))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Sequence) and value and isinstance(value[0], bytes):
        return [v.decode("utf-8", "replace") for v in value]
    return list(value) if attribute.type in _LISTS else value


_LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)


def captures(proto: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node's subgraphs read from outside."""
    for attribute in proto.attribute:
        for body in [attribute.g, *attribute.graphs]:
            own = {v.name for v in body.input} | {t.name for t in body.initializer}
            own.update(t.values.name for t in body.sparse_initializer)
            for node in body.node:
                yield from (n for n in (*node.input, *captures(node)) if n and n not in own)
                own.update(node.output)
            yield from (v.name for v in body.output if v.name not in own)


def constant_value(attributes: Mapping[str, Any], folder: Path | None = None) -> Array | None:
    """Return the array of a ``Constant`` node, or ``None`` if it has no value.

    Parameters
    ----------
    folder
        Where external data are looked for.
    """
    for key, value in attributes.items():
        if isinstance(value, onnx.TensorProto):
            return array_of(value, folder or Path())
        if isinstance(value, onnx.SparseTensorProto):
            return dense_array_of(value, folder or Path())
        if key in ("value_int", "value_ints"):
            return np.array(value, np.int64)
        if key in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if key in ("value_string", "value_strings"):
            return np.array(value, object)
    return None
