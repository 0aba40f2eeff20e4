"""What a model wants of one input, and how stored values become exactly that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgec.errors import DataError, Diagnostic

__all__ = [
    "Array",
    "InputSpec",
    "Samples",
    "accepts",
    "as_sample",
    "check_indices",
    "data_error",
    "shape_text",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the model wants of one input.

    Parameters
    ----------
    name
        The input's name in the model.
    dtype
        Element type of every feed.
    shape
        Shape of every feed, all dimensions bound.
    has_batch
        Whether the first dimension is the batch: it was symbolic or 1 in the model.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    has_batch: bool

    @property
    def batch(self) -> int:
        """How many rows of a batched array make one sample; 0 if there is no batch."""
        return self.shape[0] if self.has_batch and self.shape else 0


class Samples(Protocol):
    """A data set read one sample at a time, in bounded memory."""

    @property
    def count(self) -> int:
        """Number of samples; never 0."""
        ...

    @property
    def notes(self) -> tuple[Diagnostic, ...]:
        """What the user should be told about the data, such as rows left out."""
        ...

    def feeds(self, indices: range) -> Iterator[dict[str, Array]]:
        """Yield the feeds of some samples, forward only.

        Parameters
        ----------
        indices
            Which samples, in ``range(count)``, with a positive step.

        Yields
        ------
        feed
            For every input name an array of its own, of exactly the shape and dtype of the
            spec.

        Raises
        ------
        DataError
            If a sample cannot be read, or holds NaN or infinite values.
        """
        ...

    def extra(self, name: str) -> Array | None:
        """Load a small array that goes along with the samples, such as ``labels``.

        Rows that belong to samples left out are left out here too.

        Returns
        -------
        array
            The whole array; ``None`` if the data have no such array, or if `name` is not
            among the extras the data were opened with.
        """
        ...

    def digest(self) -> str:
        """SHA-256 of the data, as hexadecimal digits.

        Of one file: that of its bytes. Of a folder: over the relative names and bytes of the
        files used, in sorted order. Of arrays in memory: over names, types, shapes and bytes.
        """
        ...


def data_error(message: str, where: str, hint: str = "") -> DataError:
    """Build the error for one problem of the data."""
    return DataError(str(Diagnostic(message, where, hint)))


def shape_text(shape: tuple[int, ...], leading: str = "") -> str:
    """Print a shape as ``[N, 3, 224, 224]``; `leading` goes in front."""
    return f"[{', '.join([*([leading] if leading else []), *map(str, shape)])}]"


def check_indices(indices: range, count: int) -> None:
    """Refuse indices that are not increasing or not those of a sample.

    Raises
    ------
    IndexError
        If an index is outside of ``range(count)``, or the step is negative.
    """
    if indices and (indices.step < 1 or indices[0] < 0 or indices[-1] >= count):
        raise IndexError(f"{indices} is not an increasing part of range(0, {count})")


def accepts(wanted: np.dtype[Any], found: np.dtype[Any]) -> bool:
    """Whether values of type `found` keep their meaning in an input of type `wanted`.

    The same type does, in either byte order; so does a float of another width, and an
    integer where a float is wanted.
    """
    if found.newbyteorder("=") == wanted.newbyteorder("="):
        return True
    return _is_float(wanted) and (_is_float(found) or found.kind in "iu")


def as_sample(values: Array, spec: InputSpec, where: str, index: int) -> Array:
    """Cast the values of one sample and give them their shape.

    Parameters
    ----------
    values
        As many as the spec's shape holds, in row-major order.
    spec
        What is wanted.
    where, index
        File and index of the sample, for the message.

    Returns
    -------
    sample
        A new, contiguous array of the spec's shape and dtype.

    Raises
    ------
    DataError
        If a value is NaN or infinite, or becomes infinite in the spec's dtype.
    """
    # A value too large for the narrower type is reported below, not warned of by numpy.
    with np.errstate(all="ignore"):
        sample = values.astype(spec.dtype, order="C", subok=False).reshape(spec.shape)
    if _is_float(spec.dtype) or spec.dtype.kind == "c":
        bad = int(sample.size - np.count_nonzero(np.isfinite(sample)))
        if bad:
            raise _not_finite(values, bad, spec, where, index)
    return sample


def _not_finite(values: Array, bad: int, spec: InputSpec, where: str, index: int) -> DataError:
    place = f"{where}: input {spec.name!r}, sample {index}"
    total = values.size
    if np.isfinite(values).all():
        return data_error(
            f"{bad} of {total} values are too large for {spec.dtype}, which the model expects",
            place,
            f"scale the data into the range of {spec.dtype}",
        )
    return data_error(
        f"{bad} of {total} values are NaN or infinite, expected finite numbers",
        place,
        "remove or repair the sample",
    )


def _is_float(dtype: np.dtype[Any]) -> bool:
    # bfloat16 and the 8-bit floats of ml_dtypes are of kind "V" to numpy.
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))
