"""What an ONNX or TFLite file is made of, and how two of them differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgec.cost import cost, node_macs
from edgec.frontend.onnx import load
from edgec.ir import Array, Dim, Graph, Node, TensorType
from edgec.ops import Opaque

__all__ = ["Structure", "Unit", "compared", "structure_of"]

_READABLE = re.compile(r"(?![0-9a-f]{64}$).{1,200}$")


@dataclass(frozen=True, slots=True)
class Unit:
    """One operator of a file.

    Parameters
    ----------
    name
        The user's layer, or the name of the first output.
    operator
        Its name in the file's own standard.
    attributes
        What else tells it from others, as text: of an operator that is kept as it is in the
        file, the SHA-256 of its bytes.
    outputs
        Element type and shape of each output.
    constants
        SHA-256 of all constants it reads, in hexadecimal; empty if it reads none.
    """

    name: str
    operator: str
    attributes: str
    outputs: tuple[str, ...]
    parameters: int
    macs: int
    constants: str


@dataclass(frozen=True)
class Structure:
    """A file as a list of operators.

    Parameters
    ----------
    bytes
        Of the file, with what lies beside it.
    weight_bytes
        Of the constants, as they are stored.
    """

    file: str
    format: str
    bytes: int
    units: tuple[Unit, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: int
    macs: int
    weight_bytes: int

    @cached_property
    def operators(self) -> Counter[str]:
        """How often each operator occurs."""
        return Counter(u.operator for u in self.units)


def structure_of(path: Path, shapes: Mapping[str, Sequence[Dim]] | None = None) -> Structure:
    """Return what a file is made of; the ending ``.tflite`` tells the format.

    Raises
    ------
    ModelError
        If the file is not a valid model.
    """
    return _tflite(path) if path.suffix == ".tflite" else _onnx(path, shapes or {})


def _onnx(path: Path, shapes: Mapping[str, Sequence[Dim]]) -> Structure:
    loaded = load(path, shapes)
    graph, price = loaded.graph, cost(loaded.graph)
    return Structure(
        path.name,
        "ONNX",
        loaded.size_bytes,
        tuple(_node(graph, node) for node in graph.nodes),
        {v.name: str(v.type) for v in graph.inputs},
        {v.name: str(v.type) for v in graph.outputs},
        price.parameters,
        price.macs,
        price.weight_bytes,
    )


def _node(graph: Graph, node: Node) -> Unit:
    op = node.op
    name = str(op) if isinstance(op, Opaque) else op.onnx_name
    attributes = sha256(op.proto).hexdigest() if isinstance(op, Opaque) else str(op)
    arrays = [a for v in node.reads if (a := graph.constant(v)) is not None]
    outputs = [v.type for v in node.outputs]
    return Unit(
        node.layer,
        name,
        attributes,
        tuple(map(str, outputs)),
        sum(a.size for a in arrays),
        node_macs(graph, node),
        _digest(arrays),
    )


def _tflite(path: Path) -> Structure:
    from edgec.targets.tflite.macs import macs
    from edgec.targets.tflite.reader import read_tflite

    model = read_tflite(path)
    units: list[Unit] = []
    for op in model.operators:
        held = [model.tensors[i] for i in op.inputs if i >= 0]
        arrays = [t.data for t in held if t.data is not None]
        outs = [model.tensors[i] for i in op.outputs]
        grids = [f"{t.quant}" for t in outs if t.quant is not None]
        types = tuple(str(TensorType(t.dtype, t.shape)) for t in outs)
        units.append(
            Unit(
                op.layer,
                op.code,
                f"v{op.version} {' '.join(grids)}".rstrip(),
                types,
                sum(a.size for a in arrays),
                macs(model, op),
                _digest(arrays),
            )
        )
    inputs, outputs = (
        {
            name: str(TensorType(model.tensors[i].dtype, model.tensors[i].shape))
            for name, i in side
        }
        for side in (model.inputs, model.outputs)
    )
    # Equal constants share one buffer of the file; counted once, as they are stored.
    stored = {t.data.__array_interface__["data"][0]: t.data for t in model.tensors
              if t.data is not None}  # fmt: skip
    return Structure(
        path.name,
        "TFLite",
        path.stat().st_size,
        tuple(units),
        inputs,
        outputs,
        sum(a.size for a in stored.values()),
        sum(u.macs for u in units),
        sum(a.nbytes for a in stored.values()),
    )


def _digest(arrays: Sequence[Array]) -> str:
    if not arrays:
        return ""
    total = sha256()
    for array in arrays:
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def compared(a: Structure, b: Structure) -> dict[str, Any]:
    """Return how two files differ, as plain data.

    Operators are matched by name; those that only lost or changed their name are matched by
    what they are and where they stand. Between two formats only counts and sizes compare.
    """
    sizes = ("bytes", "parameters", "macs", "weight_bytes")
    found: dict[str, Any] = {
        "a": a.file,
        "b": b.file,
        "same_format": a.format == b.format,
        **{name: [getattr(a, name), getattr(b, name)] for name in sizes},
        "nodes": [len(a.units), len(b.units)],
        "inputs": [dict(a.inputs), dict(b.inputs)],
        "outputs": [dict(a.outputs), dict(b.outputs)],
        "operators": {
            name: [a.operators[name], b.operators[name]]
            for name in sorted(a.operators | b.operators)
            if a.operators[name] != b.operators[name]
        },
        "added": [],
        "removed": [],
        "changed": [],
    }
    if a.format == b.format:
        pairs = _matched(a.units, b.units)
        left, right = {i for i, _ in pairs}, {j for _, j in pairs}
        found["removed"] = [asdict(u) for i, u in enumerate(a.units) if i not in left]
        found["added"] = [asdict(u) for j, u in enumerate(b.units) if j not in right]
        found["changed"] = [
            {"name": b.units[j].name, "operator": b.units[j].operator, "what": what}
            for i, j in sorted(pairs)
            if (what := _changes(a.units[i], b.units[j]))
        ]
    return found


def _matched(a: Sequence[Unit], b: Sequence[Unit]) -> list[tuple[int, int]]:
    """Return pairs of positions: of equal name and operator, else alike in the same place."""
    places = {(u.name, u.operator): j for j, u in enumerate(b)}
    counts = [Counter((u.name, u.operator) for u in side) for side in (a, b)]
    pairs = [
        (i, places[key])
        for i, u in enumerate(a)
        if (key := (u.name, u.operator)) in places and all(c[key] == 1 for c in counts)
    ]
    left, right = {i for i, _ in pairs}, {j for _, j in pairs}
    rest_a = [i for i in range(len(a)) if i not in left]
    rest_b = [j for j in range(len(b)) if j not in right]
    matcher = SequenceMatcher(
        None,
        [(a[i].operator, a[i].outputs) for i in rest_a],
        [(b[j].operator, b[j].outputs) for j in rest_b],
        autojunk=False,
    )
    for i, j, length in matcher.get_matching_blocks():
        pairs += [(rest_a[i + k], rest_b[j + k]) for k in range(length)]
    return pairs


def _changes(a: Unit, b: Unit) -> list[str]:
    """Say what changed from one operator to its counterpart."""
    found: list[str] = []
    if a.outputs != b.outputs:
        found.append(f"output {', '.join(a.outputs)} -> {', '.join(b.outputs)}")
    if a.attributes != b.attributes:
        readable = all(_READABLE.match(x) for x in (a.attributes, b.attributes))
        found.append(f"{a.attributes} -> {b.attributes}" if readable else "attributes")
    if a.parameters != b.parameters:
        found.append(f"parameters {a.parameters} -> {b.parameters}")
    elif a.constants != b.constants:
        found.append("constants")
    return found
