"""Patterns: several nodes that exporters write for one operator.

A rule is a function of a :class:`Reader` and a node. It reads backwards from the node, by the
arithmetic that the nodes do rather than by their order, and returns the :class:`Call` that
computes the same, or ``None``. :func:`recognize` applies rules to a graph.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgec.ir import Array, Builder, DType, Graph, Node, Op, TensorType, Value
from edgec.ops import Activation, Opaque, Reduction

__all__ = [
    "Affine",
    "Call",
    "Polynomial",
    "Reader",
    "Rule",
    "Statistic",
    "kind",
    "near",
    "recognize",
    "same",
    "short",
]

Polynomial = dict[tuple[int, ...], float]
"""The factor of each product of powers: ``{(1, 0): 2.0}`` is ``2 * a`` of atoms ``(a, b)``."""

_REAL = (DType.FLOAT32, DType.FLOAT64)
_DEEPEST = 16  # no exporter nests arithmetic further
_HIGHEST = 6  # nor raises it to higher powers


class Affine(NamedTuple):
    """``scale * value + offset``."""

    scale: float
    value: Value
    offset: float


class Statistic(NamedTuple):
    """A reduction of `source` along `axes` to numbers that broadcast with it."""

    kind: str
    source: Value
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """An operator applied to values of the graph, to new constants or to results of calls."""

    op: Op
    operands: tuple[Value | Array | Call, ...]

    @classmethod
    def of(cls, op: Op, *operands: Value | Array | Call) -> Call:
        """Return the application of `op` to these operands."""
        return cls(op, operands)

    def leaves(self) -> Iterator[Value]:
        """The values of the graph that it reads."""
        for operand in self.operands:
            if isinstance(operand, Call):
                yield from operand.leaves()
            elif isinstance(operand, Value):
                yield operand


def near(a: float, b: float) -> bool:
    """Whether two constants are the same number to an exporter that rounds to float32."""
    return bool(abs(a - b) <= 1e-6 * max(abs(a), abs(b)))


def same(found: Polynomial | None, wanted: Polynomial) -> bool:
    """Whether a polynomial has the factors wanted, and no others."""
    if found is None:
        return False
    limit = 1e-6 * max(map(abs, wanted.values()))
    extra = all(abs(c) <= limit for powers, c in found.items() if powers not in wanted)
    return extra and all(near(found.get(powers, 0.0), c) for powers, c in wanted.items())


def short(number: float) -> float:
    """Return the shortest number that is the same in float32."""
    return float(str(np.float32(number)))


class Reader:
    """Answers what rules ask about a graph.

    Only single values of float32 or float64 take part in patterns: half precision rounds
    between the nodes in a way that one operator does not.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.reads = Counter(v for node in graph.nodes for v in node.inputs)
        self.reads.update(graph.outputs)
        self._position = {node.outputs[0]: at for at, node in enumerate(graph.nodes)}

    def made_by(self, value: Value, *kinds: str) -> Node | None:
        """Return the node that makes `value`, if it is of one of these ONNX names."""
        node = self.graph.producers.get(value)
        return node if node is not None and kind(node) in kinds else None

    def operand(self, value: Value, name: str) -> Value | None:
        """Return what an operator with one operand makes `value` from."""
        node = self.made_by(value, name)
        return None if node is None else node.inputs[0]

    def number(self, value: Value) -> float | None:
        """Return the number that all elements of a constant are, or ``None``."""
        array = self.graph.constant(value)
        if array is None or not array.size or array.dtype.hasobject:
            return None
        first = array.reshape(-1)[0]
        return float(first) if array.size == 1 or (array == first).all() else None

    def is_number(self, value: Value, number: float) -> bool:
        """Whether a constant is this number throughout."""
        found = self.number(value)
        return found is not None and near(found, number)

    def sides(self, node: Node) -> Iterator[tuple[Value, Value]]:
        """The operands of a node with two, in both orders."""
        a, b = node.inputs
        yield a, b
        yield b, a

    def affine(self, value: Value) -> Affine:
        """Return `value` as a scaled and shifted value, as far back as only it reads."""
        for found in self.affines(value):
            if found.value != value and self.reads[found.value] > 1:
                break
        return found

    def affines(self, value: Value) -> Iterator[Affine]:
        """Yield `value` as itself, then as scaled and shifted values ever further back."""
        found = Affine(1.0, value, 0.0)
        yield found
        while (step := self._affine_step(found.value)) is not None:
            # value = k * inner + d, so scale * value + offset = scale * k * inner + ...
            scale, _, offset = found
            found = Affine(scale * step.scale, step.value, offset + scale * step.offset)
            yield found

    def _affine_step(self, value: Value) -> Affine | None:
        node = self.made_by(value, "Add", "Sub", "Mul", "Div", "Neg")
        if node is None:
            return None
        if len(node.inputs) == 1:
            return Affine(-1.0, node.inputs[0], 0.0)
        for turned, (inner, other) in enumerate(self.sides(node)):
            c = self.number(other)
            if c is None or inner.type != value.type:
                continue
            match kind(node):
                case "Add":
                    return Affine(1.0, inner, c)
                case "Sub":
                    return Affine(-1.0, inner, c) if turned else Affine(1.0, inner, -c)
                case "Mul":
                    return Affine(c, inner, 0.0)
                case "Div" if not turned and c != 0:
                    return Affine(1 / c, inner, 0.0)
        return None

    def polynomial(self, value: Value, *atoms: Value) -> Polynomial | None:
        """Return `value` as a polynomial of `atoms`, or ``None`` if it is none."""
        units = {
            atom: {tuple(int(i == k) for i in range(len(atoms))): 1.0}
            for k, atom in enumerate(atoms)
        }
        return self._polynomial(value, {**units}, (0,) * len(atoms), _DEEPEST)

    def _polynomial(
        self,
        value: Value,
        known: dict[Value, Polynomial | None],
        zero: tuple[int, ...],
        depth: int,
    ) -> Polynomial | None:
        if value not in known:
            known[value] = None  # for what lies too deep
            number = self.number(value)
            if number is not None:
                known[value] = {zero: number}
            elif depth and (node := self.made_by(value, *_ARITHMETIC)) is not None:
                terms = [self._polynomial(v, known, zero, depth - 1) for v in node.inputs]
                known[value] = _combined(kind(node), terms, zero)
        return known[value]

    def statistic(self, value: Value, outer: Value | None = None) -> Statistic | None:
        """Return what `value` is a mean, sum or maximum of.

        The axes may be dropped and put back, and the value may be expanded. A sum divided by
        the number of its terms is a mean. A maximum is one with the least number as well.

        Parameters
        ----------
        outer
            What is made of `value` by reshapes in the end, and must broadcast with the source.
        """
        outer, scale = outer or value, 1.0
        if (expand := self.made_by(value, "Expand")) is not None:
            value = expand.inputs[0]
        while True:
            node = self.made_by(value, "Reshape", "Max")
            step = self._affine_step(value)
            if node is not None and kind(node) == "Reshape":
                value = node.inputs[0]
            elif node is not None and (least := self._without_least(node)) is not None:
                value = least
            elif step is not None and step.offset == 0:
                scale, value = scale * step.scale, step.value
            else:
                break
        node = self.made_by(value, "ReduceMean", "ReduceSum", "ReduceMax")
        if node is None or not isinstance(node.op, Reduction):
            return None
        source, axes, name = node.inputs[0], node.op.axes, kind(node)
        dims = source.type.shape
        kept = tuple(1 if axis in axes else d for axis, d in enumerate(dims))
        if outer.type.dims not in (dims, kept):
            return None
        if name == "ReduceSum" and not near(scale, 1):
            lengths = [dims[a] for a in axes]
            terms = math.prod(n for n in lengths if isinstance(n, int))
            if any(isinstance(n, str) for n in lengths) or not near(scale * terms, 1):
                return None
            name, scale = "ReduceMean", 1.0
        return Statistic(name, source, axes) if near(scale, 1) else None

    def _without_least(self, node: Node) -> Value | None:
        """Return the other operand of a maximum with minus infinity."""
        for least, value in self.sides(node) if len(node.inputs) == 2 else ():
            number = self.number(least)
            if number is not None and number <= np.finfo(np.float32).min:
                return value
        return None

    def parts(self, value: Value) -> Iterator[Value]:
        """What `value` is made from by arithmetic, itself first; constants are left out."""
        seen: set[Value] = set()
        todo = [value]
        while todo and len(seen) < 2 * _DEEPEST:
            at = todo.pop()
            if at in seen or self.graph.constant(at) is not None:
                continue
            seen.add(at)
            yield at
            if (node := self.made_by(at, *_ARITHMETIC)) is not None:
                todo.extend(node.inputs)

    def inner(self, value: Value, *kinds: str) -> Iterator[Node]:
        """Nodes of these kinds that `value` is made from by arithmetic."""
        nodes = (self.made_by(part, *kinds) for part in self.parts(value))
        return (node for node in nodes if node is not None)

    def region(self, root: Node, call: Call) -> tuple[Node, ...] | None:
        """Return the nodes that `call` replaces, or ``None`` if something else reads them."""
        leaves = set(call.leaves())
        found: dict[Value, Node] = {}
        todo = [root]
        while todo:
            node = todo.pop()
            if node.outputs[0] in found:
                continue
            found[node.outputs[0]] = node
            for value in node.reads:
                if value in leaves or self.graph.constant(value) is not None:
                    continue
                producer = self.graph.producers.get(value)
                if producer is None:
                    return None  # the pattern ignored a graph input
                todo.append(producer)
        inner = [node for node in found.values() if node is not root]
        for value in (v for node in inner for v in node.outputs):
            readers = self.graph.users.get(value, ())
            if value in self.graph.outputs or any(n.outputs[0] not in found for n in readers):
                return None
        return tuple(sorted((*inner, root), key=lambda n: self._position[n.outputs[0]]))


Rule = Callable[[Reader, Node], Call | None]


def recognize(graph: Graph, rules: Sequence[Rule], needs: Sequence[str]) -> Graph:
    """Replace what the rules recognise, the largest patterns first, until nothing is left.

    A pattern is left alone if a value inside of it is read elsewhere or is a graph output, or
    if the result would be of another type.

    Parameters
    ----------
    needs
        ONNX names of which every pattern has at least one.
    """
    while any(kind(node) in needs for node in graph.nodes):
        after = _recognized(graph, rules)
        if after is graph:
            return graph
        graph = after
    return graph


def _recognized(graph: Graph, rules: Sequence[Rule]) -> Graph:
    reader = Reader(graph)
    calls: dict[Value, tuple[Call, tuple[Node, ...]]] = {}
    taken: set[Value] = set()
    for node in reversed(graph.nodes):  # what ends later holds more
        root = node.outputs[0]
        if root in taken or len(node.outputs) != 1 or root.type.dtype not in _REAL:
            continue
        for rule in rules:
            call = rule(reader, node)
            region = None if call is None else reader.region(node, call)
            if call is None or region is None or _type(call) != root.type:
                continue
            calls[root] = call, region
            taken.update(n.outputs[0] for n in region)
            break
    if not calls:
        return graph
    b = Builder(graph)
    for node in graph.nodes:
        if (found := calls.get(node.outputs[0])) is None:
            b.copy(node)
        else:
            _write(b, found[0], node, found[1])
    return b.finish()


def _write(b: Builder, call: Call, root: Node, absorbs: Sequence[Node]) -> None:
    """Add the nodes of a call, in place of `root`."""
    name = root.outputs[0].name
    written: dict[int, Value] = {}

    def operand(of: Value | Array | Call) -> Value:
        if isinstance(of, Value):
            return b.now(of)
        if id(of) not in written:
            if isinstance(of, Call):
                operands = [operand(inner) for inner in of.operands]
                names = [b.fresh(f"{name}.inner")]
                (written[id(of)],) = b.add(of.op, *operands, names=names, absorbs=absorbs)
            else:
                written[id(of)] = b.constant(of, near=f"{name}.constant")
        return written[id(of)]

    b.add(call.op, *map(operand, call.operands), like=root, absorbs=absorbs)


def _type(call: Call) -> TensorType | None:
    """Return the type of a call's result, or ``None`` if its operands do not fit."""
    types: list[TensorType] = []
    for operand in call.operands:
        match operand:
            case Call():
                if (found := _type(operand)) is None:
                    return None
                types.append(found)
            case Value():
                types.append(operand.type)
            case _:
                types.append(TensorType(DType.of(operand.dtype), operand.shape))
    try:
        return call.op.infer(*types)[0]
    except ValueError:
        return None


def kind(node: Node) -> str:
    """Return a node's ONNX name; nothing for one of another domain or with an activation."""
    op = node.op
    if isinstance(op, Opaque):
        return "" if op.domain else op.op_type
    plain = getattr(op, "activation", Activation.NONE) is Activation.NONE
    return op.onnx_name if plain else ""


_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Identity")


def _combined(
    name: str, terms: Sequence[Polynomial | None], zero: tuple[int, ...]
) -> Polynomial | None:
    """Return what an arithmetic operator makes of polynomials, if that is one."""
    if any(t is None for t in terms):
        return None
    a, *rest = (t for t in terms if t is not None)
    b = rest[0] if rest else {}
    number = b.get(zero) if b.keys() == {zero} else None
    match name:
        case "Identity":
            return a
        case "Neg":
            return _scaled(a, -1)
        case "Add":
            return _sum(a, b)
        case "Sub":
            return _sum(a, _scaled(b, -1))
        case "Mul":
            return _product(a, b)
        case "Div" if number:
            return _scaled(a, 1 / number)
        case "Pow" if number in (1, 2, 3, 4):
            power = a
            for _ in range(int(number) - 1):
                power = _product(power, a) or {}
            return power or None
    return None


def _scaled(a: Polynomial, factor: float) -> Polynomial:
    return {powers: factor * c for powers, c in a.items()}


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    return {powers: a.get(powers, 0.0) + b.get(powers, 0.0) for powers in {**a, **b}}


def _product(a: Polynomial, b: Polynomial) -> Polynomial | None:
    total: Polynomial = {}
    for p, c in a.items():
        for q, d in b.items():
            powers = tuple(i + j for i, j in zip(p, q, strict=True))
            if sum(powers) > _HIGHEST:
                return None
            total[powers] = total.get(powers, 0.0) + c * d
    return total
