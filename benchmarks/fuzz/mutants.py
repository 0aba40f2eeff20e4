"""Damage done to files: to their bytes, or to the messages of a model that still parses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

__all__ = ["damaged", "mutant", "parses"]

Rng = np.random.Generator

_INTEGERS = (0, 1, -1, 2, 7, 127, 255, 2**16, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
_TEXTS = ("", "x", "\0", "../../x", "%s%n", "a" * 5000, "\u202e\U0001f600", "ai.onnx.ml")
_FLOATS = (0.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))


def mutant(data: bytes, rng: Rng) -> bytes:
    """Return a damaged copy of an ONNX model."""
    if rng.random() < 0.3:
        return damaged(data, rng)
    model = onnx.ModelProto()
    model.ParseFromString(data)
    for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 5))):
        edit = _EDITS[int(rng.integers(len(_EDITS)))] if rng.random() < 0.6 else _any_field
        try:
            edit(model, rng)
        except (IndexError, ValueError, TypeError):
            _any_field(model, rng)  # there is nothing of that kind any more
    found: bytes = model.SerializeToString()
    return found


def parses(data: bytes) -> bool:
    """Whether the bytes are still a model, however odd."""
    try:
        onnx.ModelProto().ParseFromString(data)
    except DecodeError:
        return False
    return bool(data)


# ---- bytes


def damaged(data: bytes, rng: Rng) -> bytes:
    """Return the bytes with some changed, put in, taken out or cut off."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = _place(len(found), rng)
        length = int(2 ** rng.uniform(0, 8))
        match int(rng.integers(6)):
            case 0 | 1:
                for i in range(at, min(at + min(length, 8), len(found))):
                    found[i] ^= 1 << int(rng.integers(8))
            case 2:
                found[at:at] = rng.bytes(length)
            case 3:
                del found[at : at + length]
            case 4:
                other = _place(len(found), rng)
                found[at : at + length] = found[other : other + length]
            case _:
                if rng.random() < 0.3:
                    del found[at:]
                else:
                    found[at : at + 1] = bytes([int(rng.integers(256))])
    return bytes(found)


def _place(size: int, rng: Rng) -> int:
    """Return where to do damage: often near an end, where a file says what it is."""
    near = int(min(size, 2 ** rng.uniform(3, 13)))
    match int(rng.integers(3)):
        case 0:
            return int(rng.integers(near + 1))
        case 1:
            return size - int(rng.integers(near + 1))
    return int(rng.integers(size + 1))


# ---- any field of any message


def _any_field(model: Message, rng: Rng) -> None:
    """Change, repeat, clear or set one field somewhere in the model."""
    message = model
    while True:
        inner = list(_inner(message))
        if not inner or rng.random() < 0.25:
            break
        # By field first: a model has one graph, but hundreds of tensors.
        names = sorted({name for name, _ in inner})
        name = names[int(rng.integers(len(names)))]
        choices = [m for n, m in inner if n == name]
        message = choices[int(rng.integers(len(choices)))]
    fields = message.DESCRIPTOR.fields
    set_ones = [f for f, _ in message.ListFields()]
    pool = set_ones if set_ones and rng.random() < 0.8 else list(fields)
    field = pool[int(rng.integers(len(pool)))]
    if field.is_repeated:
        _repeated(message, field, rng)
    elif rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), rng))


def _inner(message: Message) -> Iterator[tuple[str, Message]]:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for m in value if field.is_repeated else (value,):
                yield field.name, m


def _repeated(message: Message, field: FieldDescriptor, rng: Rng) -> None:
    values = getattr(message, field.name)
    if not len(values) or rng.random() < 0.2:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            values.add()
        else:
            values.append(_scalar(field, None, rng))
        return
    i, j = (int(rng.integers(len(values))) for _ in range(2))
    match int(rng.integers(4)):
        case 0:
            del values[i]
        case 1 if field.type == FieldDescriptor.TYPE_MESSAGE:
            values.add().CopyFrom(values[i])
        case 2 if field.type == FieldDescriptor.TYPE_MESSAGE:
            values[i].CopyFrom(values[j])
        case 3 if len(values) > 1 and field.type != FieldDescriptor.TYPE_MESSAGE:
            values[i] = values[j]
        case _ if field.type == FieldDescriptor.TYPE_MESSAGE:
            del values[:]
        case _:
            values[i] = _scalar(field, values[i], rng)


def _scalar(field: FieldDescriptor, now: Any, rng: Rng) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            if now and rng.random() < 0.5:
                return str(now)[: int(rng.integers(len(str(now))))]
            return _TEXTS[int(rng.integers(len(_TEXTS)))]
        case FieldDescriptor.TYPE_BYTES:
            raw = bytes(now or b"")
            return damaged(raw, rng) if raw and rng.random() < 0.5 else rng.bytes(5)
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            return _FLOATS[int(rng.integers(len(_FLOATS)))]
        case FieldDescriptor.TYPE_ENUM:
            numbers = field.enum_type.values_by_number
            return list(numbers)[int(rng.integers(len(numbers)))]
    low, high = (-(2**31), 2**31 - 1) if field.type == FieldDescriptor.TYPE_INT32 else _WIDE
    value = _odd(rng)
    if isinstance(now, int) and rng.random() < 0.3:
        value = now + int(rng.integers(-3, 4))
    if field.type == FieldDescriptor.TYPE_UINT64:
        low, high = 0, 2**64 - 1
    return max(low, min(high, value))


_WIDE = (-(2**63), 2**63 - 1)


def _odd(rng: Rng) -> int:
    """Return a number that was not expected: near to those that were, or far off."""
    if rng.random() < 0.6:
        return int(rng.integers(-4, 10))
    return _INTEGERS[int(rng.integers(len(_INTEGERS)))]


# ---- what breaks a model in particular


def _pick(values: Any, rng: Rng) -> Any:
    return values[int(rng.integers(len(values)))]


def _graph(model: onnx.ModelProto, rng: Rng) -> onnx.GraphProto:
    """Return the graph, or one that a node of it holds."""
    bodies = [a.g for n in model.graph.node for a in n.attribute if a.HasField("g")]
    graph: onnx.GraphProto = (
        _pick(bodies, rng) if bodies and rng.random() < 0.5 else model.graph
    )
    return graph


def _dims(model: onnx.ModelProto, rng: Rng) -> None:
    tensor = _pick(_graph(model, rng).initializer, rng)
    if tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = _odd(rng)
    else:
        tensor.dims.append(_odd(rng))


def _empty_and_huge(model: onnx.ModelProto, rng: Rng) -> None:
    tensor = _pick(_graph(model, rng).initializer, rng)
    tensor.ClearField("raw_data")
    tensor.dims[:] = [2 ** int(rng.integers(10, 33)) for _ in tensor.dims]


def _element_type(model: onnx.ModelProto, rng: Rng) -> None:
    _pick(_graph(model, rng).initializer, rng).data_type = int(rng.integers(-1, 32))


def _short(model: onnx.ModelProto, rng: Rng) -> None:
    tensor = _pick([t for t in model.graph.initializer if t.raw_data], rng)
    tensor.raw_data = tensor.raw_data[: int(rng.integers(len(tensor.raw_data)))]


def _numbers(model: onnx.ModelProto, rng: Rng) -> None:
    """Change the numbers of a small tensor: shapes, axes, pads, indices."""
    small = [t for t in _graph(model, rng).initializer if 0 < len(t.raw_data) <= 64]
    tensor = _pick(small, rng)
    wide = 8 if tensor.data_type == onnx.TensorProto.INT64 else 4
    array = np.frombuffer(tensor.raw_data, f"<i{wide}").copy()
    array[int(rng.integers(len(array)))] = np.int64(_odd(rng)).astype(array.dtype)
    tensor.raw_data = array.tobytes()


def _elsewhere(model: onnx.ModelProto, rng: Rng) -> None:
    tensor = _pick(model.graph.initializer, rng)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    places = ("model.onnx", "none", "../x", "/etc/passwd", "", ".", "/dev/zero", "a" * 300)
    entries = {"location": _pick(places, rng), "offset": str(_odd(rng))}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _cycle(model: onnx.ModelProto, rng: Rng) -> None:
    nodes = _graph(model, rng).node
    first, later = sorted(int(rng.integers(len(nodes))) for _ in range(2))
    nodes[first].input[0] = nodes[later].output[0]


def _same_name(model: onnx.ModelProto, rng: Rng) -> None:
    nodes = _graph(model, rng).node
    _pick(nodes, rng).output[0] = _pick(nodes, rng).output[0]


def _rewire(model: onnx.ModelProto, rng: Rng) -> None:
    graph = _graph(model, rng)
    node = _pick(graph.node, rng)
    names = [*(o for n in graph.node for o in n.output), *(t.name for t in graph.initializer)]
    node.input[int(rng.integers(len(node.input)))] = _pick([*names, "", "nobody"], rng)


def _operator(model: onnx.ModelProto, rng: Rng) -> None:
    nodes = _graph(model, rng).node
    _pick(nodes, rng).op_type = _pick([*(n.op_type for n in nodes), *_KINDS], rng)


_KINDS = ("If", "Loop", "Resize", "Identity", "Constant", "Reshape", "Expand", "Gather", "LSTM")


def _attribute(model: onnx.ModelProto, rng: Rng) -> None:
    """Change a number of an attribute, or say that it is of another kind."""
    nodes = [n for n in _graph(model, rng).node if n.attribute]
    a = _pick(_pick(nodes, rng).attribute, rng)
    if rng.random() < 0.3:
        a.type = int(rng.integers(0, 15))
    elif a.ints:
        a.ints[int(rng.integers(len(a.ints)))] = _odd(rng)
    elif a.HasField("i"):
        a.i = _odd(rng)
    elif a.HasField("f"):
        a.f = _pick(_FLOATS, rng)
    else:
        a.s = rng.bytes(3)


def _outputs(model: onnx.ModelProto, rng: Rng) -> None:
    outputs = _graph(model, rng).output
    if rng.random() < 0.5:
        del outputs[int(rng.integers(len(outputs)))]
    else:
        _pick(outputs, rng).name = "nobody"


def _opset(model: onnx.ModelProto, rng: Rng) -> None:
    _pick(model.opset_import, rng).version = int(_pick((*range(-1, 30), 2**40), rng))


def _interface(model: onnx.ModelProto, rng: Rng) -> None:
    """Give an input or output another type or shape."""
    graph = _graph(model, rng)
    value = _pick([*graph.input, *graph.output, *graph.value_info], rng)
    tensor = value.type.tensor_type
    if rng.random() < 0.3:
        tensor.elem_type = int(rng.integers(0, 28))
    elif tensor.shape.dim and rng.random() < 0.8:
        _pick(tensor.shape.dim, rng).dim_value = _odd(rng)
    else:
        tensor.shape.dim.add()


def _nested(model: onnx.ModelProto, rng: Rng) -> None:
    """Put a graph within a graph, many times over."""
    inner = onnx.GraphProto(name="inner")
    inner.node.add(op_type="Identity", input=[model.graph.input[0].name], output=["z"])
    inner.output.add(name="z")
    for depth in range(int(rng.integers(1, 30))):
        outer = onnx.GraphProto(name=f"depth{depth}")
        node = outer.node.add(op_type="If", input=["c"], output=["z"])
        for branch in ("then_branch", "else_branch"):
            attribute = node.attribute.add(name=branch, type=onnx.AttributeProto.GRAPH)
            if branch == "then_branch" or depth < 3:
                attribute.g.CopyFrom(inner)
        outer.output.add(name="z")
        inner = outer
    model.graph.node.extend(inner.node)


def _function(model: onnx.ModelProto, rng: Rng) -> None:
    """Declare a function, of its own or the standard's name, that may call itself."""
    name = str(_pick(["F", model.graph.node[0].op_type], rng))
    f = model.functions.add(name=name, domain=str(_pick(["", "local"], rng)))
    f.input.append("a")
    f.output.append("b")
    f.opset_import.extend(model.opset_import)
    f.node.add(op_type=str(_pick([name, "Relu"], rng)), input=["a"], output=["b"],
               domain=f.domain)  # fmt: skip
    model.opset_import.add(domain="local", version=1)
    node = _pick(model.graph.node, rng)
    node.op_type, node.domain = name, f.domain


_EDITS: tuple[Callable[[onnx.ModelProto, Rng], None], ...] = (
    _dims,
    _empty_and_huge,
    _element_type,
    _short,
    _numbers,
    _numbers,
    _elsewhere,
    _cycle,
    _same_name,
    _rewire,
    _rewire,
    _operator,
    _operator,
    _attribute,
    _attribute,
    _attribute,
    _outputs,
    _opset,
    _interface,
    _interface,
    _nested,
    _function,
)
