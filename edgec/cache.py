"""What took long to measure, kept from one run to the next."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.errors import OutputError
from edgec.files import json_bytes, write_files

__all__ = ["Cache"]

_MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of JSON files, each named by what its contents depend on.

    What cannot be read is as good as not there, and what cannot be written is measured again
    next time: a cache is never a reason to fail.

    Parameters
    ----------
    folder
        ``None`` keeps nothing.
    """

    folder: Path | None

    @classmethod
    def of_user(cls) -> Cache:
        """Return that of the user: ``EDGEC_CACHE``, or ``edgec`` where caches are kept.

        An empty ``EDGEC_CACHE`` keeps nothing.
        """
        named = os.environ.get("EDGEC_CACHE")
        if named is not None:
            return cls(Path(named) if named else None)
        base = os.environ.get("XDG_CACHE_HOME")
        with suppress(RuntimeError):  # there may be no home
            return cls((Path(base) if base else Path.home() / ".cache") / "edgec")
        return cls(None)

    def read(self, key: str) -> dict[str, Any]:
        """Return what was kept under a key; nothing if that is not a JSON object."""
        if self.folder is None:
            return {}
        path = self.folder / f"{key}.json"
        with suppress(OSError, ValueError, RecursionError):
            if path.stat().st_size <= _MOST_BYTES:
                found = json.loads(path.read_bytes())
                return found if isinstance(found, dict) else {}
        return {}

    def write(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a JSON object under a key, in one piece or not at all."""
        if self.folder is not None:
            with suppress(OutputError):
                write_files(self.folder, {f"{key}.json": json_bytes(dict(value))})
