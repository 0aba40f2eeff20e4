"""Which operators of ONNX each target takes: a table made from the code itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
import onnx

from edgec.errors import EdgecError
from edgec.frontend.qoperator import READ_IN_PAIRS
from edgec.frontend.typing import READ_AS
from edgec.ir import Constant, Example, Graph, Node, Op, Value
from edgec.ir.graph import ABSENT
from edgec.ops import OPS, Loop, Opaque
from edgec.passes import Pipeline
from edgec.targets import OnnxRuntime, Tflite
from edgec.targets.tflite.constraints import CONSTRAINTS
from edgec.targets.tflite.kernels import LOWERINGS

__all__ = ["Entry", "entries", "markdown"]

_SEED = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One operator of the ONNX standard.

    Parameters
    ----------
    read_as
        Name of the operator it becomes in the graph; its own unless it is another's special
        case, and empty where it is kept untyped.
    onnxruntime_int8, tflite_int8
        Whether it is computed on integers in a quantized model.
    tflite
        "yes"; "some forms" where only some of its examples are taken; "by definition" where
        the standard's own definition is compiled; "no".
    dtypes
        Element types that the TFLite lowering takes, where values are not quantized.
    constraints
        Rules that a form must keep for TFLite.
    """

    name: str
    read_as: str
    onnxruntime_int8: bool
    tflite: str
    tflite_int8: bool
    dtypes: tuple[str, ...]
    constraints: tuple[str, ...]


def entries() -> tuple[Entry, ...]:
    """Return the table, by name: every operator of the newest opset that onnx knows."""
    found: list[Entry] = []
    for schema in sorted(_schemas(), key=lambda s: s.name):
        read_as = READ_IN_PAIRS.get(schema.name, schema.name)
        if schema.name in READ_AS:
            read_as = READ_AS[schema.name][0].onnx_name
        classes = [op for op in OPS if op.onnx_name == read_as and op is not Opaque]
        found.append(_entry(schema, read_as if classes else "", classes))
    return tuple(found)


def _schemas() -> Iterator[onnx.defs.OpSchema]:
    """Yield the newest version of each operator, without those of training."""
    newest = onnx.defs.onnx_opset_version()
    for name in {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}:
        schema = onnx.defs.get_schema(name, newest, "")
        if not schema.deprecated:
            yield schema


def _entry(schema: onnx.defs.OpSchema, read_as: str, classes: list[type[Op]]) -> Entry:
    floating = OnnxRuntime().scheme().floating
    examples = [e for op in classes for e in _examples(op)]
    ruled = {type(e.op) for e in examples if e.op.quant_rule() is not None}
    taken = [_is_taken(e) for e in examples]
    rules = {
        (rule.found.__doc__ or "").strip()
        for rule in CONSTRAINTS
        for op in classes
        if Op not in rule.ops and issubclass(op, rule.ops)
    }
    defined = bool(getattr(schema, "has_function", False)) or bool(
        getattr(schema, "has_context_dependent_function", False)
    )
    tflite = "some forms" if any(taken) else "no"
    if taken and all(taken):
        tflite = "yes"
    elif not any(taken) and defined and not classes:
        tflite = "by definition"
    dtypes = {d.value for op in classes if op in LOWERINGS for d in LOWERINGS[op].dtypes}
    return Entry(
        schema.name,
        read_as,
        any(op not in floating for op in ruled),
        tflite,
        any(op in LOWERINGS for op in ruled),
        tuple(sorted(dtypes)) if any(taken) else (),
        tuple(sorted(rules)) if any(taken) else (),
    )


@cache
def _examples(op: type[Op]) -> tuple[Example, ...]:
    return tuple(op.examples(np.random.default_rng(_SEED)))


def _is_taken(example: Example) -> bool:
    """Whether the TFLite target takes an example, after its own passes."""
    target = Tflite()
    try:
        graph, _ = Pipeline(target.prepare()).run(_graph(example))
        return not target.check(graph)
    except EdgecError:
        return False


def _graph(example: Example) -> Graph:
    """Return an example as a graph: one operand is fed, the others are constants.

    The first, but of a loop the last: the others say how often it runs.
    """
    fed = len(example.operands) - 1 if isinstance(example.op, Loop) else 0
    values = tuple(
        ABSENT if a is None else Value(f"i{k}", Constant(a).type)
        for k, a in enumerate(example.operands)
    )
    arrays = [None if k == fed else a for k, a in enumerate(example.operands)]
    types = example.op.infer_node([v.type for v in values], arrays)
    outputs = tuple(Value(f"o{k}", t) for k, t in enumerate(types))
    constants = {
        v.name: Constant(a) for v, a in zip(values, arrays, strict=True) if a is not None
    }
    node = Node(example.op, values, outputs, ("example",))
    return Graph("example", (values[fed],), outputs, (node,), MappingProxyType(constants))


def markdown(table: tuple[Entry, ...]) -> str:
    """Return the table as Markdown."""
    lines = [
        "# Operators",
        "",
        "Made by `edgec operators --markdown` from the code itself; a test holds it current.",
        "",
        "* **read as**: the operator it becomes in the graph; *untyped* operators are kept as",
        "  they are, for ONNX Runtime, which is the one to say whether it has them.",
        "* **ONNX Runtime int8**, **TFLite int8**: computed on integers in a quantized model.",
        "* **TFLite**: *yes*; *some forms*; *by definition*, where the body that the ONNX",
        "  standard gives the operator is compiled; *no*. Judged by the examples of each",
        "  operator, which its tests run in both runtimes.",
        "* **element types** of values that are not quantized.",
        "",
        "| operator | read as | ONNX Runtime int8 | TFLite | TFLite int8 | element types "
        "| rules |",
        "|---|---|---|---|---|---|---|",
    ]
    for e in table:
        read_as = "" if e.read_as == e.name else e.read_as or "*untyped*"
        cells = [
            e.name,
            read_as,
            "yes" if e.onnxruntime_int8 else "",
            e.tflite,
            "yes" if e.tflite_int8 else "",
            ", ".join(e.dtypes),
            " ".join(e.constraints),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    counts = [sum(e.tflite == kind for e in table) for kind in ("yes", "some forms")]
    defined = sum(e.tflite == "by definition" for e in table)
    lines += [
        "",
        f"{len(table)} operators; TFLite takes {counts[0]} in all forms, {counts[1]} in some, "
        f"{defined} by definition.",
    ]
    return "\n".join(lines) + "\n"
