"""What a model is run on: arrays from a file, or random ones of a fixed seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from edgec.errors import Diagnostic, OptionError
from edgec.ir import Array
from edgec.program import Tensor

__all__ = ["random_inputs", "stored_inputs"]

_SAMPLES = 3


def random_inputs(tensors: Sequence[Tensor], count: int = _SAMPLES) -> list[list[Array]]:
    """Return sets of inputs: all integers alike likely, real numbers of a normal spread."""
    rng = np.random.default_rng(0)
    return [[_random(tensor, rng) for tensor in tensors] for _ in range(count)]


def _random(tensor: Tensor, rng: np.random.Generator) -> Array:
    dtype = tensor.dtype.numpy
    if dtype.kind == "f":
        return rng.standard_normal(tensor.shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, tensor.shape).astype(dtype)
    low, high = _limits(tensor)
    return rng.integers(low, high, tensor.shape, dtype=dtype, endpoint=True)


def _limits(tensor: Tensor) -> tuple[int, int]:
    limits = np.iinfo(tensor.dtype.numpy.name)
    return int(limits.min), int(limits.max)


def stored_inputs(path: Path, tensors: Sequence[Tensor]) -> list[list[Array]]:
    """Return the sets of inputs in a ``.npz`` file, whose arrays are called as the inputs are.

    An array is one input, or several along the first axis. Real numbers are put on the grid of
    an input of integers. A golden file of edgec's is read too; a single input may have any
    name.

    Raises
    ------
    OptionError
        If the file cannot be read, or does not fit the inputs.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        raise OptionError(f"cannot read the inputs {path}: {error}") from error
    columns = [_column(held, tensor, len(tensors) == 1) for tensor in tensors]
    problems = [
        Diagnostic(_wanted(held, tensor), tensor.name)
        for tensor, column in zip(tensors, columns, strict=True)
        if column is None
    ]
    found = [column for column in columns if column is not None]
    counts = {len(column) for column in found}
    if not problems and counts == {0}:
        problems.append(Diagnostic("There is no set of inputs in it."))
    if len(counts) > 1:
        problems.append(Diagnostic(f"The inputs come in different numbers: {sorted(counts)}."))
    if problems:
        raise OptionError(f"the arrays of {path} do not fit the model's inputs", problems)
    return [list(row) for row in zip(*found, strict=True)]


def _column(held: dict[str, Array], tensor: Tensor, only: bool) -> list[Array] | None:
    names = [f"tflite/input/{tensor.name}", f"input/{tensor.name}", tensor.name]
    if only and len(held) == 1:
        names += held
    for name in names:
        if name in held and (column := _fitting(held[name], tensor)) is not None:
            return column
    return None


def _fitting(array: Array, tensor: Tensor) -> list[Array] | None:
    """Return an array as inputs, one for each run; ``None`` if it cannot be any."""
    if array.shape == tensor.shape:
        array = array[np.newaxis]
    elif array.shape[1:] == tensor.shape:
        pass
    elif tensor.shape[:1] == (1,) and array.shape[1:] == tensor.shape[1:]:
        array = array[:, np.newaxis]
    else:
        return None
    if array.dtype.kind == "f" and tensor.dtype.numpy.kind in "iu" and tensor.grid is not None:
        if not np.isfinite(array).all():
            raise OptionError(
                f"What is fed to {tensor.name} has NaN or infinities, which no integer is."
            )
        steps = np.round(array.astype(np.float64) / tensor.scale) + tensor.zero_point
        array = np.clip(steps, *_limits(tensor)).astype(tensor.dtype.numpy)
    elif array.dtype.kind == "f" == tensor.dtype.numpy.kind:
        array = array.astype(tensor.dtype.numpy)
    return list(array) if array.dtype == tensor.dtype.numpy else None


def _wanted(held: dict[str, Array], tensor: Tensor) -> str:
    there = ", ".join(f"{name} {a.dtype}{list(a.shape)}" for name, a in held.items())
    return f"It takes {tensor.dtype.numpy}{list(tensor.shape)}; there is {there or 'nothing'}."
