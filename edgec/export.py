"""Any graph, at any step, as an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec import __version__
from edgec.contents import Pieces
from edgec.ir import OPSET, Array, Constant, Graph, Node, OnnxForm, Value
from edgec.ops import Opaque
from edgec.ops.opaque import type_proto

__all__ = ["LARGE_BYTES", "Outside", "is_large", "to_onnx"]

LARGE_BYTES = 1024
"""Constants of at least this size are left out of a model that is exported without weights."""

_IR_VERSIONS = ((18, 8), (20, 9), (22, 10), (24, 11), (28, 13))  # (up to opset, IR version)


@dataclass(frozen=True)
class Outside:
    """A file for the large constants of a graph, named after what is in it.

    An ONNX file holds at most 2 GB: more than that is what protobuf cannot write.
    """

    names: tuple[str, ...]
    contents: Pieces

    @classmethod
    def of(cls, graph: Graph) -> Outside:
        """Lay out the large constants of a graph, in the order it has them."""
        large = {k: c.array for k, c in graph.constants.items() if is_large(c.array)}
        return cls(tuple(large), Pieces(tuple(large.values())))

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"weights-{self.contents.sha256[:16]}.bin"

    @property
    def weights(self) -> dict[str, Array]:
        """The arrays by name."""
        return dict(zip(self.names, self.contents.arrays, strict=True))

    @property
    def places(self) -> dict[str, tuple[str, int]]:
        """File and offset of each constant."""
        return {
            name: (self.file, place)
            for name, place in zip(self.names, self.contents.places, strict=True)
        }


def to_onnx(
    graph: Graph,
    *,
    outputs: Sequence[Value] = (),
    weights: bool = True,
    outside: Outside | None = None,
) -> Any:
    """Return `graph` as a ``ModelProto``; equal graphs give equal models.

    Parameters
    ----------
    outputs
        Values to return instead of the graph's outputs; nodes they do not need are kept.
    weights
        Whether large constants are written out. Without them each is a reference to an
        external file that does not exist, for a runtime that is handed the arrays instead.
    outside
        A file beside the model that large constants go into.
    """
    opset, others = _opsets(graph)
    fields = _Fields(graph)
    nodes = [proto for node in graph.nodes for proto in _node_protos(node, fields, opset)]
    places = outside.places if outside is not None else {}
    tensors = [
        _tensor(name, c.array, weights and not places, places.get(name))
        for name, c in graph.constants.items()
    ]
    proto = helper.make_graph(
        _named_apart(nodes),
        graph.name,
        [_info(v) for v in graph.inputs],
        [_info(v) for v in outputs or graph.outputs],
        [*tensors, *fields.tensors],
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", opset), *others],
        producer_name="edgec",
        producer_version=__version__,
    )
    model.ir_version = next((ir for top, ir in _IR_VERSIONS if opset <= top), 13)
    return model


def _named_apart(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Give nodes that stand for the same layer names of their own."""
    seen: set[str] = set()
    for node in nodes:
        name, n = node.name, 1
        if name in seen:
            name = f"{node.name}/{node.op_type}"
        while name in seen:
            name, n = f"{node.name}/{node.op_type}.{n}", n + 1
        node.name = name
        seen.add(name)
    return nodes


def _opsets(graph: Graph) -> tuple[int, list[onnx.OperatorSetIdProto]]:
    """Return the opset of the default domain, and those of the others in use."""
    opaque = [node.op for node in graph.nodes if isinstance(node.op, Opaque)]
    typed = [
        node.op.opset_for([v.type for v in node.inputs])
        for node in graph.nodes
        if not isinstance(node.op, Opaque)
    ]
    default = max([OPSET, *typed, *(op.opset for op in opaque if not op.domain)])
    others = sorted(
        {(op.domain, op.opset) for op in opaque if op.domain}.union(
            *(op.imports for op in opaque)
        )
    )
    return default, [helper.make_opsetid(*pair) for pair in others]


class _Fields:
    """Constants that ONNX wants as inputs and the IR keeps in operators, each written once."""

    def __init__(self, graph: Graph) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self._names = {_key(c.array): name for name, c in graph.constants.items() if _small(c)}
        self._taken = {value.name for value in graph.values()}
        for node in graph.nodes:
            if isinstance(node.op, Opaque):
                self._taken.update(_names_inside(node.op.node_proto()))

    def name(self, array: Array) -> str:
        """Return the name of a constant of the graph or of a new one with these elements."""
        key = _key(array)
        if key not in self._names:
            n = len(self.tensors)
            while (name := f"constant{n}") in self._taken:
                n += 1
            self._taken.add(name)
            self._names[key] = name
            self.tensors.append(_tensor(name, array, weights=True))
        return self._names[key]


def _small(const: Constant) -> bool:
    return const.array.nbytes < LARGE_BYTES and not const.array.dtype.hasobject


def _key(array: Array) -> object:
    return array.dtype, array.shape, array.tobytes()


def _names_inside(proto: onnx.NodeProto) -> Iterator[str]:
    """Yield every name that subgraphs of a node use."""
    for body in _bodies(proto):
        yield from (v.name for v in (*body.input, *body.output, *body.initializer))
        for node in body.node:
            yield from (*node.input, *node.output, *_names_inside(node))


def _bodies(proto: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in proto.attribute:
        yield from ([attribute.g] if attribute.HasField("g") else attribute.graphs)


def _node_protos(node: Node, shared: _Fields, opset: int) -> Iterator[onnx.NodeProto]:
    """Return the ONNX nodes of one node of the graph: several if it carries an activation."""
    inputs, outputs = [v.name for v in node.inputs], [v.name for v in node.outputs]
    name = "+".join(node.origin) or outputs[0]
    if isinstance(node.op, Opaque):
        yield _opaque(node.op, inputs, outputs, name)
        return
    form: OnnxForm | None = node.op.to_onnx([v.type for v in node.inputs])
    step = 0
    while form is not None:
        fields = ["" if a is None else shared.name(np.asarray(a)) for a in form.constants]
        names = outputs if form.then is None else [f"{outputs[0]}.{step}"]
        label = name if step == 0 else f"{name}/{form.op_type}"
        proto = onnx.NodeProto(op_type=form.op_type, name=label)
        proto.input.extend([*inputs, *fields])
        while proto.input and not proto.input[-1]:
            proto.input.pop()
        proto.output.extend(names)
        proto.attribute.extend(_attributes(form, opset))
        yield proto
        inputs, form, step = names, form.then, step + 1


def _attributes(form: OnnxForm, opset: int) -> Iterator[onnx.AttributeProto]:
    """Return the attributes that say something: those with the default of ONNX do not."""
    for key in sorted(form.attributes):
        value = form.attributes[key]
        if key in _WINDOW_DEFAULTS and set(value) == {_WINDOW_DEFAULTS[key]}:
            continue
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        attribute = helper.make_attribute(
            key, list(value) if isinstance(value, tuple) else value
        )
        if attribute != _defaults(form.op_type, opset).get(key):
            yield attribute


# Defaults "along each spatial axis", which ONNX's schemas say in words only.
_WINDOW_DEFAULTS = {"dilations": 1, "strides": 1, "pads": 0}


@cache
def _defaults(op_type: str, opset: int) -> dict[str, onnx.AttributeProto]:
    schema = onnx.defs.get_schema(op_type, opset, "")
    return {name: a.default_value for name, a in schema.attributes.items() if not a.required}


def _opaque(op: Opaque, inputs: list[str], outputs: list[str], name: str) -> onnx.NodeProto:
    proto = op.node_proto()
    proto.name = name
    explicit = len(inputs) - len(op.captures)
    proto.input.extend(inputs[:explicit])
    proto.output.extend(outputs)
    renamed = dict(zip(op.captures, inputs[explicit:], strict=True))
    renamed = {old: new for old, new in renamed.items() if old != new}
    if renamed:
        for attribute in proto.attribute:
            for body in [attribute.g, *attribute.graphs]:
                _rename(body, renamed)
    return proto


def _rename(body: onnx.GraphProto, names: dict[str, str]) -> None:
    """Let a subgraph read values from outside under other names, even names of its own."""
    named = [*body.input, *body.output, *body.initializer]
    own = {v.name for v in named} | {o for node in body.node for o in node.output}
    clashes = own.intersection(names.values())
    names = {old: new for old, new in names.items() if old not in own}
    names.update({name: f"{name}.inner" for name in clashes})
    for value in named:
        value.name = names.get(value.name, value.name)
    for node in body.node:
        for operands in (node.input, node.output):
            operands[:] = [names.get(name, name) for name in operands]
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _rename(inner, names)


def is_large(array: Array) -> bool:
    """Whether a model that is exported without weights goes without this array.

    Texts and types that numpy itself does not know cannot be handed to a runtime.
    """
    # What is mapped from a file names its byte order, and so is not numpy's own type object.
    own = array.dtype.type.__module__ == "numpy" and not array.dtype.hasobject
    return array.nbytes >= LARGE_BYTES and own


def _tensor(
    name: str, array: Array, weights: bool, place: tuple[str, int] | None = None
) -> onnx.TensorProto:
    if weights or not is_large(array):
        return numpy_helper.from_array(np.asarray(array), name)
    tensor = onnx.TensorProto(name=name, dims=array.shape)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    location, offset = place or ("in-memory", 0)
    entries = {"location": location, "offset": offset, "length": array.nbytes}
    for key, value in entries.items():
        if value or key == "length":
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def _info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_value_info(value.name, type_proto(value.type))
