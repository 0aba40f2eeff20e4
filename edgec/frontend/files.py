"""ONNX files and the data beside them, read with care: the file may be anybody's."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper

from edgec.errors import Diagnostic, ModelError, UnsupportedError
from edgec.frontend.inline import inline
from edgec.frontend.light import light
from edgec.frontend.opset import EXPORT_HINT, check_settled, opset_of
from edgec.ir import Array, DType

__all__ = ["array_of", "data_files", "dense_array_of", "read"]

_LARGE_BYTES = 1 << 20  # of a file from which on its weights are mapped
_DENSE_MOST = 1 << 30  # bytes that are copied into memory: sparse tensors, constants of nodes


def read(path: Path) -> onnx.ModelProto:
    """Read and check a model; local functions are inlined, external data stay outside.

    Raises
    ------
    ModelError
        If there is no such file, or what is in it is not a valid ONNX model.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(_contents(path))
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX model, or it is cut off: {error}") from error
    if not model.ir_version or not model.HasField("graph") or not model.graph.output:
        raise ModelError(f"{path} is not an ONNX model: it has no graph with outputs")
    _check_texts(path, model)
    _check_opset(path, model)
    _check_operators(path, model)
    _check_attributes(path, model)
    _embed(path, model)
    _check(path, model)
    if model.functions:
        inline(path, model)
        _check_operators(path, model)
    return model


def _contents(path: Path) -> bytes:
    """Return what is in a file; the weights of a large one stay there, as external data."""
    try:
        if path.is_file() and path.stat().st_size >= _LARGE_BYTES and _is_at_home(path):
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            found = light(memoryview(mapped), path.name)
            if found is not None:
                return found
        data = path.read_bytes()
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder, not an ONNX file") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if not data:
        raise ModelError(f"{path} is empty")
    return data


def _is_at_home(path: Path) -> bool:
    """Whether a file is where its name says, so that it may be read as its own data."""
    return path.resolve() == path.parent.resolve() / path.name


def _check_texts(path: Path, model: onnx.ModelProto) -> None:
    """Raise if a name is no text: protobuf hands out what is not UTF-8 as bytes."""
    if any(isinstance(text, bytes) for text in _texts(model)):
        raise ModelError(f"{path} is not a valid ONNX model: a name in it is not UTF-8")


def _texts(message: Message) -> Iterator[str | bytes]:
    if isinstance(message, onnx.TensorProto):  # listing its fields would copy the weights
        yield message.name
        for entry in message.external_data:
            yield from (entry.key, entry.value)
        return
    for field, value in message.ListFields():
        if field.name == "doc_string":  # harmless, and often in another encoding
            continue
        single = isinstance(value, str | bytes | Message)
        if field.type == field.TYPE_STRING:
            yield from (value,) if single else value
        elif field.type == field.TYPE_MESSAGE:
            for inner in (value,) if single else value:
                yield from _texts(inner)


def _embed(path: Path, model: onnx.ModelProto) -> None:
    """Read what lies beside the model but belongs to a node: it is kept with the node."""
    size = 0
    nodes = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    for tensor in _inner_tensors(nodes):
        if tensor.data_location == tensor.EXTERNAL:
            array = array_of(tensor, path.parent)
            size += array.nbytes
            if size > _DENSE_MOST:
                raise UnsupportedError(
                    f"{path} has more than {_DENSE_MOST} bytes of constants in its nodes",
                    [Diagnostic("make them initializers of the graph")],
                )
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))


def _inner_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors
            for body in [attribute.g, *attribute.graphs]:
                yield from body.initializer
                yield from _inner_tensors(body.node)


def _check(path: Path, model: onnx.ModelProto) -> None:
    beside = [t for t in model.graph.initializer if t.data_location == t.EXTERNAL]
    for tensor in beside:
        _location(tensor, path.parent)
    checked = _as_inputs(model, beside) if beside else model
    # Inputs and outputs of unknown rank are harmless, but onnx's checker wants a rank.
    ends = (*checked.graph.input, *checked.graph.output)
    tensors = [v.type.tensor_type for v in ends]
    unranked = [t for t in tensors if t.elem_type and not t.HasField("shape")]
    for t in unranked:
        t.shape.SetInParent()
    try:
        onnx.checker.check_model(checked)
    except onnx.checker.ValidationError as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise ModelError(f"{path} is not a valid ONNX model: {reason}") from error
    finally:
        for t in unranked:
            t.ClearField("shape")


def _as_inputs(model: onnx.ModelProto, tensors: Sequence[onnx.TensorProto]) -> onnx.ModelProto:
    """Return a copy in which some initializers are inputs.

    The checker would look for their data in the current folder, not beside the model.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = {t.name for t in tensors}
    kept = [t for t in copy.graph.initializer if t.name not in names]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    given = {v.name for v in copy.graph.input}
    for t in tensors:
        if t.name not in given:
            info = onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            copy.graph.input.append(info)
    return copy


def _check_opset(path: Path, model: onnx.ModelProto) -> None:
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"{path} uses opset {opset}, but the installed onnx {onnx.__version__} knows "
            f"opsets up to {newest}",
            [Diagnostic("upgrade the onnx package, or " + EXPORT_HINT)],
        )
    if opset < 0:
        raise ModelError(f"{path} is not a valid ONNX model: there is no opset {opset}")
    default = [o for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if any(o.version != opset for o in default):
        named = ", ".join(str(o.version) for o in default)
        raise ModelError(f"{path} is not a valid ONNX model: it names the opsets {named}")
    for entry in default[1:]:
        model.opset_import.remove(entry)  # it says the same again
    check_settled(path, model)


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Raise if a node of the standard's domains names an operator the standard lacks."""
    local = {(f.domain, f.name) for f in model.functions}
    versions = {
        ("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import
    }
    problems = [
        Diagnostic(f"there is no operator {n.op_type} in opset {versions.get('', 0)}", layer)
        for layer, n in _all_nodes(model.graph)
        if n.domain in ("", "ai.onnx")
        and ("", n.op_type) not in local
        and not _exists(n.op_type, versions.get("", 0))
    ]
    if problems:
        raise ModelError(f"{path} uses unknown operators", problems)


def _check_attributes(path: Path, model: onnx.ModelProto) -> None:
    """Raise if an attribute refers to one of a function where there is none around it."""
    problems = [
        Diagnostic(f"attribute {a.name} refers to {a.ref_attr_name} of no function", layer)
        for layer, node in _all_nodes(model.graph)
        for a in node.attribute
        if a.ref_attr_name
    ]
    if problems:
        raise ModelError(f"{path} is not a valid ONNX model", problems)


def _exists(op_type: str, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    return not schema.deprecated


def _all_nodes(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    for node in graph.node:
        yield node.name or (node.output[0] if node.output else node.op_type), node
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                yield from _all_nodes(body)


def array_of(tensor: onnx.TensorProto, folder: Path) -> Array:
    """Return the array of a tensor; data beside the model are memory-mapped.

    Raises
    ------
    ModelError
        If external data lie outside `folder`, are missing or too short, or if the tensor's
        own data do not fit its shape.
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _mapped(tensor, folder)
    try:
        array: Array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tensor {tensor.name!r} is broken: {error}") from error
    return array


def data_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    """Return the files beside a model that hold its weights."""
    tensors = (t for t in model.graph.initializer if t.data_location == t.EXTERNAL)
    found = dict.fromkeys(_location(t, path.parent) for t in tensors)
    return [file for file in found if file != path.resolve()]


def dense_array_of(tensor: onnx.SparseTensorProto, folder: Path) -> Array:
    """Return a sparse tensor written out, zeros and all.

    Raises
    ------
    ModelError
        If its indices lie outside of its shape.
    UnsupportedError
        If it would be too large.
    """
    where = f"sparse tensor {tensor.values.name!r}"
    values, indices = array_of(tensor.values, folder), array_of(tensor.indices, folder)
    dims = tuple(tensor.dims)
    if any(d < 0 for d in dims) or values.ndim != 1 or indices.dtype != np.int64:
        raise ModelError(f"{where} is broken: it has no shape, values or indices")
    need = math.prod(dims) * values.dtype.itemsize
    if need > _DENSE_MOST:
        raise UnsupportedError(
            f"{where} would need {need} bytes written out, more than {_DENSE_MOST}"
        )
    flat = indices
    if indices.ndim == 2 and indices.shape[1] == len(dims) and _within(indices, dims):
        flat = np.ravel_multi_index(tuple(indices.T), dims)
    if flat.shape != values.shape or not _within(flat[:, None], (math.prod(dims),)):
        raise ModelError(f"{where} is broken: its indices do not fit its shape {dims}")
    dense = np.zeros(math.prod(dims), values.dtype)
    dense[flat] = values
    return dense.reshape(dims)


def _within(indices: Array, dims: tuple[int, ...]) -> bool:
    return bool((indices >= 0).all() and (indices < np.array(dims, np.int64)).all())


def _location(tensor: onnx.TensorProto, folder: Path) -> Path:
    """Return the file that holds a tensor's data; only files beside the model will do."""
    location = next((e.value for e in tensor.external_data if e.key == "location"), "")
    where = f"tensor {tensor.name!r}"
    root = folder.resolve()
    path = (root / location.replace("\0", "?")).resolve()
    if not location or not path.is_relative_to(root) or path == root:
        raise ModelError(
            f"{where} has its data at {location!r}, outside the model's folder; refused",
            [Diagnostic("keep a model and its data in one folder")],
        )
    try:
        found = path.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        found = False
    if not found:
        raise ModelError(f"{where} has its data in {path}, which does not exist")
    return path


def _mapped(tensor: onnx.TensorProto, folder: Path) -> Array:
    entries: dict[str, Any] = {e.key: e.value for e in tensor.external_data}
    where = f"tensor {tensor.name!r}"
    path = _location(tensor, folder)
    dtype = _stored_dtype(tensor, where)
    dims = tuple(tensor.dims)
    count = math.prod(dims)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        raise ModelError(f"{where} has external data with a broken offset or length") from None
    need = count * dtype.itemsize
    if (
        offset < 0
        or any(d < 0 for d in dims)
        or offset + need > path.stat().st_size
        or (length and length < need)
    ):
        raise ModelError(f"{where} needs {need} bytes at {offset} of {path}, which is shorter")
    if not count:
        return np.zeros(dims, dtype)
    mapped: Array = np.memmap(path, dtype.newbyteorder("<"), "r", offset, dims)
    return mapped


_NOT_MAPPED = {
    "UNDEFINED",
    "STRING",  # has no external form
    *("INT4", "UINT4", "INT2", "UINT2", "FLOAT4_E2M1", "FLOAT6_E2M3", "FLOAT6_E3M2"),  # packed
}


def _stored_dtype(tensor: onnx.TensorProto, where: str) -> np.dtype[np.generic]:
    """Return the numpy type of the elements of a tensor whose data lie beside the model."""
    try:
        dtype = DType.of_onnx(tensor.data_type)
    except ValueError as error:
        raise ModelError(f"{where} is broken: {error}") from error
    if dtype.name in _NOT_MAPPED:
        raise ModelError(
            f"{where} has external data of type {dtype.value}, which edgec does not read"
        )
    return dtype.numpy
