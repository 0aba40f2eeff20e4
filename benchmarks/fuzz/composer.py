"""A graph in the making, of which every value is computed as soon as it is added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgec.errors import EdgecError
from edgec.evaluate import evaluate
from edgec.ir import (
    ABSENT,
    Array,
    Builder,
    Constant,
    DType,
    Graph,
    Node,
    Op,
    TensorType,
    Value,
)
from edgec.ops import (
    Cast,
    DeformConv,
    GridSample,
    IsInf,
    IsNaN,
    NonMaxSuppression,
    OneHot,
    Resize,
)
from edgec.ops.logic import Comparison
from edgec.ops.recurrent import Recurrent

__all__ = ["Case", "Composer", "Known", "array_type"]

_LARGEST = 1e5
"""Beyond this, numbers soon overflow, and nothing can be said of what comes after."""


@dataclass(frozen=True, slots=True)
class Known:
    """A value and the array it holds for the inputs of the case."""

    value: Value
    array: Array

    @property
    def type(self) -> TensorType:
        """The type of the value, which may know less than its array."""
        return self.value.type


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """A graph and what to feed.

    Parameters
    ----------
    wrong
        What was already found wrong while the graph was made; empty if nothing.
    """

    graph: Graph
    feeds: dict[str, Array]
    wrong: str = ""

    def __repr__(self) -> str:
        return str(self.graph)

    @property
    def operators(self) -> set[type[Op]]:
        """The classes of the operators in the graph."""
        return {type(node.op) for node in self.graph.nodes}


class Composer:
    """Adds nodes that ONNX Runtime takes, and only those."""

    def __init__(self) -> None:
        self.known: list[Known] = []
        self.nodes: list[Node] = []
        self.wrong = ""
        self._inputs: list[Value] = []
        self._feeds: dict[str, Array] = {}
        self._constants: dict[str, Constant] = {}
        self._last: list[Known] = []

    def given(self, array: Array, *, constant: bool) -> Known:
        """Add a graph input or a constant."""
        if constant:
            name = f"c{len(self._constants)}"
            self._constants[name] = Constant(array)
            return Known(Value(name, array_type(array)), array)
        value = Value(f"x{len(self._inputs)}", array_type(array))
        self._inputs.append(value)
        self._feeds[value.name] = array
        self.known.append(Known(value, array))
        return self.known[-1]

    def add(
        self, op: Op, *operands: Known | None, wild: bool = False
    ) -> tuple[Known, ...] | None:
        """Add a node, or return ``None`` where it does not fit or its result is not tame.

        Parameters
        ----------
        wild
            Whether infinities and large numbers may come out.
        """
        inputs = tuple(ABSENT if k is None else k.value for k in operands)
        arrays = [
            None if k is None or k.value.name not in self._constants else k.array
            for k in operands
        ]
        try:
            types = op.infer_node([v.type for v in inputs], arrays)
        except ValueError:
            return None
        if _departs(op, [k.array for k in operands if k is not None]):
            return None
        number = len(self.nodes)
        names = [f"v{number}", *(f"v{number}.{i}" for i in range(1, len(types)))]
        outputs = tuple(Value(name, t) for name, t in zip(names, types, strict=True))
        node = Node(op, inputs, outputs, (f"{type(op).__name__}_{number}",))
        results = self._run(node, [k for k in operands if k is not None])
        if results is None or not (wild or all(map(_tame, results))):
            return None
        for value, array in zip(outputs, results, strict=True):
            if not array_type(array).refines(value.type):
                self.wrong = f"{node} computes {array_type(array)}"
        self.nodes.append(node)
        made = tuple(Known(v, a) for v, a in zip(outputs, results, strict=True))
        self.known.extend(made)
        self._last.extend(made)
        return made

    def _run(self, node: Node, operands: Sequence[Known]) -> list[Array] | None:
        fixed = {k.value.name: self._constants[k.value.name] for k in operands
                 if k.value.name in self._constants}  # fmt: skip
        fed = {k.value: k.array for k in operands if k.value.name not in fixed}
        graph = Graph("step", tuple(fed), node.outputs, (node,), MappingProxyType(fixed))
        try:
            found = evaluate(graph, {v.name: a for v, a in fed.items()})
        except EdgecError:
            return None
        return [found[v.name] for v in node.outputs]

    def case(self, more: Sequence[Known]) -> Case:
        """Return the graph of all that nothing reads, and of `more`."""
        read = {v.name for node in self.nodes for v in node.reads}
        unread = [k.value for k in self._last if k.value.name not in read]
        computed = {k.value for k in self._last}
        chosen = dict.fromkeys([*unread, *(k.value for k in more if k.value in computed)])
        whole = Graph(
            "fuzz",
            tuple(self._inputs),
            tuple(chosen),
            tuple(self.nodes),
            MappingProxyType(self._constants),
        )
        b = Builder(whole)
        for node in whole.nodes:
            b.copy(node)
        graph = b.finish()
        used = {v.name for node in graph.nodes for v in node.reads}
        inputs = tuple(v for v in graph.inputs if v.name in used)
        graph = Graph(graph.name, inputs, graph.outputs, graph.nodes, graph.constants)
        return Case(graph, {v.name: self._feeds[v.name] for v in inputs}, self.wrong)


def array_type(array: Array) -> TensorType:
    """Return the type of an array."""
    return TensorType(DType.of(array.dtype), array.shape)


_OF_NAN = (IsNaN, IsInf, Comparison)
"""Operators of which the standard says what they make of what is no number."""
_OF_FINITE = (DeformConv, GridSample, NonMaxSuppression, Recurrent, Resize)
"""Operators whose kernels pass over infinities where their formula multiplies them by zero."""


def _departs(op: Op, arrays: Sequence[Array]) -> bool:
    """Whether the standard says nothing of an operator on these, or not what a runtime says."""
    reals = [a for a in arrays if a.dtype.kind == "f"]
    if not isinstance(op, _OF_NAN) and any(np.isnan(a).any() for a in reals):
        # The standard's own maximum is no number then; in runtimes it depends on the place.
        return True
    if isinstance(op, _OF_FINITE) and not all(np.isfinite(a).all() for a in reals):
        return True
    if not reals or arrays[0].dtype.kind != "f":
        return False
    x = arrays[0]
    if isinstance(op, OneHot):
        # The standard casts fractions to integers; for ONNX Runtime they are no index at all.
        return bool((x != np.trunc(x)).any())
    if isinstance(op, Cast) and op.to.numpy.kind in "iu":
        limits = np.iinfo(op.to.numpy)  # type: ignore[type-var]
        return not bool(((np.trunc(x) >= limits.min) & (np.trunc(x) <= limits.max)).all())
    return False


def _tame(array: Array) -> bool:
    if array.dtype.kind not in "fiu" or not array.size:
        return True
    with np.errstate(all="ignore"):
        return bool(np.abs(array.astype(np.float64)).max() <= _LARGEST)
