"""What is in a model, and what each target makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.cost import cost
from edgec.frontend.onnx import load
from edgec.ir import ContainerType, Dim, Graph, Node, Value
from edgec.ops import Dequantize, Opaque, Quantize
from edgec.passes import simplify
from edgec.targets import TARGETS
from edgec.targets.base import Target
from edgec.targets.tflite.model import Model

__all__ = ["inspect_model", "inspect_tflite"]


def inspect_model(path: Path, shapes: Mapping[str, Sequence[Dim]]) -> dict[str, Any]:
    """Return what `edgec inspect` prints of an ONNX file, as plain data."""
    loaded = load(path, shapes)
    graph = loaded.graph
    simplified, _ = simplify(graph)
    return {
        "file": path.name,
        "bytes": loaded.size_bytes,
        "opset": loaded.opset,
        "inputs": [_port(v) for v in graph.inputs],
        "outputs": [_port(v) for v in graph.outputs],
        **_cost(graph),
        "operators": _operators(graph, simplified),
        "quantization": _quantization(graph),
        "simplified": _cost(simplified),
        # What a microcontroller takes is best asked of the integers: edgec compile tells.
        "targets": {t.name: _refusals(t(), graph) for t in TARGETS if not t().is_emulated},
    }


def inspect_tflite(path: Path) -> dict[str, Any]:
    """Return what `edgec inspect` prints of a TFLite file, as plain data."""
    from edgec.structure import structure_of
    from edgec.support import check_support
    from edgec.targets.tflite.reader import read_tflite

    model = read_tflite(path)
    made = structure_of(path)
    kinds = Counter(
        (op.code, op.version, _computed(model, op.outputs)) for op in model.operators
    )
    delegate = check_support(path, "tflite")["delegates"]["xnnpack"]
    return {
        "file": path.name,
        "bytes": made.bytes,
        "inputs": [_tensor(model, i) for _, i in model.inputs],
        "outputs": [_tensor(model, i) for _, i in model.outputs],
        "nodes": len(made.units),
        "parameters": made.parameters,
        "macs": made.macs,
        "weight_bytes": made.weight_bytes,
        "operators": [
            {"name": code, "version": version, "dtype": dtype, "count": count}
            for (code, version, dtype), count in sorted(kinds.items(), key=lambda k: (-k[1], k))
        ],
        "delegate": {"name": "XNNPACK", **delegate},
    }


def _computed(model: Model, outputs: Sequence[int]) -> str:
    """Return the element type of what an operator computes."""
    return model.tensors[outputs[0]].dtype.value if outputs else "nothing"


def _tensor(model: Model, index: int) -> dict[str, Any]:
    tensor = model.tensors[index]
    grid = tensor.quant
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.value,
        "shape": list(tensor.shape),
        "scale": None if grid is None else list(grid.scale),
        "zero_point": None if grid is None else list(grid.zero_point),
    }


def _port(value: Value) -> dict[str, Any]:
    dims = value.type.dims
    shape = None if dims is None else list(dims)
    return {"name": value.name, "dtype": _dtype(value), "shape": shape}


def _dtype(value: Value) -> str:
    t = value.type
    return str(t) if isinstance(t, ContainerType) else t.dtype.value


def _onnx_name(node: Node) -> str:
    """Return the operator's name as the user knows it."""
    if isinstance(node.op, Opaque):
        domain = f"{node.op.domain}." if node.op.domain else ""
        return f"{domain}{node.op.op_type}"
    return node.op.onnx_name


def _cost(graph: Graph) -> dict[str, int | None]:
    """Return the cost; what needs shapes is ``None`` where they only follow from the passes."""
    found: dict[str, int | None] = asdict(cost(graph))
    if not found["peak_activation_bytes"]:
        found["macs"] = found["peak_activation_bytes"] = None
    return found


def _operators(graph: Graph, simplified: Graph) -> list[dict[str, Any]]:
    """Return how often each operator occurs before and after the lossless passes.

    Those that edgec has no class for are judged after them: often a shape must be known first.
    """
    before, after = (Counter(map(_onnx_name, g.nodes)) for g in (graph, simplified))
    untyped = Counter(_onnx_name(n) for n in simplified.nodes if type(n.op) is Opaque)
    ranked = sorted(before | after, key=lambda name: (-after[name], -before[name], name))
    return [
        {"name": n, "count": before[n], "simplified": after[n], "untyped": untyped[n]}
        for n in ranked
    ]


def _quantization(graph: Graph) -> dict[str, Any]:
    """Return whether the model came quantized, and how."""
    pairs = weights = 0
    for node in graph.nodes:
        if isinstance(node.op, Dequantize):
            source = graph.producers.get(node.inputs[0])
            pairs += source is not None and isinstance(source.op, Quantize)
            weights += graph.constant(node.inputs[0]) is not None
    integer = sum(
        isinstance(n.op, Opaque)
        and (
            n.op.op_type.startswith(("QLinear", "Dynamic")) or n.op.op_type.endswith("Integer")
        )
        for n in graph.nodes
    )
    state = "integer operators" if integer else "QDQ" if pairs or weights else "float"
    return {
        "state": state,
        "pairs": pairs,
        "quantized_weights": weights,
        "integer_operators": integer,
    }


def _refusals(target: Target, graph: Graph) -> list[dict[str, str]]:
    """Return what keeps `target` from expressing the graph; nothing if it takes it."""
    from edgec.support import refusals

    problems, _ = refusals(target, graph)
    return [{"where": d.where, "message": d.message, "hint": d.hint} for d in problems]
