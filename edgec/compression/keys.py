"""Names for what measurements depend on, in the cache."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TypeGuard

import numpy as np

from edgec import __version__
from edgec.ir import Array, Graph
from edgec.ops import Opaque

__all__ = ["key_of", "lists", "numbers"]


def key_of(graph: Graph, samples: Sequence[Mapping[str, Array]], options: str) -> str:
    """Return a name for measurements of a graph on samples, and for what else they depend on.

    Parameters
    ----------
    options
        Begins with what is measured, in one word.
    """
    digest = hashlib.sha256()

    def add(array: Array) -> None:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())

    versions = f"{__version__} {metadata.version('onnxruntime')} {np.__version__}"
    digest.update(f"{versions} {options}\n{graph}\n".encode())
    for node in graph.nodes:
        if isinstance(node.op, Opaque):  # its text has no attributes and no subgraphs
            digest.update(node.op.proto)
    for name, constant in sorted(graph.constants.items()):
        digest.update(name.encode())
        add(constant.array)
    for feed in samples:
        for name, array in sorted(feed.items()):
            digest.update(name.encode())
            add(np.asarray(array))
    return f"{options.split()[0]}-{digest.hexdigest()[:32]}"


def numbers(found: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers that a file of the cache holds, as far as they make sense."""
    return {name: float(v) for name, v in found.items() if _is_loss(v)}


def lists(found: Mapping[str, object]) -> dict[str, list[float]]:
    """Return the lists of numbers that a file of the cache holds, likewise."""
    return {
        name: [float(v) for v in value]
        for name, value in found.items()
        if isinstance(value, list) and all(map(_is_loss, value))
    }


def _is_loss(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0
