"""From an ONNX node to an operator: a class of its own where one fits, opaque otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper

from edgec.ir import OPSET, UNKNOWN, Array, OnnxNode, Op, TensorType
from edgec.ops import OPS, Identity, Opaque, Reshape

__all__ = ["opaque", "plain", "retyped", "typed"]

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
    if node.op_type in ("Flatten", "Squeeze", "Unsqueeze"):
        return _reshape(node)
    if node.op_type == "Dropout":
        training = node.constant(2)
        off = not node.has(2) or (training is not None and not training.any())
        return Identity() if off and node.outputs == 1 else None
    for cls in _CLASSES.get(node.op_type, ()):
        if (op := cls.from_onnx(node)) is not None:
            return op
    return None


def _reshape(node: OnnxNode) -> Op | None:
    """Return Flatten, Squeeze or Unsqueeze as the reshape it is."""
    x = node.inputs[0]
    if x.dims is None:
        return None
    dims = x.shape
    if node.op_type == "Flatten":
        axis = node.attributes.get("axis", 1)
        axis = axis + len(dims) if axis < 0 else axis
        out = tuple(_product(part) for part in (dims[:axis], dims[axis:]))
        return Reshape.to(out)
    array = node.constant(1)
    if node.has(1) and array is None:
        return None
    axes = node.attributes.get("axes") if array is None else array.reshape(-1).tolist()
    if node.op_type == "Squeeze":
        gone = (
            {a % len(dims) for a in axes} if axes else {i for i, d in enumerate(dims) if d == 1}
        )
        return Reshape.to(tuple(d for i, d in enumerate(dims) if i not in gone))
    if axes is None:
        return None
    rank = len(dims) + len(axes)
    added, rest = {a % rank for a in axes}, iter(dims)
    return Reshape.to(tuple(1 if i in added else next(rest) for i in range(rank)))


def _product(dims: tuple[int | str, ...]) -> int | str:
    total = 1
    for d in dims:
        if isinstance(d, str):
            return d if len(dims) == 1 else "?"
        total *= d
    return total


def opaque(
    proto: onnx.NodeProto,
    domain: str,
    opset: int,
    declared: tuple[TensorType, ...],
    captures: tuple[str, ...],
) -> Opaque | None:
    """Return a node kept as it is, or ``None`` if the model must first be raised to `OPSET`."""
    kept = onnx.NodeProto(op_type=proto.op_type, domain=domain)
    kept.attribute.extend(sorted(proto.attribute, key=lambda a: a.name))
    if domain == "":
        since = onnx.defs.get_schema(proto.op_type, opset, "").since_version
        if opset < OPSET:
            if onnx.defs.get_schema(proto.op_type, OPSET, "").since_version != since:
                return None
            opset = OPSET
        elif since <= OPSET:
            opset = OPSET
        if captures or any(a.HasField("g") or a.graphs for a in proto.attribute):
            opset = max(opset, OPSET)
    data = kept.SerializeToString(deterministic=True)
    return Opaque(proto.op_type, domain, opset, data, declared, captures)


def retyped(
    op: Opaque, inputs: Sequence[TensorType], constants: Sequence[Array | None]
) -> Op | None:
    """Return a typed operator for an opaque one whose operands are better known by now."""
    if op.domain or op.captures:
        return None
    attributes = {a.name: plain(a) for a in op.node_proto().attribute}
    node = OnnxNode(op.op_type, op.opset, attributes, tuple(inputs), tuple(constants))
    return typed(node)


def plain(attribute: onnx.AttributeProto) -> Any:
    """Return an attribute as plain Python; tensors and graphs stay protobufs."""
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Sequence) and value and isinstance(value[0], bytes):
        return [v.decode("utf-8", "replace") for v in value]
    return list(value) if attribute.type in _LISTS else value


_LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)
