"""ONNX models as graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper

from edgec.errors import Diagnostic, ModelError, UnsupportedError
from edgec.frontend.files import array_of, data_files, dense_array_of, read
from edgec.frontend.floats import in_float32
from edgec.frontend.opset import opset_of, raised, settle
from edgec.frontend.qoperator import InPairs
from edgec.frontend.runtime_types import runtime_types
from edgec.frontend.shapes import Binding, bind
from edgec.frontend.typing import captures, constant_value, opaque, plain, typed
from edgec.ir import (
    ABSENT,
    OPSET,
    Array,
    Constant,
    Dim,
    DType,
    Graph,
    Node,
    OnnxNode,
    Op,
    TensorType,
    Value,
    unload,
)
from edgec.ops.opaque import tensor_type, type_proto

__all__ = ["Loaded", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as it came in.

    Parameters
    ----------
    batched
        Names of the inputs whose first axis is the batch: left open by the model, or 1.
    opset
        Of the default domain, in the file.
    notes
        Where the graph is not what the file says.
    size_bytes
        Of the file, with the files beside it that hold its weights.
    """

    graph: Graph
    path: Path
    batched: frozenset[str]
    opset: int
    notes: tuple[Diagnostic, ...] = ()
    size_bytes: int = 0


def load(path: Path, shapes: Mapping[str, Sequence[Dim]] | None = None) -> Loaded:
    """Read an ONNX model.

    Parameters
    ----------
    shapes
        Shapes of inputs that the model leaves open. An open batch is 1 unless given.

    Raises
    ------
    ModelError
        If the file is not a valid model or an input's shape stays open.
    OptionError
        If `shapes` does not fit the model.
    """
    model = read(path)
    size = sum(file.stat().st_size for file in (path, *data_files(path, model)))
    opset = opset_of(model)
    settle(model)
    importer = _Importer(model, path, shapes or {})
    try:
        graph = importer.graph()
    except _NeedsNewerOpset:
        model = raised(path, model)
        importer = _Importer(model, path, shapes or {})
        graph = importer.graph()
    single = in_float32(graph, (DType.BFLOAT16,), interface=True)
    notes = () if single is graph else (Diagnostic(_NO_BFLOAT16, path.name),)
    return Loaded(single, path, importer.binding.batched, opset, notes, size)


_NO_BFLOAT16 = (
    "is a bfloat16 model: it is computed in float32, which it takes and returns too, for no "
    "runtime here has bfloat16 kernels"
)


class _NeedsNewerOpset(Exception):  # noqa: N818  (a signal, never seen by a user)
    """An untyped node has another meaning in the opset that edgec writes."""


class _Importer:
    """Builds one graph; dropped afterwards."""

    def __init__(
        self, model: onnx.ModelProto, path: Path, shapes: Mapping[str, Sequence[Dim]]
    ) -> None:
        self.model, self.path = model, path
        self.versions = {
            ("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import
        }
        proto = model.graph
        initialized = {t.name for t in proto.initializer}
        initialized.update(t.values.name for t in proto.sparse_initializer)
        inputs = [v for v in proto.input if v.name not in initialized]
        self.binding = bind(inputs, shapes)
        self.inputs = tuple(Value(v.name, self.binding.types[v.name]) for v in inputs)
        self.values: dict[str, Value] = {v.name: v for v in self.inputs}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.read = {v.name for v in proto.output}
        for node in proto.node:
            self.read.update((*node.input, *captures(node)))
        self.read.discard("")
        self.names = {*self.read, *self.values, *(n for p in proto.node for n in p.output)}
        opset = max(self.versions.get("", OPSET), OPSET)
        self.in_pairs = InPairs(opset, self.values, self._array, self._fresh)
        self._declared: dict[str, TensorType] | None = None
        for tensor in proto.initializer:
            self._constant(tensor.name, array_of(tensor, path.parent))
        for sparse in proto.sparse_initializer:
            self._constant(sparse.values.name, dense_array_of(sparse, path.parent))

    def graph(self) -> Graph:
        for index, proto in enumerate(self.model.graph.node):
            self._node(proto, index)
        missing = [v.name for v in self.model.graph.output if v.name not in self.values]
        if missing:
            raise ModelError(f"{self.path} never computes its outputs {', '.join(missing)}")
        outputs = tuple(self.values[v.name] for v in self.model.graph.output)
        live = {v.name for v in outputs}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if any(v.name in live for v in node.outputs):
                kept.append(node)
                live.update(v.name for v in node.reads)
        constants = {k: c for k, c in self.constants.items() if k in live}
        self._reject_nan(kept, constants)
        unload(c.array for c in constants.values())
        name = self.model.graph.name or self.path.stem
        return Graph(
            name, self.inputs, outputs, tuple(reversed(kept)), MappingProxyType(constants)
        )

    def _reject_nan(self, nodes: list[Node], constants: dict[str, Constant]) -> None:
        bad = {
            name
            for name, c in constants.items()
            if c.array.dtype.kind == "f" and _has_nan(c.array)
        }
        problems = [
            Diagnostic(f"constant {v.name!r} has NaN in it", node.layer)
            for node in reversed(nodes)
            for v in node.reads
            if v.name in bad
        ]
        if problems:
            raise ModelError(f"{self.path} has weights that are not numbers", problems)

    def _constant(self, name: str, array: Array) -> None:
        const = Constant(array)
        self.constants[name] = const
        self.values[name] = Value(name, const.type)

    def _node(self, proto: onnx.NodeProto, index: int, opset: int | None = None) -> None:
        layer = proto.name or f"{proto.op_type}_{index}"
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        attributes = {a.name: plain(a) for a in proto.attribute}
        if domain == "" and proto.op_type == "Constant":
            array = constant_value(attributes, self.path.parent)
            if array is None:
                raise UnsupportedError(
                    f"{self.path} has a constant that edgec does not read",
                    [Diagnostic("has no value", layer)],
                )
            self._constant(proto.output[0], array)
            return
        if parts := self.in_pairs.nodes(proto, domain, layer):
            for name, array in self.in_pairs.constants.items():
                self._constant(name, array)
            for part in parts:
                self._node(part, index, self.in_pairs.opset_of(part))
            return
        inputs = tuple(self.values[name] if name else ABSENT for name in proto.input)
        node = OnnxNode(
            proto.op_type,
            self.versions.get(domain, 1) if opset is None else opset,
            attributes,
            tuple(v.type for v in inputs),
            tuple(self._array(v) for v in inputs),
            max((i + 1 for i, n in enumerate(proto.output) if n in self.read), default=0),
            len(proto.output),
        )
        op: Op | None = None
        if domain == "" and not any(name == "" for name in proto.output[:1]):
            try:
                op = typed(node)
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise ModelError(
                    f"{self.path} has a node that makes no sense",
                    [Diagnostic(f"{proto.op_type}: {error}", layer)],
                ) from error
        if op is not None:
            operands = inputs[: type(op).operands]
            while operands and operands[-1].is_absent:
                operands = operands[:-1]
            self._add(op, operands, list(proto.output), layer)
            return
        captured = tuple(dict.fromkeys(captures(proto)))
        types = self._types(proto, node, domain)
        op = opaque(proto, domain, node.opset, types, captured, self.versions)
        if op is None:
            raise _NeedsNewerOpset
        outer = tuple(self.values[name] for name in captured)
        self._add(op, (*inputs, *outer), list(proto.output), layer)

    def _fresh(self, near: str) -> str:
        """Return a name that the model does not use, for something that will be read."""
        name, n = near, 1
        while name in self.names:
            name, n = f"{near}.{n}", n + 1
        self.names.add(name)
        self.read.add(name)
        return name

    def _add(self, op: Op, inputs: tuple[Value, ...], names: list[str], layer: str) -> None:
        arrays = [self._array(v) for v in inputs]
        try:
            types = op.infer_node([v.type for v in inputs], arrays)
        except ValueError as error:
            place = f"{op}({', '.join(f'{v}: {v.type}' for v in inputs)})"
            raise ModelError(
                f"{self.path} has a node whose inputs do not fit",
                [Diagnostic(f"{place}: {error}", layer)],
            ) from error
        outputs = []
        # A node may leave off outputs, and an operator those that nobody reads.
        names = names + [""] * (len(types) - len(names))
        for position, (name, t) in enumerate(zip(names, types, strict=False)):
            if t.dtype is DType.UNDEFINED:
                hint = "declare its type in the model, in value_info"
                raise UnsupportedError(
                    f"{self.path} has a value whose type cannot be told",
                    [Diagnostic(f"output {name or position} of {op}", layer, hint)],
                )
            # An output that nobody asked for still needs a name of its own in the graph.
            outputs.append(Value(name or f"{layer}.unused{position}", t))
        self.nodes.append(Node(op, inputs, tuple(outputs), (layer,)))
        self.values.update({v.name: v for v in outputs})

    def _array(self, value: Value) -> Array | None:
        found = self.constants.get(value.name)
        return None if found is None else found.array

    def _types(
        self, proto: onnx.NodeProto, node: OnnxNode, domain: str
    ) -> tuple[TensorType, ...]:
        """Return what the model declares of a node's outputs, or implies as a whole.

        ONNX Runtime is asked of operators that it alone knows.
        """
        if self._declared is None:
            self._declared = _inferred(self.model, self.inputs, self.binding)
        unknown = TensorType(DType.UNDEFINED, None)
        found = tuple(self._declared.get(name, unknown) for name in proto.output)
        named = (t for name, t in zip(proto.output, found, strict=True) if name)
        if domain in ("", "ai.onnx.ml") or not any(t.dims is None for t in named):
            return found
        asked = runtime_types(proto, self.versions, node.inputs) or found
        return tuple(
            a if b.dtype is DType.UNDEFINED or b.dims is None else b
            for a, b in zip(asked, found, strict=True)
        )


def _inferred(
    model: onnx.ModelProto, inputs: Sequence[Value], binding: Binding
) -> dict[str, TensorType]:
    """Return the types onnx infers for the whole model, without looking at weights.

    A symbol in them is one of the inputs'.
    """
    light = _without_weights(model)
    for info in (*light.graph.value_info, *light.graph.output):
        with suppress(ValueError):  # a type that edgec does not know
            info.type.CopyFrom(type_proto(binding.apply(tensor_type(info.type))))
    for info in light.graph.input:
        for value in inputs:
            if value.name == info.name:
                info.type.CopyFrom(type_proto(value.type))
    # If inference fails, only what the file itself declares is known.
    with suppress(onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    found: dict[str, TensorType] = {}
    for info in [*light.graph.value_info, *light.graph.output]:
        if info.type.WhichOneof("value") is not None:
            with suppress(ValueError):  # a type that edgec does not know
                found[info.name] = tensor_type(info.type)
    return found


def _has_nan(array: Array) -> bool:
    with np.errstate(all="ignore"):  # the sum may overflow; it is only the quick look
        return bool(np.isnan(np.sum(array, dtype=array.dtype)) and np.isnan(array).any())


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large initializers have a type but no data."""
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    named = {v.name for v in graph.input}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() < 1024:
            graph.initializer.append(tensor)
        elif tensor.name not in named:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(info)
    for sparse in model.graph.sparse_initializer:
        values = sparse.values
        info = helper.make_tensor_value_info(values.name, values.data_type, sparse.dims)
        graph.input.append(info)
    return light
