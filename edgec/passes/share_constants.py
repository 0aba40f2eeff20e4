"""Hold once what is held twice."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, Constant, Graph, Value
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["ShareConstants"]

_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class ShareConstants(Pass):
    """Let constants of the same type and bytes be one.

    The first of them stays; every node reads that one. Weights are compared where they lie,
    in a model file as the case may be: first a few elements, then, where these agree, all.

    A constant that is an output of the graph keeps its own name and its own bytes.
    Exact: no number is touched.
    """

    name: ClassVar[str] = "share-constants"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        same = _same(graph)
        if not same:
            return graph
        b = Builder(graph)
        for old, new in same.items():
            b.replace(old, new)
        for node in graph.nodes:
            b.copy(node)
        return b.finish()


def _same(graph: Graph) -> dict[Value, Value]:
    """Return which constant each superfluous one is equal to."""
    outputs = {v.name for v in graph.outputs}
    alike: dict[object, list[str]] = defaultdict(list)
    for name, const in graph.constants.items():
        if name not in outputs:
            alike[const.type].append(name)
    found: dict[Value, Value] = {}
    for names in alike.values():
        if len(names) == 1:
            continue
        kept: dict[bytes, list[str]] = defaultdict(list)
        for name in names:
            const = graph.constants[name]
            candidates = kept[_glance(const.array)]
            first = next((k for k in candidates if graph.constants[k] == const), None)
            if first is None:
                candidates.append(name)
            else:
                found[_value(name, const)] = _value(first, const)
    return found


def _glance(array: Array) -> bytes:
    """Return the bytes of a few elements spread over the array."""
    if array.dtype.hasobject:
        return b""
    chosen = array.flat[np.arange(0, array.size, max(1, array.size // _SAMPLES))]
    return bytes(chosen.tobytes())


def _value(name: str, const: Constant) -> Value:
    return Value(name, const.type)
