"""Large ONNX files without their weights, which stay in the file until something reads them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError

from edgec.ir import DType

__all__ = ["LEAST_BYTES", "light"]

LEAST_BYTES = 1 << 14
"""Weights of fewer bytes are not worth a mapping of their own."""

# Numbers of fields, and the only wire type that has contents; protobuf.dev, "Encoding".
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}


def light(data: memoryview, location: str) -> bytes | None:
    """Return a serialized model with references to `location` in place of large weights.

    ``None`` where `data` are no protobuf message, for the parser to say why.

    Parameters
    ----------
    data
        A serialized ``ModelProto``.
    location
        What the references call the file that holds `data`.
    """
    try:
        return b"".join(_model(data, location))
    except (IndexError, ValueError):
        return None


def _model(data: memoryview, location: str) -> Iterator[bytes]:
    for field, start, begin, end in _fields(data, 0, len(data)):
        if field == _GRAPH:
            yield _framed(_GRAPH, b"".join(_graph(data, begin, end, location)))
        else:
            yield bytes(data[start:end])


def _graph(data: memoryview, begin: int, end: int, location: str) -> Iterator[bytes]:
    for field, start, inner, stop in _fields(data, begin, end):
        small = field != _INITIALIZER or stop - inner < LEAST_BYTES
        found = None if small else _reference(data, inner, stop, location)
        yield bytes(data[start:stop]) if found is None else _framed(_INITIALIZER, found)


def _reference(data: memoryview, begin: int, end: int, location: str) -> bytes | None:
    """Return a tensor that refers to its contents, or ``None`` for one to be left alone."""
    rest: list[bytes] = []
    raw: list[tuple[int, int]] = []
    for field, start, inner, stop in _fields(data, begin, end):
        if field == _RAW_DATA:
            raw.append((inner, stop))
        else:
            rest.append(bytes(data[start:stop]))
    if len(raw) != 1:
        return None
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(b"".join(rest))
        size = DType.of_onnx(tensor.data_type).numpy.itemsize * math.prod(tensor.dims)
    except (DecodeError, ValueError, TypeError, KeyError):
        return None
    (first, last), one = raw[0], tensor.data_type not in _PACKED
    # Whatever is odd about it is for the ordinary way to find out.
    if not one or size != last - first or size < LEAST_BYTES or min(tensor.dims) < 1:
        return None
    if tensor.HasField("data_location") or tensor.external_data:
        return None
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(first), "length": str(size)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return bytes(tensor.SerializeToString(deterministic=True))


_PACKED = {
    onnx.TensorProto.DataType.Value(name)
    for name in onnx.TensorProto.DataType.keys()  # noqa: SIM118  (not a dict)
    if name in ("UNDEFINED", "STRING") or "INT4" in name or "INT2" in name or "FLOAT4" in name
}


def _fields(data: memoryview, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, start, start of the contents, and end of each field of a message."""
    at = begin
    while at < end:
        start = at
        key, at = _varint(data, at)
        inner, kind = at, key & 7
        if kind == _LENGTH_DELIMITED:
            length, inner = _varint(data, at)
            at = inner + length
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind == 0:
            _, at = _varint(data, at)
        else:
            raise ValueError("groups are not in use")
        if at > end:
            raise ValueError("a field is cut off")
        # Contents under the number of a message but of another kind are unknown to parsers.
        yield (key >> 3 if kind == _LENGTH_DELIMITED else 0), start, inner, at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")


def _framed(field: int, contents: bytes) -> bytes:
    length, head = len(contents), bytearray([field << 3 | _LENGTH_DELIMITED])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + contents
