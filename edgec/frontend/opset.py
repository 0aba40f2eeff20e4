"""Models of old opsets, raised to the one that edgec writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.errors import Diagnostic, ModelError
from edgec.ir import OPSET, Array

__all__ = ["EXPORT_HINT", "check_settled", "opset_of", "raised", "settle"]

EXPORT_HINT = "export the model again, for instance with opset 17"
_SETTLED = 7


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set."""
    found = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return found[0] if found else 0


def settle(model: onnx.ModelProto) -> None:
    """Call opset 7, the first whose operators broadcast as today's, what is older but the same.

    See :func:`check_settled`.
    """
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, _SETTLED)


def check_settled(path: Path, model: onnx.ModelProto) -> None:
    """Refuse a model older than opset 7 with an operator that meant something else then.

    onnx's converter does not get all of them right, and ONNX Runtime does not run them.

    Raises
    ------
    ModelError
        With the names of the operators.
    """
    old = opset_of(model)
    # A model of other domains only, such as trees, need not name the default opset.
    nodes = [n for g in _graphs(model.graph) for n in g.node if n.domain in ("", "ai.onnx")]
    if old >= _SETTLED:
        return
    changed = sorted({n.op_type for n in nodes if _has_changed(n.op_type, old)})
    if changed:
        raise ModelError(
            f"{path} uses opset {old}, in which {', '.join(changed)} had another meaning than "
            f"since opset {_SETTLED}",
            [Diagnostic(EXPORT_HINT)],
        )


def _has_changed(op_type: str, opset: int) -> bool:
    try:
        then = onnx.defs.get_schema(op_type, opset, "").since_version
        now = onnx.defs.get_schema(op_type, _SETTLED, "").since_version
    except onnx.defs.SchemaError:  # gone by then
        return True
    return bool(then != now)


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
        scans = _old_scans(model) if old == 8 else []
        new = _converted(model)
        _without_batch(model, new, scans)
        if old < 11:
            for graph in _graphs(new.graph):
                _sample_as_before(graph)
    except (RuntimeError, ValueError, *_CONVERSION) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ModelError(
            f"{path} is of opset {old} and cannot be raised to opset {OPSET}: {reason}",
            [Diagnostic("export the model again with a newer opset")],
        ) from error
    return new


_CONVERSION = (onnx.version_converter.ConvertError, onnx.shape_inference.InferenceError)
"""What onnx's converter raises beside Python's own errors."""


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return what onnx's converter makes of a model; it would lose data beside the file."""
    beside = [t for t in model.graph.initializer if t.data_location == t.EXTERNAL]
    if not beside:
        return onnx.version_converter.convert_version(model, OPSET)
    names = {t.name for t in beside}
    declared = [v.name for v in model.graph.input]
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    kept = [t for t in bare.graph.initializer if t.name not in names]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    for t in beside:
        if t.name not in declared:
            info = helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            bare.graph.input.append(info)
    new = onnx.version_converter.convert_version(bare, OPSET)
    inputs = [v for v in new.graph.input if v.name in declared or v.name not in names]
    del new.graph.input[:]
    new.graph.input.extend(inputs)
    new.graph.initializer.extend(beside)
    return new


def _old_scans(model: onnx.ModelProto) -> list[str]:
    """Return the first output of each `Scan`, whose operands all had a batch in opset 8."""
    typed = onnx.shape_inference.infer_shapes(model)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*typed.graph.input, *typed.graph.value_info, *typed.graph.output)
    }
    found: list[str] = []
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.op_type != "Scan":
                continue
            if graph is not model.graph or any(
                shapes.get(n, [0])[:1] != [1] for n in node.input[1:]
            ):
                raise ValueError("Scan had a batch in opset 8, which must be 1")
            found.append(node.output[0])
    return found


def _without_batch(old: onnx.ModelProto, new: onnx.ModelProto, scans: list[str]) -> None:
    """Take the batch off what goes into the former `Scan` nodes, and put it on what comes out.

    The converter takes it off the graph's own inputs instead, if it can.
    """
    if not scans:
        return
    nodes = list(new.graph.node)
    del new.graph.node[:]
    axis = numpy_helper.from_array(np.zeros(1, np.int64), "scan.batch_axis")
    new.graph.initializer.append(axis)
    for node in nodes:
        if node.op_type != "Scan" or node.output[0] not in scans:
            new.graph.node.append(node)
            continue
        for i, name in enumerate(node.input):
            node.input[i] = f"{node.output[0]}.in{i}"
            squeeze = helper.make_node("Squeeze", [name, axis.name], [node.input[i]])
            new.graph.node.append(squeeze)
        names = list(node.output)
        node.output[:] = [f"{name}.row" if name else "" for name in names]
        new.graph.node.append(node)
        for inner, name in zip(node.output, names, strict=True):
            if name:
                unsqueeze = helper.make_node("Unsqueeze", [inner, axis.name], [name])
                new.graph.node.append(unsqueeze)
    del new.graph.value_info[:]
    for ends, declared in (
        (new.graph.input, old.graph.input),
        (new.graph.output, old.graph.output),
    ):
        kept = list(declared)
        del ends[:]
        ends.extend(kept)


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
