"""ONNX nodes that have no class of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.errors import InternalError
from edgec.ir import (
    UNKNOWN,
    Array,
    ContainerType,
    Dim,
    DType,
    Example,
    OnnxForm,
    OnnxNode,
    Op,
    TensorType,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["Opaque", "tensor_type", "type_proto"]


@dataclass(frozen=True, slots=True)
class Opaque(Op):
    """An ONNX node kept as it came: any domain, any attributes, subgraphs included.

    Its types come from onnx's own inference, its axes are all pinned, and it stays in float.
    ONNX Runtime artifacts carry it; other targets report it.

    Parameters
    ----------
    op_type, domain, opset
        What the node is, and the version of the domain that gives it its meaning.
    proto
        The serialized ``NodeProto`` without its name, inputs and outputs.
    declared
        Output types that the model itself declares or implies; they fill in what inference
        cannot tell.
    captures
        Names by which subgraphs read values from outside. These values are the last operands.
    imports
        Other domains of nodes in subgraphs, with their versions.
    """

    onnx_name: ClassVar[str] = ""
    operands: ClassVar[int] = 2**31
    op_type: str = ""
    domain: str = ""
    opset: int = 0
    proto: bytes = b""
    declared: tuple[TensorType, ...] = ()
    captures: tuple[str, ...] = ()
    imports: tuple[tuple[str, int], ...] = ()

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        raise InternalError("the front end makes opaque operators")

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        raise InternalError("the exporter writes opaque operators itself")

    def node_proto(self) -> onnx.NodeProto:
        """Return the node without its name, inputs and outputs."""
        import onnx

        node = onnx.NodeProto()
        node.ParseFromString(self.proto)
        return node

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return self.infer_node(inputs, [None] * len(inputs))

    @override
    def infer_node(
        self, inputs: Sequence[TensorType], constants: Sequence[Array | None]
    ) -> tuple[TensorType, ...]:
        if self.captures or self.domain not in ("", "ai.onnx.ml"):
            return self.declared  # onnx cannot tell without the surroundings
        found = _infer(self, inputs, constants)
        return tuple(_merge(a, b) for a, b in zip(found, self.declared, strict=True))

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        import onnx

        x = rng.uniform(0.5, 2.0, (1, 3, 4)).astype(np.float32)
        for threshold in (0.75, 1.5):
            node = onnx.NodeProto(op_type="Binarizer", domain="ai.onnx.ml")
            node.attribute.append(onnx.helper.make_attribute("threshold", threshold))
            proto = node.SerializeToString(deterministic=True)
            out = TensorType(DType.FLOAT32, None)
            yield Example(cls("Binarizer", "ai.onnx.ml", 1, proto, (out,)), (x,))

    def __str__(self) -> str:
        prefix = f"{self.domain}." if self.domain else ""
        return f"{prefix}{self.op_type}"


def _infer(
    op: Opaque, inputs: Sequence[TensorType], constants: Sequence[Array | None]
) -> tuple[TensorType, ...]:
    """Ask onnx what comes out; unknown where it does not know."""
    import onnx
    from onnx import numpy_helper, shape_inference
    from onnx.checker import ValidationError

    proto = op.node_proto()
    proto.input.extend(f"i{k}" if t.dtype.onnx else "" for k, t in enumerate(inputs))
    proto.output.extend(f"o{k}" for k in range(len(op.declared)))
    types = {f"i{k}": type_proto(t) for k, t in enumerate(inputs) if t.dtype.onnx}
    data = {
        f"i{k}": numpy_helper.from_array(np.asarray(a))
        for k, a in enumerate(constants)
        if a is not None and a.size <= 1024  # shapes, axes, pads: never weights
    }
    try:
        schema = onnx.defs.get_schema(op.op_type, op.opset, op.domain)
        found = shape_inference.infer_node_outputs(
            schema,
            proto,
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid(op.domain, op.opset)],
        )
    except (shape_inference.InferenceError, onnx.defs.SchemaError, ValidationError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return tuple(
        tensor_type(found[f"o{k}"]) if f"o{k}" in found else declared
        for k, declared in enumerate(op.declared)
    )


def type_proto(t: TensorType) -> onnx.TypeProto:
    """Return a type as ONNX describes it."""
    import onnx

    if isinstance(t, ContainerType):
        inner = type_proto(t.element)
        match t.kind:
            case "seq":
                return onnx.helper.make_sequence_type_proto(inner)
            case "optional":
                return onnx.helper.make_optional_type_proto(inner)
            case _:
                return onnx.helper.make_map_type_proto(t.key.onnx, inner)
    dims = None if t.dims is None else [None if d == UNKNOWN else d for d in t.dims]
    return onnx.helper.make_tensor_type_proto(t.dtype.onnx, dims)


_KINDS = {"sequence_type": "seq", "optional_type": "optional"}


def tensor_type(proto: onnx.TypeProto) -> TensorType:
    """Return a type that ONNX describes.

    Raises
    ------
    ValueError
        If edgec knows no such type.
    """
    match kind := proto.WhichOneof("value"):
        case "sequence_type" | "optional_type":
            element = tensor_type(getattr(proto, kind).elem_type)
            return ContainerType.of(_KINDS[kind], element)
        case "map_type":
            key = DType.of_onnx(proto.map_type.key_type)
            return ContainerType.of("map", tensor_type(proto.map_type.value_type), key)
        case "sparse_tensor_type":
            raise ValueError("sparse tensors are not read")
    tensor = proto.tensor_type
    dtype = DType.of_onnx(tensor.elem_type)
    if not tensor.HasField("shape"):
        return TensorType(dtype, None)
    dims: list[Dim] = []
    for d in tensor.shape.dim:
        # Some exporters write -1 for a length they do not know.
        known = d.HasField("dim_value") and d.dim_value >= 0
        dims.append(d.dim_value if known else _symbol(d.dim_param))
    return TensorType(dtype, tuple(dims))


def _symbol(name: str) -> str:
    """Return a symbol of onnx's inference; those it makes up itself mean nothing elsewhere."""
    return UNKNOWN if not name or name.startswith("unk__") else name


def _merge(inferred: TensorType, declared: TensorType) -> TensorType:
    """Return what is inferred, with gaps filled from what is declared."""
    if isinstance(inferred, ContainerType) and isinstance(declared, ContainerType):
        element = _merge(inferred.element, declared.element)
        return ContainerType.of(inferred.kind, element, inferred.key)
    if isinstance(inferred, ContainerType) or isinstance(declared, ContainerType):
        return declared if inferred.dtype is DType.UNDEFINED else inferred
    dtype = inferred.dtype if inferred.dtype is not DType.UNDEFINED else declared.dtype
    if inferred.dims is None:
        return TensorType(dtype, declared.dims)
    if declared.dims is None or len(declared.dims) != len(inferred.dims):
        return TensorType(dtype, inferred.dims)
    pairs = zip(inferred.dims, declared.dims, strict=True)
    return TensorType(dtype, tuple(b if isinstance(a, str) else a for a, b in pairs))
