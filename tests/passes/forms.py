"""Models written as ONNX text, the way exporters write them."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import parser

from edgec.frontend import load
from edgec.ir import Graph
from edgec.passes import EliminateIdentities, FoldConstants

__all__ = ["imported", "kinds"]


def imported(
    folder: Path, body: str, *, x: str = "float[2,3,4]", y: str = "", name: str = "x",
    opset: int = 17,
) -> Graph:  # fmt: skip
    """Import a model from ``x`` to ``y`` of the same type, unless another is given."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    text = f"{head} net ({x} {name}) => ({y or x} y) {body}"
    model = parser.parse_model(text)
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return EliminateIdentities().run(FoldConstants().run(load(path).graph))


def kinds(graph: Graph) -> list[str]:
    """The operators, in order."""
    return [str(node.op) for node in graph.nodes]
