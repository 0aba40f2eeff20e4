"""Digests that tell two data sets apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.data.spec import Array, data_error

__all__ = ["digest_arrays", "digest_file", "digest_folder"]

_CHUNK_ELEMENTS = 1 << 16


def digest_file(path: Path) -> str:
    """SHA-256 of the bytes of a file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise data_error(f"cannot be read: {error.strerror or error}", str(path)) from error


def digest_folder(root: Path, names: Sequence[str]) -> str:
    """SHA-256 over names and digests of files.

    Parameters
    ----------
    root
        The folder.
    names
        Posix paths relative to it, in the order to digest.
    """
    total = hashlib.sha256()
    for name in names:
        total.update(f"{digest_file(root / name)}  {name}\n".encode())
    return total.hexdigest()


def digest_arrays(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over names, types, shapes and row-major bytes, in sorted order of the names."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name!r} {array.dtype.str} {array.shape}\n".encode())
        for start in range(0, array.size, _CHUNK_ELEMENTS):
            total.update(array.flat[start : start + _CHUNK_ELEMENTS].tobytes())
    return total.hexdigest()
