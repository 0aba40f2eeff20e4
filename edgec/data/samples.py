"""Open a data set, whatever holds it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.data.digest import digest_arrays, digest_file, digest_folder
from edgec.data.images import IMAGE_SUFFIXES, open_images
from edgec.data.npy import MemoryArray, StoredArray, hold, open_npy
from edgec.data.npz import open_npz
from edgec.data.preprocessing import Preprocessing
from edgec.data.shard import Shard, bind_arrays, names_text
from edgec.data.spec import Array, InputSpec, Samples, check_indices, data_error
from edgec.errors import DataError, Diagnostic

__all__ = ["FileSamples", "MemorySamples", "open_samples"]

_ARRAY_SUFFIXES = (".npy", ".npz")
_IN_MEMORY = "the data in memory"


def open_samples(
    source: Path | str | Mapping[str, Array],
    specs: Sequence[InputSpec],
    *,
    preprocessing: Preprocessing | None = None,
    extras: Sequence[str] = (),
) -> Samples:
    """Open a data set for a model.

    Sample i is ``x[i * b : (i + 1) * b]`` of an array with the axes of the input, whose batch
    is b, or ``x[i]`` of an array with one axis more.

    Parameters
    ----------
    source
        An ``.npz`` of one array per input, an ``.npy`` for the only input, a folder of such
        files (each may be a lone sample), a folder of images, or arrays by name.
    specs
        All inputs of the model.
    preprocessing
        How images become the input; needed for these and refused for arrays.
    extras
        Names of small arrays to keep for `Samples.extra`, if they are there.

    Raises
    ------
    DataError, OptionError
        If the data cannot be read, or data or preprocessing do not fit the model.
    """
    if not specs:
        raise DataError("the model has no inputs")
    if isinstance(source, Mapping):
        _refuse_preprocessing(preprocessing, _IN_MEMORY)
        return _open_memory(source, specs, extras)
    path = Path(source)
    _check_exists(path)
    is_folder = path.is_dir()
    names, ignored = _list_folder(path) if is_folder else ((path.name,), 0)
    if is_folder and names[0].lower().endswith(IMAGE_SUFFIXES):
        return open_images(path, names, specs, preprocessing, ignored)
    _refuse_preprocessing(preprocessing, str(path))
    return _open_files(path, names, specs, extras, ignored)


@dataclass(frozen=True, slots=True)
class MemorySamples:
    """Samples in arrays of the caller."""

    shard: Shard
    notes: tuple[Diagnostic, ...]

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.shard.count

    def feeds(self, indices: range) -> Iterator[dict[str, Array]]:
        """Yield the feeds of some samples; see `Samples.feeds`."""
        check_indices(indices, self.count)
        return self.shard.feeds(indices, 0)

    def extra(self, name: str) -> Array | None:
        """Give an extra array; see `Samples.extra`."""
        return self.shard.extra(name)

    def digest(self) -> str:
        """Digest the arrays of inputs and extras; see `Samples.digest`."""
        arrays = {b.spec.name: b.array.whole() for b in self.shard.bindings}
        return digest_arrays(
            arrays | {name: extra.whole() for name, extra in self.shard.extras.items()}
        )


@dataclass(frozen=True, slots=True)
class FileSamples:
    """Samples in one array file or a folder of them, of which one at a time is open.

    Only names and counts are kept, so that a folder of many files stays small in memory.
    """

    root: Path
    """The folder, or the file itself."""
    names: tuple[str, ...]
    ends: tuple[int, ...]
    """For every file, how many samples it and those before it hold."""
    specs: tuple[InputSpec, ...]
    extras: tuple[str, ...]
    notes: tuple[Diagnostic, ...]

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.ends[-1]

    def feeds(self, indices: range) -> Iterator[dict[str, Array]]:
        """Yield the feeds of some samples; see `Samples.feeds`."""
        check_indices(indices, self.count)
        return self._feeds(indices)

    def extra(self, name: str) -> Array | None:
        """Load an extra array, that of all files in one; see `Samples.extra`."""
        parts = [self._open(k).extra(name) for k in range(len(self.names))]
        found = [part for part in parts if part is not None]
        if not found:
            return None
        if len(found) < len(parts):
            lacking = self.names[next(k for k, part in enumerate(parts) if part is None)]
            raise data_error(
                f"has no array {name!r}, but other files of the folder have",
                str(self.root / lacking),
                f"save {name!r} in all files or in none",
            )
        try:
            return np.concatenate(found)
        except ValueError as error:
            raise data_error(
                f"the files do not agree in the shape of {name!r}: {error}",
                str(self.root),
                "save it with the same shape per sample in all files",
            ) from error

    def digest(self) -> str:
        """Digest the files; see `Samples.digest`."""
        if self.root.is_dir():
            return digest_folder(self.root, self.names)
        return digest_file(self.root)

    def _feeds(self, indices: range) -> Iterator[dict[str, Array]]:
        k = bisect_right(self.ends, indices.start)
        while k < len(self.ends) and indices:
            first = self.ends[k - 1] if k else 0
            cut = bisect_left(indices, self.ends[k])
            here, indices = indices[:cut], indices[cut:]
            if here:
                local = range(here.start - first, here.stop - first, here.step)
                yield from self._open(k).feeds(local, first)
            k += 1

    def _open(self, k: int) -> Shard:
        path = self.root / self.names[k] if self.root.is_dir() else self.root
        shard, _ = _open_shard(path, self.specs, self.extras, self.root.is_dir())
        if shard.count != self.ends[k] - (self.ends[k - 1] if k else 0):
            raise data_error(
                f"has {shard.count} samples now, and had another number when it was opened",
                str(path),
                "do not write to the data while they are in use",
            )
        return shard


def _check_exists(path: Path) -> None:
    try:
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise data_error(
            f"cannot be read: {reason}", str(path), "check the path of the data"
        ) from error


def _open_memory(
    source: Mapping[str, Array], specs: Sequence[InputSpec], extras: Sequence[str]
) -> MemorySamples:
    wanted = {*(spec.name for spec in specs), *extras}
    arrays: dict[str, MemoryArray] = {
        name: hold(name, array) for name, array in source.items() if name in wanted
    }
    others = [name for name in source if name not in wanted]
    shard = bind_arrays(_IN_MEMORY, arrays, specs, others=others)
    tally = _Tally()
    tally.add(shard, others)
    return MemorySamples(shard, tally.notes(_IN_MEMORY))


def _open_files(
    root: Path,
    names: tuple[str, ...],
    specs: Sequence[InputSpec],
    extras: Sequence[str],
    ignored: int,
) -> FileSamples:
    is_folder = root.is_dir()
    ends: list[int] = []
    tally = _Tally(ignored)
    for name in names:
        shard, others = _open_shard(
            root / name if is_folder else root, specs, extras, is_folder
        )
        ends.append(shard.count + (ends[-1] if ends else 0))
        tally.add(shard, others)
    notes = tally.notes(str(root))
    return FileSamples(root, names, tuple(ends), tuple(specs), tuple(extras), notes)


def _open_shard(
    path: Path, specs: Sequence[InputSpec], extras: Sequence[str], may_be_lone: bool
) -> tuple[Shard, tuple[str, ...]]:
    arrays: Mapping[str, StoredArray]
    others: tuple[str, ...] = ()
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays, others = open_npz(path, {*(spec.name for spec in specs), *extras})
    elif suffix == ".npy":
        if len(specs) > 1:
            raise data_error(
                f"holds one array, the model has {len(specs)} inputs: "
                f"{names_text([spec.name for spec in specs])}",
                str(path),
                "save one array per input with np.savez",
            )
        arrays = {specs[0].name: open_npy(path)}
    else:
        raise data_error(
            "is not a data set; expected an .npz or .npy file, or a folder of arrays or images",
            str(path),
            "save the inputs with np.savez, or name the folder",
        )
    return bind_arrays(str(path), arrays, specs, others=others, may_be_lone=may_be_lone), others


def _list_folder(root: Path) -> tuple[tuple[str, ...], int]:
    """Names of the data files, and how many other files there are."""
    files = [
        p.relative_to(root)
        for p in root.rglob("*")
        # A leading dot marks what systems leave behind, such as macOS's "._photo.jpg".
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(root).parts)
    ]
    arrays = sorted(
        p.name for p in files if len(p.parts) == 1 and p.suffix.lower() in _ARRAY_SUFFIXES
    )
    images = sorted(p.as_posix() for p in files if p.suffix.lower() in IMAGE_SUFFIXES)
    if arrays and images:
        raise data_error(
            f"holds both arrays ({arrays[0]!r}) and images ({images[0]!r}), expected one kind",
            str(root),
            "put them into folders of their own",
        )
    if not arrays and not images:
        raise data_error(
            f"holds no samples: expected {', '.join(_ARRAY_SUFFIXES)} files in the folder "
            f"itself, or {', '.join(IMAGE_SUFFIXES)} images at any depth",
            str(root),
            "check the path of the data",
        )
    names = tuple(arrays or images)
    return names, len(files) - len(names)


def _refuse_preprocessing(preprocessing: Preprocessing | None, where: str) -> None:
    if preprocessing is not None:
        raise data_error(
            "preprocessing is for folders of images, these are arrays",
            where,
            "leave out --preprocess and save the arrays as the model wants them",
        )


class _Tally:
    """What the files of a data set leave out, added up for the notes."""

    def __init__(self, ignored: int = 0) -> None:
        self._ignored = ignored
        self._others: dict[str, None] = {}
        self._rows: dict[InputSpec, tuple[int, int]] = {}
        self._count = 0

    def add(self, shard: Shard, others: Sequence[str]) -> None:
        self._count += shard.count
        self._others.update(dict.fromkeys(others))
        for b in shard.bindings:
            rows, dropped = self._rows.get(b.spec, (0, 0))
            self._rows[b.spec] = (rows + b.rows, dropped + b.dropped)

    def notes(self, where: str) -> tuple[Diagnostic, ...]:
        """Say what is left out; refuse the data if nothing is left."""
        dropped = [
            f"input {spec.name!r}: {left} of {rows} rows do not fill a batch of {spec.batch}"
            for spec, (rows, left) in self._rows.items()
            if left
        ]
        if not self._count:
            raise data_error(
                "; ".join(["there are no samples, expected at least one", *dropped]),
                where,
                "add samples, or bind the batch to a smaller number"
                if dropped
                else "add samples",
            )
        messages = [f"{text} and are left out" for text in dropped]
        if self._others:
            names = names_text(list(self._others))
            messages.append(f"arrays that are no inputs of the model are ignored: {names}")
        if self._ignored:
            messages.append(f"{self._ignored} files that are no samples are ignored")
        return tuple(Diagnostic(message, where) for message in messages)
