"""Contents of files that are too large to be put together in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contents", "Pieces", "sha256_of"]

_ALIGNMENT = 4096  # a page: what starts at one can be mapped into memory
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Pieces:
    """Arrays one after the other, each from the start of a page on; none is copied."""

    arrays: tuple[NDArray[Any], ...]

    @cached_property
    def places(self) -> Sequence[int]:
        """Where each array starts."""
        found: list[int] = []
        end = 0
        for array in self.arrays:
            end += -end % _ALIGNMENT
            found.append(end)
            end += array.nbytes
        return tuple(found)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.places[-1] + self.arrays[-1].nbytes if self.arrays else 0

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes in order, a few at a time."""
        end = 0
        for place, array in zip(self.places, self.arrays, strict=True):
            yield bytes(place - end)
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, len(flat), _CHUNK_BYTES):
                yield flat[start : start + _CHUNK_BYTES].data
            end = place + array.nbytes

    @cached_property
    def sha256(self) -> str:
        """The digest of the whole file, in hexadecimal."""
        total = hashlib.sha256()
        for block in self:
            total.update(block)
        return total.hexdigest()


Contents = bytes | Pieces


def sha256_of(contents: Contents) -> str:
    """Return the digest in hexadecimal."""
    if isinstance(contents, Pieces):
        return contents.sha256
    return hashlib.sha256(contents).hexdigest()
