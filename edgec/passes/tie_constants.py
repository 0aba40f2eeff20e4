"""Hold once what is held twice but for rounding."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, Constant, DType, Graph, Value
from edgec.numerics import sqnr
from edgec.passes.base import LayerRecord, Pass, Promise, Within

__all__ = ["TieConstants"]

_LEAST = 64
_GLANCE = 64


@dataclass(frozen=True, slots=True)
class TieConstants(Pass):
    """Let float weights of one shape be one where they differ by rounding only.

    Such pairs come from exporters that fold the same numbers twice, each in its own order. The
    first of them stays. Compared are constants of 64 and more elements: all must agree up to
    `tolerance` of the largest. What agrees to the bit is for :class:`ShareConstants`.

    Within rounding: of the results no more changes than other orders of sums change. On record
    is a line for each constant that is gone, with the ratio of its energy to the difference.

    Parameters
    ----------
    tolerance
        Largest difference, relative to the largest element.
    """

    name: ClassVar[str] = "tie-constants"
    promise: ClassVar[Promise] = Within(1e-4)
    tolerance: float = 1e-6

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        near = self._near(graph)
        if not near:
            return graph, ()
        b = Builder(graph)
        for gone, kept in near.items():
            b.replace(_value(graph, gone), _value(graph, kept))
        for node in graph.nodes:
            b.copy(node)
        records = tuple(_record(graph, gone, kept) for gone, kept in near.items())
        return b.finish(), records

    def _near(self, graph: Graph) -> dict[str, str]:
        """Return which constant stands for each that is superfluous."""
        outputs = {v.name for v in graph.outputs}
        alike: dict[object, list[str]] = defaultdict(list)
        for name, const in graph.constants.items():
            large = const.array.size >= _LEAST and const.type.dtype is DType.FLOAT32
            if large and name not in outputs:
                alike[const.type].append(name)
        found: dict[str, str] = {}
        for names in alike.values():
            kept: list[str] = []
            for name in names:
                array = graph.constants[name].array
                first = (k for k in kept if self._agree(graph.constants[k].array, array))
                match = next(first, None)
                if match is None:
                    kept.append(name)
                else:
                    found[name] = match
        return found

    def _agree(self, first: Array, second: Array) -> bool:
        step = max(1, first.size // _GLANCE)
        a, b = first.reshape(-1)[::step], second.reshape(-1)[::step]
        # An element is no larger than the largest, so that none far apart is let through.
        if np.abs(a - b).max() > self.tolerance * np.abs(first).max():
            return False
        return bool(np.abs(first - second).max() <= self.tolerance * np.abs(first).max())


def _value(graph: Graph, name: str) -> Value:
    const: Constant = graph.constants[name]
    return Value(name, const.type)


def _record(graph: Graph, gone: str, kept: str) -> LayerRecord:
    old, new = (graph.constants[n].array.astype(np.float64) for n in (gone, kept))
    ratio = sqnr(float((old**2).sum()), float(((old - new) ** 2).sum()))
    readers = {name: [n.layer for n in graph.nodes if any(v.name == name for v in n.reads)]
               for name in (gone, kept)}  # fmt: skip
    layer, other = (", ".join(readers[name]) or name for name in (gone, kept))
    return LayerRecord(layer, 200.0, ratio, f"tied to {other}")
