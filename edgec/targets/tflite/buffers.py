"""Contents of constants, written behind the tables that refer to them.

FlatBuffers are built from their end, with everything in one array that grows. Here only the
tables are built so: the contents follow them in the file, each copied once, straight from
where it lies. Offsets in FlatBuffers lead forward, so any reader finds them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir import Array, unload

__all__ = ["Buffers"]

_ALIGNMENT = 16  # schema.fbs: Buffer.data is aligned so that kernels may read it in place
_CHUNK_BYTES = 1 << 24
_REACH = 2**31 - 2**24
"""Most bytes that offsets within a FlatBuffer are trusted to lead over; they are signed."""


class Buffers:
    """The constants of a file, equal ones once.

    Parameters
    ----------
    reach
        Bytes of contents from which on they lie outside the FlatBuffer, where the schema has
        64-bit offsets; runtimes read that since TensorFlow 2.15.
    """

    def __init__(self, reach: int = _REACH) -> None:
        # The first buffer is empty by convention: it is that of tensors without contents.
        self._contents: list[Array | None] = [None]
        self._groups: dict[tuple[int, int], dict[bytes, int]] = {}
        self._tables: list[_Buffer] = []
        self._reach = reach

    def add(self, array: Array, kind: int) -> int:
        """Return the number of the buffer that holds an array.

        Parameters
        ----------
        kind
            Element type; arrays of different types share no buffer.
        """
        group = self._groups.setdefault((kind, array.nbytes), {})
        if not group:
            group[b""] = self._append(array)  # nothing to compare it with yet
            return group[b""]
        first = group.pop(b"", None)
        if first is not None:
            group[_digest(self._contents[first])] = first
        digest = _digest(array)
        if digest not in group:
            group[digest] = self._append(array)
        return group[digest]

    def _append(self, array: Array) -> int:
        self._contents.append(array)
        return len(self._contents) - 1

    @property
    def far(self) -> bool:
        """Whether contents lie outside the FlatBuffer, which is too small for them."""
        return sum(a.nbytes for a in self._contents if a is not None) > self._reach

    def tables(self) -> list[Any]:
        """Return the tables of all buffers, for the model; call it once they are complete."""
        far = self.far
        self._tables = [_Buffer(array is not None, far) for array in self._contents]
        return self._tables

    def file(self, head: bytearray) -> bytes:
        """Return the whole file, from the FlatBuffer with all tables in it."""
        places: list[int] = []
        end = len(head)
        for table, array in zip(self._tables, self._contents, strict=True):
            if array is None:
                places.append(end)
                continue
            place = end + 4  # after the length
            place += -place % _ALIGNMENT
            places.append(place)
            table.point(head, place, array.nbytes)
            end = place + array.nbytes
        # Only this grows to the size of the file, and it becomes the result without a copy.
        file = io.BytesIO()
        file.write(head)
        for place, array in zip(places, self._contents, strict=True):
            if array is not None:
                file.write(bytes(place - 4 - file.tell()))
                file.write(min(array.nbytes, 2**32 - 1).to_bytes(4, "little"))
                for chunk in _chunks(array):
                    file.write(chunk)
                unload([array])
        return file.getvalue()


class _Buffer(schema.BufferT):  # type: ignore[misc]
    """A table whose fields are filled in when it is known where its contents will be."""

    def __init__(self, filled: bool, far: bool) -> None:
        super().__init__()
        self._filled, self._far = filled, far
        self._fields: list[int] = []

    def Pack(self, builder: Any) -> int:  # noqa: N802
        schema.BufferStart(builder)
        if self._filled and self._far:
            schema.BufferAddOffset(builder, 1)
            self._fields.append(builder.Offset())
            schema.BufferAddSize(builder, 1)
            self._fields.append(builder.Offset())
        elif self._filled:
            builder.PrependUint32Slot(0, 1, 0)  # an offset is stored like a number
            self._fields.append(builder.Offset())
        return int(schema.BufferEnd(builder))

    def point(self, head: bytearray, place: int, size: int) -> None:
        """Write where the contents begin, and how many bytes they are."""
        fields = [len(head) - offset for offset in self._fields]
        if self._far:
            for field, number in zip(fields, (place, size), strict=True):
                head[field : field + 8] = number.to_bytes(8, "little")
            return
        (field,) = fields
        head[field : field + 4] = (place - 4 - field).to_bytes(4, "little")


def _digest(array: Array | None) -> bytes:
    found = hashlib.blake2b(digest_size=32)
    for chunk in () if array is None else _chunks(array):
        found.update(chunk)
    return found.digest()


def _chunks(array: Array) -> Iterator[memoryview]:
    """Yield the bytes of an array in row-major order, without a copy of all of it."""
    if array.flags.c_contiguous or array.nbytes <= _CHUNK_BYTES or array.ndim < 2:
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        return
    rows = max(1, _CHUNK_BYTES * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        yield from _chunks(array[start : start + rows]) if rows > 1 else _chunks(array[start])
