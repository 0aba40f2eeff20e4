"""Determinants of small matrices as sums of products."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Builder, Graph, Node
from edgec.ops import Det, Gather, Mul, ReduceSum, Reshape
from edgec.passes.base import Pass, Promise, Within

__all__ = ["DecomposeDeterminants"]


@dataclass(frozen=True, slots=True)
class DecomposeDeterminants(Pass):
    """Write `Det` as the signed sum over all ways to take one element of each row and column.

    For matrices of up to `size` rows, of known shape: the sum has as many terms as the
    factorial of that. Within rounding, which is relative to the largest of the terms.
    """

    name: ClassVar[str] = "decompose-determinants"
    promise: ClassVar[Promise] = Within(1e-4)
    size: int = 4

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not (isinstance(node.op, Det) and self._decompose(b, node)):
                b.copy(node)
        return b.finish()

    def _decompose(self, b: Builder, node: Node) -> bool:
        x = b.now(node.inputs[0])
        if not x.type.is_static or not 1 <= x.type.ints[-1] <= self.size:
            return False
        *outer, n, _ = x.type.ints
        ways = np.array(list(permutations(range(n))))
        swaps = [sum(a > z for a, z in combinations(way, 2)) for way in ways.tolist()]
        signs = np.where(np.array(swaps) % 2, -1, 1).astype(x.type.dtype.numpy)
        flat = b.step(Reshape((*outer, n * n)), x, of=node)
        total = b.constant(signs, near=f"{node.output.name}.signs")
        for row in range(n):
            places = b.constant(ways[:, row] + row * n, near=f"{node.output.name}.places")
            factors = b.step(Gather(len(outer)), flat, places, of=node)
            total = b.step(Mul(), factors, total, of=node)
        b.add(ReduceSum((len(outer),), keepdims=False), total, like=node)
        return True
