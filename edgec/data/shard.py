"""The arrays of one file, bound to the inputs of a model."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from edgec.data.npy import StoredArray
from edgec.data.spec import Array, InputSpec, accepts, as_sample, data_error, shape_text
from edgec.errors import DataError, Diagnostic

__all__ = ["Binding", "Shard", "bind_arrays", "names_text"]

_NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Binding:
    """One input of the model and the array that feeds it."""

    spec: InputSpec
    array: StoredArray
    rows_per_sample: int

    @property
    def rows(self) -> int:
        """Length of the first axis of the array, or 1 if all of it is one sample."""
        shape = self.array.header.shape
        return shape[0] if self.rows_per_sample else 1

    @property
    def count(self) -> int:
        """Number of complete samples."""
        return self.rows // (self.rows_per_sample or 1)

    @property
    def dropped(self) -> int:
        """Rows at the end that do not fill a sample."""
        return self.rows % (self.rows_per_sample or 1)

    def pieces(self, indices: range) -> Generator[Array, None, None]:
        """Yield the values of some samples."""
        # Not from header.shape: a batch may be larger than the array it is cut from.
        size = int(np.prod(self.spec.shape, dtype=np.int64))
        return self.array.pieces(size, indices)


@dataclass(frozen=True, slots=True)
class Shard:
    """All inputs from one file, with as many samples each."""

    where: str
    bindings: tuple[Binding, ...]
    extras: Mapping[str, StoredArray]

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.bindings[0].count

    def feeds(self, indices: range, first: int) -> Iterator[dict[str, Array]]:
        """Yield the feeds of some samples.

        Parameters
        ----------
        indices
            Which samples of this file.
        first
            Index of the file's first sample in the whole data set, for messages.
        """
        with ExitStack() as stack:
            streams = [
                stack.enter_context(closing(binding.pieces(indices)))
                for binding in self.bindings
            ]
            for i in indices:
                yield {
                    binding.spec.name: as_sample(
                        next(pieces), binding.spec, self.where, first + i
                    )
                    for binding, pieces in zip(self.bindings, streams, strict=True)
                }

    def extra(self, name: str) -> Array | None:
        """Load an extra, without the rows that belong to no sample."""
        if name not in self.extras:
            return None
        return np.atleast_1d(self.extras[name].whole())[: self._extra_rows(name)]

    def _extra_rows(self, name: str) -> int:
        """How many rows of an extra belong to samples; -1 if its length does not fit."""
        shape = self.extras[name].header.shape or (1,)
        kept = {b.rows: b.rows - b.dropped for b in self.bindings}
        return kept.get(shape[0], -1) if shape[0] != self.count else self.count

    def check_extras(self) -> None:
        """Refuse extras that are neither per sample nor per row of an input."""
        for name in self.extras:
            if self._extra_rows(name) < 0:
                shape = self.extras[name].header.shape
                raise data_error(
                    f"{name!r} has shape {shape_text(shape)}, expected one row for each of "
                    f"the {self.count} samples",
                    self.where,
                    "save as many rows of it as of the inputs",
                )


def bind_arrays(
    where: str,
    arrays: Mapping[str, StoredArray],
    specs: Sequence[InputSpec],
    *,
    others: Sequence[str] = (),
    may_be_lone: bool = False,
) -> Shard:
    """Bind the arrays of one file to the inputs of the model.

    Parameters
    ----------
    where
        The file, for messages.
    arrays
        Arrays by name; those that are no inputs are extras.
    specs
        The inputs.
    others
        Further names in the file, for the message about a missing one.
    may_be_lone
        Whether an array may be one sample without an axis for the samples.

    Raises
    ------
    DataError
        If an input has no array or one of a wrong shape or type, or if the inputs differ in
        their numbers of samples.
    """
    _check_names(where, arrays, others, specs)
    bound = [_bind(spec, arrays[spec.name], may_be_lone) for spec in specs]
    problems = [b for b in bound if isinstance(b, Diagnostic)]
    if problems:
        raise DataError(f"{where} does not fit the model", problems)
    bindings = tuple(b for b in bound if isinstance(b, Binding))
    _check_counts(where, bindings)
    names = {spec.name for spec in specs}
    shard = Shard(where, bindings, {k: v for k, v in arrays.items() if k not in names})
    shard.check_extras()
    return shard


def names_text(names: Sequence[str]) -> str:
    """Print names for a message, not too many of them."""
    shown = [repr(name) for name in names[:_NAMES_SHOWN]]
    more = [f"and {len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
    return ", ".join([*shown, *more]) or "nothing"


def _check_names(
    where: str,
    arrays: Mapping[str, StoredArray],
    others: Sequence[str],
    specs: Sequence[InputSpec],
) -> None:
    wanted = [spec.name for spec in specs]
    missing = [name for name in wanted if name not in arrays]
    if not missing:
        return
    found = [*arrays, *others]
    free = {name.lower(): name for name in found if name not in wanted}
    problems = []
    for name in missing:
        close = get_close_matches(name.lower(), free, n=1)
        hint = (
            f"did you mean {free[close[0]]!r}? rename it to {name!r}"
            if close
            else (f"save an array named {name!r}")
        )
        problems.append(Diagnostic(f"no array for input {name!r}", hint=hint))
    raise DataError(
        f"{where}: found {names_text(found)}, expected one array per model input: "
        f"{names_text(wanted)}",
        problems,
    )


def _check_counts(where: str, bindings: Sequence[Binding]) -> None:
    first = bindings[0]
    for other in bindings[1:]:
        if other.count != first.count:
            raise data_error(
                f"input {first.spec.name!r} has {first.count} samples, input "
                f"{other.spec.name!r} has {other.count}, expected the same number",
                where,
                "save as many samples of every input",
            )


def _bind(spec: InputSpec, array: StoredArray, may_be_lone: bool) -> Binding | Diagnostic:
    place = f"input {spec.name!r}"
    found = array.header
    if not accepts(spec.dtype, found.dtype):
        return Diagnostic(
            f"found dtype {found.dtype}, the model expects {spec.dtype}",
            place,
            f"save x.astype('{spec.dtype}') if the values mean the same",
        )
    rows = _rows_per_sample(spec, found.shape, may_be_lone)
    if rows is None:
        return Diagnostic(
            f"found shape {shape_text(found.shape)}, the model expects {_forms(spec)}",
            place,
            _shape_hint(spec, found.shape),
        )
    return Binding(spec, array, rows)


def _rows_per_sample(spec: InputSpec, shape: tuple[int, ...], may_be_lone: bool) -> int | None:
    """Rows of the array that make a sample; 0 if all of it is one, ``None`` if it is wrong."""
    if spec.batch and len(shape) == len(spec.shape) and shape[1:] == spec.shape[1:]:
        return spec.batch
    if shape and shape[1:] == spec.shape:
        return 1
    is_lone = shape == spec.shape or (spec.batch == 1 and shape == spec.shape[1:])
    return 0 if may_be_lone and is_lone else None


def _forms(spec: InputSpec) -> str:
    stack = shape_text(spec.shape, "N")
    return f"{shape_text(spec.shape[1:], 'N')} or {stack}" if spec.batch else stack


def _shape_hint(spec: InputSpec, shape: tuple[int, ...]) -> str:
    for axes in ((0, 3, 1, 2), (0, 2, 3, 1)):
        if len(shape) == 4 and tuple(shape[a] for a in axes)[1:] == spec.shape[1:]:
            return f"the channels are on another axis: save x.transpose{axes}"
    if shape in (spec.shape, spec.shape[1:]):
        return "it has no axis for the samples: save x[np.newaxis], or np.stack of all samples"
    return "N is the number of samples; reshape the array, or preprocess it as for the model"
