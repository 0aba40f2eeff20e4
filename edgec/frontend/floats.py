"""Floats of other widths than 32 bits, computed in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import onnx
from onnx import numpy_helper

from edgec.ir import (
    Array,
    Builder,
    ContainerType,
    DType,
    Graph,
    Node,
    Op,
    TensorType,
    Value,
)
from edgec.ops import Cast, Identity, Opaque

__all__ = ["in_float32"]

_NAMES_TYPES = {"to", "dtype", "output_dtype", "value", "stash_type"}
"""Attributes that name an element type, or hold a tensor of one."""


def in_float32(graph: Graph, dtypes: Sequence[DType], *, interface: bool = False) -> Graph:
    """Return the graph with everything of `dtypes` computed in float32.

    Constants are converted, in subgraphs too; what float32 cannot hold becomes its largest
    number. Nodes that make a sequence stay as they are, between casts.

    Parameters
    ----------
    interface
        Whether inputs and outputs become float32 too, and constants stay as they are stored
        where a cast reads them. Otherwise inputs and outputs keep their types: a cast follows
        each such input and precedes each such output.
    """
    if not any(v.type.dtype in dtypes for v in graph.values()):
        return graph
    return _Widening(graph, frozenset(dtypes), interface).graph()


class _Widening:
    """One rewrite; dropped afterwards."""

    def __init__(self, graph: Graph, dtypes: frozenset[DType], interface: bool) -> None:
        self.source, self.dtypes, self.interface = graph, dtypes, interface
        self.b = Builder(graph)
        self.wide: dict[Value, Value] = {}
        """The float32 form of values of the source, where there is one."""
        if interface:
            for value in filter(self._is_other, graph.inputs):
                self.wide[value] = _as_float32(value)
                self.b.replace(value, self.wide[value])

    def graph(self) -> Graph:
        for node in self.source.nodes:
            narrow = any(v.type.dtype in self.dtypes for v in (*node.reads, *node.outputs))
            if not narrow or (self.interface and self._reads_back(node)):
                self.b.copy(node)
                continue
            op = _widened(node.op, self.dtypes)
            if op is None:
                self._emit(node, node.op, [self._as_it_was(v, node) for v in node.inputs])
                continue
            inputs = [self._in_float32(v, node) for v in node.inputs]
            same = isinstance(op, Cast) and inputs[0].type.dtype is op.to
            self._emit(node, Identity() if same else op, inputs)
        found = self.b.finish()
        return replace(found, inputs=tuple(map(self._port, self.source.inputs)))

    def _reads_back(self, node: Node) -> bool:
        """Whether a node makes floats of 32 bits of what is stored in fewer."""
        stored = self.source.constant(node.inputs[0]) if node.inputs else None
        return node.op == Cast(DType.FLOAT32) and stored is not None

    def _port(self, value: Value) -> Value:
        return _as_float32(value) if self.interface and self._is_other(value) else value

    def _is_other(self, value: Value) -> bool:
        return value.type.dtype in self.dtypes and not isinstance(value.type, ContainerType)

    def _emit(self, node: Node, op: Op, inputs: list[Value]) -> None:
        """Add `op` in place of a node, with casts where an output must have another type."""
        wanted = [self._port(v) if v in self.source.outputs else None for v in node.outputs]
        types = op.infer_node([v.type for v in inputs], [self.b.array(v) for v in inputs])
        names = [
            old.name
            if port is None or t.dtype is port.type.dtype
            else self.b.fresh(f"{old.name}.{t.dtype.value}")
            for old, port, t in zip(node.outputs, wanted, types, strict=True)
        ]
        added = self.b.add(op, *inputs, names=names, absorbs=(node,))
        for old, port, new in zip(node.outputs, wanted, added, strict=True):
            if new.type.dtype is DType.FLOAT32 and self._is_other(old):
                self.wide[old] = new
            if new.name != old.name and port is not None:
                cast = Cast(port.type.dtype)
                (new,) = self.b.add(cast, new, names=[old.name], absorbs=(node,))
            self.b.replace(old, new)

    def _in_float32(self, value: Value, reader: Node) -> Value:
        if value in self.wide:
            return self.wide[value]
        if not self._is_other(value):
            return self.b.now(value)
        array = self.source.constant(value)
        if array is None:
            name = self.b.fresh(f"{value.name}.f32")
            to = Cast(DType.FLOAT32)
            (found,) = self.b.add(to, self.b.now(value), names=[name], absorbs=(reader,))
        else:
            found = self.b.constant(_float32(array), near=value.name)
        self.wide[value] = found
        return found

    def _as_it_was(self, value: Value, reader: Node) -> Value:
        """Return an operand of a node that stays in its own types."""
        now = self.b.now(value)
        if not self._is_other(value) or now.type.dtype is value.type.dtype:
            return now
        name = self.b.fresh(f"{value.name}.{value.type.dtype.value}")
        (found,) = self.b.add(Cast(value.type.dtype), now, names=[name], absorbs=(reader,))
        return found


def _as_float32(value: Value) -> Value:
    return Value(value.name, TensorType(DType.FLOAT32, value.type.dims))


def _widened(op: Op, dtypes: frozenset[DType]) -> Op | None:
    """Return the operator on float32, or ``None`` if it must stay in its own types."""
    if not isinstance(op, Opaque):
        named = [f.name for f in fields(op) if getattr(op, f.name) in dtypes]
        return replace(op, **dict.fromkeys(named, DType.FLOAT32)) if named else op
    if _has_container(op):
        return None
    declared = tuple(
        TensorType(DType.FLOAT32, t.dims) if t.dtype in dtypes else t for t in op.declared
    )
    node = op.node_proto()
    _widen_node(node, frozenset(t.onnx for t in dtypes))
    return replace(op, declared=declared, proto=node.SerializeToString(deterministic=True))


def _widen_node(node: onnx.NodeProto, codes: frozenset[int]) -> None:
    """Turn element types that attributes and subgraphs name into float32."""
    for attribute in node.attribute:
        if attribute.name in _NAMES_TYPES and attribute.i in codes:
            attribute.i = onnx.TensorProto.FLOAT
        for tensor in [attribute.t, *attribute.tensors]:
            _widen_tensor(tensor, codes)
        for body in [attribute.g, *attribute.graphs]:
            _widen_body(body, codes)


def _widen_body(body: onnx.GraphProto, codes: frozenset[int]) -> None:
    for value in (*body.input, *body.output, *body.value_info):
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in codes:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in body.initializer:
        _widen_tensor(tensor, codes)
    for node in body.node:
        _widen_node(node, codes)


def _widen_tensor(tensor: onnx.TensorProto, codes: frozenset[int]) -> None:
    if tensor.data_type in codes:
        array = _float32(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _has_container(op: Opaque) -> bool:
    return any(isinstance(t, ContainerType) for t in op.declared)


def _float32(array: Array) -> Array:
    if array.dtype != np.float64:
        return array.astype(np.float32)
    limit = np.finfo(np.float32).max
    return np.asarray(np.where(np.isfinite(array), np.clip(array, -limit, limit), array), "f4")
