"""Arrays that are read piece by piece: in memory, or in an ``.npy`` file."""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.lib.format as npy_format

from edgec.data.spec import Array, data_error
from edgec.errors import DataError

__all__ = [
    "FileArray",
    "Header",
    "MemoryArray",
    "StoredArray",
    "check_holds",
    "hold",
    "open_npy",
    "read_header",
]


@dataclass(frozen=True, slots=True)
class Header:
    """Shape and element type of a row-major array, known before its values are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the values."""
        return self.size * self.dtype.itemsize


class StoredArray(Protocol):
    """An array somewhere, of which one piece at a time is in memory."""

    @property
    def header(self) -> Header:
        """Shape and element type."""
        ...

    def pieces(self, size: int, indices: range) -> Generator[Array, None, None]:
        """Yield the elements ``[i * size, (i + 1) * size)`` in row-major order.

        A sample is such a run of elements whether the array is batched or a stack of
        samples, so nobody below here has to know which.

        Parameters
        ----------
        size
            Elements per piece.
        indices
            Increasing numbers of the pieces.
        """
        ...

    def whole(self) -> Array:
        """Load all of it."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryArray:
    """An array of the caller."""

    array: Array

    @property
    def header(self) -> Header:
        """Shape and element type."""
        return Header(self.array.shape, self.array.dtype)

    def pieces(self, size: int, indices: range) -> Generator[Array, None, None]:
        """Yield runs of elements; see `StoredArray.pieces`."""
        # .flat copies only the piece, also where reshape(-1) would copy all of the array.
        for i in indices:
            yield self.array.flat[i * size : (i + 1) * size]

    def whole(self) -> Array:
        """Give the array itself."""
        return self.array


@dataclass(frozen=True, slots=True)
class FileArray:
    """An uncompressed array inside a file.

    Read, not mapped: pages of a mapped file count as memory of the process, so that it would
    seem to grow with the data.
    """

    path: Path
    header: Header
    offset: int
    """Bytes before the first value."""

    def pieces(self, size: int, indices: range) -> Generator[Array, None, None]:
        """Yield runs of elements; see `StoredArray.pieces`."""
        try:
            # A buffer would only copy what is read in one piece anyway.
            with self.path.open("rb", buffering=0) as stream:
                for i in indices:
                    yield self._read(stream, i * size, size)
        except OSError as error:
            raise data_error(
                f"cannot be read: {error.strerror or error}", str(self.path)
            ) from error

    def whole(self) -> Array:
        """Load all of it."""
        (values,) = self.pieces(self.header.size, range(1))
        return values.reshape(self.header.shape)

    def _read(self, stream: FileIO, first: int, count: int) -> Array:
        dtype = self.header.dtype
        stream.seek(self.offset + first * dtype.itemsize)
        held = bytearray(count * dtype.itemsize)
        if stream.readinto(held) < len(held):
            raise data_error("became shorter while it was read", str(self.path))
        return np.frombuffer(held, dtype)


def hold(name: str, array: object) -> MemoryArray:
    """Take an array of the caller as it is.

    Raises
    ------
    DataError
        If it is not a numpy array, or one of Python objects.
    """
    if not isinstance(array, np.ndarray):
        raise data_error(
            f"{name!r} is a {type(array).__name__}, expected a numpy array",
            "the data in memory",
            "convert it with np.asarray",
        )
    if array.dtype.hasobject:
        raise _objects(f"the data in memory: {name!r}")
    return MemoryArray(array)


def open_npy(path: Path) -> FileArray:
    """Read the header of an ``.npy`` file.

    Raises
    ------
    DataError
        If the file cannot be read, is truncated, or holds what cannot be streamed.
    """
    where = str(path)
    try:
        with path.open("rb") as stream:
            header = read_header(stream, where)
            offset = stream.tell()
        check_holds(header, path.stat().st_size - offset, where)
    except OSError as error:
        raise data_error(f"cannot be read: {error.strerror or error}", where) from error
    return FileArray(path, header, offset)


def check_holds(header: Header, size_bytes: int, where: str) -> None:
    """Refuse a file with fewer bytes of values than its header announces."""
    if size_bytes < header.size_bytes:
        raise data_error(
            f"is truncated: it holds {size_bytes} bytes of values, its header announces "
            f"{header.size_bytes}",
            where,
            "write or download it again",
        )


def read_header(stream: IO[bytes], where: str) -> Header:
    """Read an ``.npy`` header and leave the stream at the first value.

    Raises
    ------
    DataError
        If it is not such a header, or that of a pickled or Fortran-ordered array.

    References
    ----------
    numpy/lib/_format_impl.py, "Format Version 1.0" and "2.0".
    """
    try:
        shape, is_fortran, dtype = _parse_header(stream)
    except (
        EOFError,
        MemoryError,
        OSError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise data_error(
            f"is not an array in npy format: {error}",
            where,
            "write it with np.save or np.savez",
        ) from error
    if dtype.hasobject:
        raise _objects(where)
    if is_fortran and len(shape) > 1:
        raise data_error(
            "is in Fortran order, expected C order, in which a sample lies in one piece",
            where,
            "save np.ascontiguousarray(x)",
        )
    return Header(shape, dtype)


def _parse_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    readers = {
        (1, 0): npy_format.read_array_header_1_0,
        (2, 0): npy_format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version[0]}.{version[1]}, expected 1.0 or 2.0")
    with warnings.catch_warnings():
        # Written by Python 2: slower to parse, no less valid.
        warnings.simplefilter("ignore", UserWarning)
        shape, is_fortran, dtype = readers[version](stream)
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape} has a negative dimension")
    return shape, is_fortran, dtype


def _objects(where: str) -> DataError:
    return data_error(
        "holds Python objects, expected numbers; edgec does not load pickles",
        where,
        "save an array with a numeric dtype",
    )
