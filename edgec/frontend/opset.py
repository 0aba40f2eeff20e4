"""Models of old opsets, raised to the one that edgec writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.errors import Diagnostic, ModelError
from edgec.ir import OPSET, Array

__all__ = ["opset_of", "raised"]


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set."""
    found = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return found[0] if found else 0


def raised(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in opset `OPSET`, so that untyped nodes can be kept verbatim.

    onnx's converter does most of it. What it gets wrong is put right, or refused.

    Raises
    ------
    ModelError
        If a node has no counterpart.
    """
    old = opset_of(model)
    try:
        if old < 13 and any(
            n.op_type == "Hardmax" for g in _graphs(model.graph) for n in g.node
        ):
            raise ValueError("Hardmax flattened its operand before opset 13")
        new = onnx.version_converter.convert_version(model, OPSET)
        if old < 11:
            for graph in _graphs(new.graph):
                _sample_as_before(graph)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ModelError(
            f"{path} is of opset {old} and cannot be raised to opset {OPSET}: {reason}",
            [Diagnostic("export the model again with a newer opset")],
        ) from error
    return new


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                yield from _graphs(body)


def _sample_as_before(graph: onnx.GraphProto) -> None:
    """Let every `Resize` sample where opset 10 and `Upsample` did: at ``i / scale``.

    The default has been the centre of each pixel ever since, and the converter forgets it.
    ONNX Runtime takes the nearest index before that point, or after it to make images smaller.
    """
    arrays: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in _small(graph)}
    for node in graph.node:
        if node.op_type != "Resize":
            continue
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if "coordinate_transformation_mode" in found:
            continue
        node.attribute.append(
            helper.make_attribute("coordinate_transformation_mode", "asymmetric")
        )
        if found.get("mode", b"nearest") == b"nearest":
            scales = arrays.get(node.input[2], np.ones(0))
            if (scales < 1).any() and (scales > 1).any():
                raise ValueError(f"{node.name} makes one axis longer and another shorter")
            rounding = "ceil" if (scales < 1).any() else "floor"
            node.attribute.append(helper.make_attribute("nearest_mode", rounding))


def _small(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the named constants that could be scales."""
    for t in graph.initializer:
        if len(t.dims) == 1 and t.dims[0] < 16 and t.data_location != t.EXTERNAL:
            yield t
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and len(attribute.t.dims) == 1:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                yield tensor
