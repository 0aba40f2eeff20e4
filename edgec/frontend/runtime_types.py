"""Types of what ONNX Runtime's own operators compute, of which onnx knows nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from edgec.ir import UNKNOWN, Dim, DType, TensorType
from edgec.ops.opaque import type_proto

__all__ = ["runtime_types"]


def runtime_types(
    node: onnx.NodeProto, versions: Mapping[str, int], inputs: Sequence[TensorType]
) -> tuple[TensorType, ...] | None:
    """Return the types of a node's outputs as ONNX Runtime infers them when it loads the node.

    ``None`` if it does not know the operator, or not on a CPU. Nothing runs: it is told types,
    and no constants that kernels would compute with.

    Parameters
    ----------
    versions
        Of the domains that the model uses.
    """
    import onnxruntime as ort  # the import is not free, and few models need it
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    del alone.input[:], alone.output[:]
    fed: list[onnx.ValueInfoProto] = []
    for k, t in enumerate(inputs):
        name = f"i{k}" if t.dtype is not DType.UNDEFINED else ""
        alone.input.append(name)
        if name:
            fed.append(helper.make_value_info(name, type_proto(t)))
    alone.output.extend(f"o{k}" if name else "" for k, name in enumerate(node.output))
    results = [onnx.ValueInfoProto(name=name) for name in alone.output if name]
    graph = helper.make_graph([alone], "one", fed, results)
    imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 8
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except (*filter(_is_error, vars(state).values()), RuntimeError):
        return None
    found = {o.name: _tensor_type(o.type, o.shape) for o in session.get_outputs()}
    unknown = TensorType(DType.UNDEFINED, None)
    return tuple(found.get(name, unknown) for name in alone.output)


def _is_error(thing: object) -> bool:
    """Whether this is one of ONNX Runtime's errors, which share no base below ``Exception``."""
    return isinstance(thing, type) and issubclass(thing, Exception)


_NAMES = {"float": "float32", "double": "float64"}


def _tensor_type(text: str, shape: Sequence[Dim | None]) -> TensorType:
    """Return the type that ONNX Runtime writes as ``tensor(float)``; no container's."""
    match = re.fullmatch(r"tensor\((\w+)\)", text)
    name = "" if match is None else _NAMES.get(match[1], match[1])
    if name.upper() not in DType.__members__:
        return TensorType(DType.UNDEFINED, None)
    if not shape:  # of no axes, or of a number that it does not know
        return TensorType(DType[name.upper()], None)
    dims = (UNKNOWN if d is None or str(d).startswith("unk__") else d for d in shape)
    return TensorType(DType[name.upper()], tuple(dims))
