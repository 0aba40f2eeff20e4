"""The graph: an immutable list of nodes in static single assignment form."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from edgec.ir.op import Array, Op, Role
from edgec.ir.types import DType, TensorType

__all__ = ["ABSENT", "Constant", "Graph", "Node", "Value"]


@dataclass(frozen=True, slots=True)
class Value:
    """A name bound once, with its type."""

    name: str
    type: TensorType

    def __hash__(self) -> int:
        return hash(self.name)  # names are bound once, and hashing types takes long

    @property
    def is_absent(self) -> bool:
        """Whether this stands for an optional operand that is not given."""
        return not self.name

    def __str__(self) -> str:
        if self.is_absent:
            return "absent"
        plain = re.fullmatch(r"[\w.:/-]+", self.name)
        return f"%{self.name}" if plain else f'%"{self.name}"'


ABSENT = Value("", TensorType(DType.UNDEFINED, None))
"""Stands where an optional operand in the middle of a list is not given."""


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A read-only array, equal to another if type and bytes are.

    The array is shared, not copied: it may be a view of the model file.
    """

    array: Array

    def __post_init__(self) -> None:
        view = self.array.view()
        view.flags.writeable = False
        object.__setattr__(self, "array", view)

    @property
    def type(self) -> TensorType:
        """Element type and shape of the array."""
        return TensorType(DType.of(self.array.dtype), self.array.shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        a, b = self.array, other.array
        if a is b:
            return True
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype.hasobject:
            return bool(np.array_equal(a, b))
        return _same_bytes(a, b)

    def __hash__(self) -> int:
        return hash((self.array.dtype.str, self.array.shape))

    def tobytes(self) -> bytes:
        """Return the elements in row-major order."""
        if self.array.dtype.hasobject:
            return "\0".join(map(str, self.array.ravel())).encode()
        return self.array.tobytes()


def _same_bytes(a: Array, b: Array) -> bool:
    """Compare two arrays of one type and shape bit by bit, without a copy of either."""
    left, right = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    starts = range(0, len(left), _CHUNK_BYTES)
    return all(
        np.array_equal(left[s : s + _CHUNK_BYTES], right[s : s + _CHUNK_BYTES]) for s in starts
    )


_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an operator.

    Parameters
    ----------
    inputs
        Operands by position; `ABSENT` where an optional one is not given.
    origin
        Names of the nodes of the input model it stands for, so that profiles and
        diagnostics can speak of layers the user knows.
    """

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    origin: tuple[str, ...] = ()

    @property
    def output(self) -> Value:
        """The only output; raise ``ValueError`` if there are several."""
        (value,) = self.outputs
        return value

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, which identify a node within its graph."""
        return tuple(v.name for v in self.outputs)

    @property
    def reads(self) -> tuple[Value, ...]:
        """The operands that are given."""
        return tuple(v for v in self.inputs if v.name)

    @property
    def data(self) -> tuple[Value, ...]:
        """The operands that are given and hold numbers, not positions or conditions."""
        rule = self.op.quant_rule()
        indices = {i for i in range(len(self.inputs)) if rule and rule.role(i) is Role.INDEX}
        return tuple(v for i, v in enumerate(self.inputs) if v.name and i not in indices)

    @property
    def layer(self) -> str:
        """The name of this node in the user's model, for messages."""
        return " + ".join(self.origin) if self.origin else self.outputs[0].name

    def __str__(self) -> str:
        outs = ", ".join(f"{v}: {v.type}" for v in self.outputs)
        return f"{outs} = {self.op}({', '.join(map(str, self.inputs))})"


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, and the constants they read.

    Nothing in a graph can change, so the lookups below are computed once and never stale.
    Make one from another with :class:`edgec.ir.builder.Builder`.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def producers(self) -> Mapping[Value, Node]:
        """The node that defines each value; inputs and constants have none."""
        return {out: node for node in self.nodes for out in node.outputs}

    @cached_property
    def users(self) -> Mapping[Value, tuple[Node, ...]]:
        """The nodes that read each value, in order; values that nothing reads are missing."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.reads):
                found.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in found.items()}

    def is_only_read_by(self, value: Value, node: Node) -> bool:
        """Whether `node` is the one reader of `value`, which is no graph output."""
        return self.users.get(value, ()) == (node,) and value not in self.outputs

    def constant(self, value: Value) -> Array | None:
        """The array of a constant value, or ``None`` if it is computed."""
        found = self.constants.get(value.name)
        return None if found is None else found.array

    def values(self) -> Iterator[Value]:
        """Every value once: inputs, constants, then node outputs."""
        yield from self.inputs
        for name, const in self.constants.items():
            yield Value(name, const.type)
        for node in self.nodes:
            yield from node.outputs

    @cached_property
    def digest(self) -> str:
        """SHA-256 of structure and constants, in hexadecimal."""
        total = hashlib.sha256(str(self).encode())
        for name, const in self.constants.items():
            total.update(name.encode())
            total.update(const.tobytes())
        return total.hexdigest()

    def __str__(self) -> str:
        head = ", ".join(f"{v}: {v.type}" for v in self.inputs)
        lines = [f"graph {self.name}({head}) {{"]
        lines += [f"  {Value(k, c.type)}: {c.type} = const" for k, c in self.constants.items()]
        lines += [f"  {node}" for node in self.nodes]
        lines.append(f"  return {', '.join(map(str, self.outputs))}")
        return "\n".join([*lines, "}"])
