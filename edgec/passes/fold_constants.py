"""Compute once what does not depend on the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic, InternalError, ModelError
from edgec.evaluate import Evaluator
from edgec.frontend.branches import take_branch
from edgec.frontend.typing import retyped
from edgec.ir import (
    UNKNOWN,
    Array,
    Builder,
    ContainerType,
    Graph,
    Node,
    Op,
    TensorType,
    Value,
)
from edgec.ops import Dequantize, EyeLike, Opaque, Reshape, Softmax, dequantize_array
from edgec.ops.broadcast import broadcast
from edgec.passes.base import Exact, Pass, Promise
from edgec.passes.determinism import is_function
from edgec.passes.layers import weight_values
from edgec.passes.shape_values import Lengths, lengths, reshape

__all__ = ["FoldConstants"]

_ONES_MOST = 1 << 16


@dataclass(frozen=True, slots=True)
class FoldConstants(Pass):
    """Replace what depends on constants only by its value.

    So are `Shape`, `Size` and `EyeLike`, by what the shape yields, and `Softmax` of one
    class, by ones. An `If` whose condition is known becomes the branch that is taken.

    What is thus known of axes, pads and target shapes lets opaque operators become typed ones,
    and so does a number that is stored as an integer, such as what is padded with.
    Repeated until nothing changes: a shape that becomes known may be the start of a new chain.

    A node is kept where its result is larger than all its operands together and larger than
    `growth_bytes`, so that an `Expand` does not blow up the file. Weights are exempt, however
    they are computed: no target has a layer whose weights come from elsewhere. Weights that
    are stored as integers and only widened in the graph are not exempt, and dequantized ones
    are kept whatever their size: runtimes unpack both when they load the file.
    Random operators are kept too.

    Exact: ONNX Runtime computes the constants as it would at run time.

    Raises
    ------
    ModelError
        If what becomes known does not fit: shapes that were computed for another input.
    """

    name: ClassVar[str] = "fold-constants"
    promise: ClassVar[Promise] = Exact()
    growth_bytes: int = 1 << 20

    @override
    def run(self, graph: Graph) -> Graph:
        while True:
            after = self._once(graph)
            if after is graph:
                return graph
            graph = after

    def _once(self, graph: Graph) -> Graph:
        vectors = lengths(graph)
        known = self._computed(graph, vectors)
        b = Builder(graph)
        try:
            for node in graph.nodes:
                arrays = [known.get(v.name) for v in node.outputs]
                if all(a is not None for a in arrays):
                    self._replace(b, node, [a for a in arrays if a is not None])
                elif not _settled(b, node, vectors):
                    b.copy(node)
        except InternalError as error:  # nothing else was changed: it is the model's own fault
            raise ModelError(
                "the model does not fit together once its shapes are known", error.diagnostics
            ) from error
        return b.finish()

    def _replace(self, b: Builder, node: Node, arrays: list[Array]) -> None:
        for value, array in zip(node.outputs, arrays, strict=True):
            if value in b.source.outputs:  # an output keeps its name, so a node must make it
                b.copy(node)
                return
            b.replace(value, b.constant(array, near=value.name))

    def _computed(self, graph: Graph, vectors: Mapping[str, Lengths]) -> dict[str, Array]:
        """Return the values of nodes that depend on constants only."""
        found: dict[str, Array] = {}
        foldable: dict[str, Node] = {}
        weights = weight_values(graph)
        for node in graph.nodes:
            if (array := _known_from_types(node, vectors)) is not None:
                found[node.output.name] = array
            elif _is_constant(graph, node, foldable, found) and (
                self._is_small(node) or (weights.issuperset(node.outputs) and not _widens(node))
            ):
                foldable.update({v.name: node for v in node.outputs})
        if foldable:
            results = _evaluated(graph, foldable, found)
            names = {v.name for v in weights}
            found |= {
                name: array
                for name, array in results.items()
                if name in names or array.nbytes <= self._limit(foldable[name])
            }
        return found

    def _is_small(self, node: Node) -> bool:
        """Whether the results of a node are no larger than they may be, as far as is known."""
        outputs = [v.type for v in node.outputs]
        if not all(t.is_static for t in outputs):
            return True  # judged once they are computed
        return sum(t.size_bytes for t in outputs) <= self._limit(node)

    def _limit(self, node: Node) -> int:
        fed = sum(v.type.size_bytes for v in node.reads if v.type.is_static)
        return max(fed, self.growth_bytes)


def _is_constant(
    graph: Graph, node: Node, foldable: dict[str, Node], found: dict[str, Array]
) -> bool:
    """Whether a node depends on constants only, and always computes the same."""
    if _dequantizes(node.op) or not is_function(node.op):
        return False
    known = (graph.constants.keys(), foldable.keys(), found.keys())
    return all(any(v.name in names for names in known) for v in node.reads)


def _dequantizes(op: Op) -> bool:
    kept = isinstance(op, Opaque) and op.op_type == "DequantizeLinear"
    return kept or isinstance(op, Dequantize)


def _widens(node: Node) -> bool:
    """Whether a node makes floats of as many integers, as weights that are stored small do."""
    floats = [v.type for v in node.outputs if v.type.dtype.is_float and v.type.is_static]
    least = min((t.size for t in floats), default=0)
    read = [v.type for v in node.reads if v.type.is_static and not v.type.dtype.is_float]
    return any(t.size >= max(least, 2) for t in read) if floats else False


def _evaluated(
    graph: Graph, foldable: dict[str, Node], found: dict[str, Array]
) -> dict[str, Array]:
    """Compute the frontier of the foldable part: what nodes outside of it read."""
    nodes = tuple(n for n in graph.nodes if n.outputs[0].name in foldable)
    inside = {v.name for n in nodes for v in n.outputs}
    read = {v for n in graph.nodes if n.outputs[0].name not in foldable for v in n.reads}
    read.update(graph.outputs)
    wanted = [
        v
        for n in nodes
        if not read.isdisjoint(n.outputs)
        for v in n.outputs
        if not isinstance(v.type, ContainerType)
    ]
    if not wanted:
        return {}
    needed = {v.name for n in nodes for v in n.reads} - inside
    fed = tuple(Value(name, _type_of(graph, name)) for name in sorted(needed & found.keys()))
    constants = {k: c for k, c in graph.constants.items() if k in needed}
    part = Graph("constants", fed, tuple(wanted), nodes, MappingProxyType(constants))
    return _results(part, {v.name: found[v.name] for v in fed})


def _results(part: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """Compute the outputs of a graph, leaving out those that ONNX Runtime has no kernels for.

    A model may hold operators that are newer than the runtime: they stay, and what reads them.
    """
    try:
        return Evaluator(part).run(feeds)
    except (InternalError, ModelError):
        if len(part.outputs) == 1:
            return {}
    found: dict[str, Array] = {}
    for output in part.outputs:
        b = Builder(replace(part, outputs=(output,)))
        for node in part.nodes:
            b.copy(node)
        found |= _results(b.finish(), feeds)
    return found


def _settled(b: Builder, node: Node, known: Mapping[str, Lengths]) -> bool:
    """Put in place of an untyped node what it turns out to be, if that is known by now."""
    try:
        return take_branch(b, node) or _retype(b, node, known)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        problem = Diagnostic(f"{node.op}: {error}", node.layer)
        raise ModelError(
            "the model has a node that makes no sense once its operands are known", (problem,)
        ) from error


def _retype(b: Builder, node: Node, known: Mapping[str, Lengths]) -> bool:
    if not isinstance(node.op, Opaque):
        return False
    inputs = tuple(map(b.now, node.inputs))
    read = b.source.users.keys() | set(b.source.outputs)
    count = max((i + 1 for i, v in enumerate(node.outputs) if v in read), default=0)
    types, arrays = [v.type for v in inputs], [_known(b, v) for v in inputs]
    op = retyped(node.op, types, arrays, count) or _reshape(node, known)
    if op is None:
        op = _expand(node, types, known)
    if op is None:
        return False
    kept = list(inputs[: type(op).operands])
    while kept and kept[-1].is_absent:
        kept.pop()
    for found, declared in zip(b.add(op, *kept, like=node), node.outputs, strict=False):
        _check_declared(found.type, declared)
    return True


def _known(b: Builder, value: Value) -> Array | None:
    """Return the array of a constant, or the number that one is dequantized to."""
    node, array = b.producer(value), b.array(value)
    if array is not None or node is None or not isinstance(node.op, Dequantize):
        return array
    stored = b.array(node.inputs[0])
    one = stored is not None and stored.size == 1
    return dequantize_array(stored, node.op.params) if stored is not None and one else None


def _check_declared(found: TensorType, declared: Value) -> None:
    """Raise if what a value turns out to be is not what the model says of it."""
    told, dims = declared.type.dims, found.dims
    if told is None or dims is None:
        return
    known = [(a, b) for a, b in zip(told, dims, strict=False) if isinstance(a, int)]
    if len(told) != len(dims) or any(isinstance(b, int) and a != b for a, b in known):
        raise ValueError(f"{declared} is {found}, but the model says {declared.type}")


def _reshape(node: Node, known: Mapping[str, Lengths]) -> Reshape | None:
    """Return a ``Reshape`` to a computed shape of which all but one length are known."""
    op = node.op
    if not isinstance(op, Opaque) or (op.domain, op.op_type) != ("", "Reshape"):
        return None
    target = known.get(node.inputs[1].name)
    plain = not any(a.name == "allowzero" and a.i for a in op.node_proto().attribute)
    return reshape(node.inputs[0].type, target) if target is not None and plain else None


def _expand(
    node: Node, types: Sequence[TensorType], known: Mapping[str, Lengths]
) -> Opaque | None:
    """Return an ``Expand`` to a computed shape that knows more of it."""
    op, x = node.op, types[0].dims if types else None
    if not isinstance(op, Opaque) or (op.domain, op.op_type) != ("", "Expand") or x is None:
        return None
    target = known.get(node.inputs[1].name)
    if target is None or UNKNOWN not in (node.output.type.dims or (UNKNOWN,)):
        return None
    better = replace(op, declared=(types[0].with_shape(broadcast(x, target)),))
    return better if better.infer_node(types, [None, None]) != (node.output.type,) else None


def _type_of(graph: Graph, name: str) -> TensorType:
    return next(v.type for n in graph.nodes for v in n.outputs if v.name == name)


def _known_from_types(node: Node, vectors: Mapping[str, Lengths]) -> Array | None:
    """Return the result of a node that shapes alone decide, if they do.

    A vector made of lengths; an `EyeLike`; a `Softmax` of one class, which is 1.
    """
    elements = vectors.get(node.outputs[0].name)
    if elements is not None and not any(isinstance(d, str) for d in elements):
        t = node.output.type
        return np.array(elements, t.dtype.numpy).reshape(t.ints)
    if not isinstance(node.op, EyeLike | Softmax):
        return None
    x = node.inputs[0].type
    if not x.is_static or x.size > _ONES_MOST:
        return None
    if isinstance(node.op, EyeLike):
        return node.op.array(x)
    return np.ones(x.ints, x.dtype.numpy) if x.ints[node.op.axis] == 1 else None
