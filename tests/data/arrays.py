"""Inputs, arrays for them, and what is read of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgec.data import Array, InputSpec, Samples, open_samples
from edgec.errors import DataError

__all__ = ["BATCHED", "F32", "FIXED", "X", "feeds_of", "ramp", "read_all", "refusal"]

F32 = np.dtype(np.float32)
X = InputSpec("x", F32, (1, 2, 3), has_batch=True)
FIXED = InputSpec("x", F32, (2, 3), has_batch=False)
BATCHED = InputSpec("x", F32, (4, 2), has_batch=True)


def ramp(*shape: int, dtype: Any = np.float32) -> Array:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def feeds_of(samples: Samples, name: str = "x") -> list[Array]:
    return [feed[name] for feed in samples.feeds(range(samples.count))]


def read_all(source: Any, specs: Sequence[InputSpec], **options: Any) -> None:
    samples = open_samples(source, specs, **options)
    for _ in samples.feeds(range(samples.count)):
        pass


def refusal(source: Any, *specs: InputSpec, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_all(source, specs or (X,), **options)
    return str(caught.value)
