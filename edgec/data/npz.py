"""Members of an ``.npz`` archive, read without ever loading one whole.

``np.load`` ignores ``mmap_mode`` for archives and inflates a member completely. Here a stored
member is read where it lies in the file, and a deflated one is inflated as a stream.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgec.data.npy import FileArray, Header, StoredArray, check_holds, read_header
from edgec.data.spec import Array, data_error

__all__ = ["DeflatedArray", "open_npz"]

_CHUNK_BYTES = 1 << 16
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_IS_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class DeflatedArray:
    """A compressed member of an archive."""

    path: Path
    header: Header
    member: str

    def pieces(self, size: int, indices: range) -> Generator[Array, None, None]:
        """Yield runs of elements; see `StoredArray.pieces`.

        What lies between the pieces is inflated and thrown away; what lies after the last
        one is not read, so that zipfile compares the checksum only if that ends the member.
        """
        dtype = self.header.dtype
        step = size * dtype.itemsize
        at = 0
        with _archive(self.path) as archive, archive.open(self.member) as stream:
            read_header(stream, f"{self.path}: {self.member!r}")
            for i in indices:
                _skip(stream, i * step - at)
                piece = _read(stream, step)
                at = (i + 1) * step
                yield np.ndarray((size,), dtype, piece)

    def whole(self) -> Array:
        """Load all of it."""
        (values,) = self.pieces(self.header.size, range(1))
        return values.reshape(self.header.shape)


def open_npz(
    path: Path, wanted: Collection[str]
) -> tuple[dict[str, StoredArray], tuple[str, ...]]:
    """Read the headers of some members.

    Parameters
    ----------
    path
        The archive.
    wanted
        Names of arrays, without ``.npy``.

    Returns
    -------
    arrays
        Those of the wanted arrays that are there.
    others
        The names of all other members.

    Raises
    ------
    DataError
        If the archive or a wanted member is corrupt, or cannot be streamed.
    """
    arrays: dict[str, StoredArray] = {}
    others: dict[str, None] = {}
    with _archive(path) as archive:
        for member in dict.fromkeys(archive.namelist()):
            name = member.removesuffix(".npy")
            if name in wanted and name != member:
                arrays[name] = _open_member(path, archive, archive.getinfo(member))
            elif not member.endswith("/"):
                others[name] = None
    return arrays, tuple(others)


def _open_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> StoredArray:
    where = f"{path}: {info.filename!r}"
    if info.flag_bits & _IS_ENCRYPTED:
        raise data_error("is encrypted", where, "write the archive with np.savez")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise data_error(
            "is compressed by another method than deflate, which is all that np.load reads in "
            "bounded memory",
            where,
            "write the archive with np.savez or np.savez_compressed",
        )
    with archive.open(info) as stream:
        header = read_header(stream, where)
        header_bytes = stream.tell()
    check_holds(header, info.file_size - header_bytes, where)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        return DeflatedArray(path, header, info.filename)
    offset = _data_offset(path, info) + header_bytes
    return FileArray(path, header, offset)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Bytes of the file before the member's own.

    The central directory knows only where the local header begins; how long that one is,
    it says itself, and it may differ from the central copy (APPNOTE.TXT, section 4.3.7).
    """
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(
            stream.read(_LOCAL_HEADER.size)
        )
    if signature != _LOCAL_SIGNATURE:
        raise zipfile.BadZipFile(f"no local header for {info.filename!r}")
    return info.header_offset + _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise data_error(
            f"is not an npz archive, or a damaged one: {error}",
            str(path),
            "write it again with np.savez or np.savez_compressed",
        ) from error


def _read(stream: IO[bytes], size_bytes: int) -> bytearray:
    piece = bytearray(size_bytes)
    at = 0
    while at < size_bytes:
        chunk = stream.read(min(_CHUNK_BYTES, size_bytes - at))
        if not chunk:
            raise EOFError("a member ends before its last value")
        piece[at : at + len(chunk)] = chunk
        at += len(chunk)
    return piece


def _skip(stream: IO[bytes], size_bytes: int) -> None:
    # Not seek(): it inflates up to 16 MB at a time.
    while size_bytes:
        chunk = stream.read(min(_CHUNK_BYTES, size_bytes))
        if not chunk:
            raise EOFError("a member ends before its last value")
        size_bytes -= len(chunk)
