"""The intermediate representation: immutable graphs of typed values with ONNX semantics."""

from edgec.ir.builder import Builder
from edgec.ir.graph import ABSENT, Constant, Graph, Node, Value
from edgec.ir.mapped import trim, unload
from edgec.ir.op import (
    OPSET,
    Array,
    Example,
    Fixed,
    Measured,
    OnnxForm,
    OnnxNode,
    Op,
    QuantRule,
    Role,
    SameAsInput,
    Tie,
)
from edgec.ir.types import UNKNOWN, ContainerType, Dim, DType, QuantParams, TensorType
from edgec.ir.verify import verify

__all__ = [
    "ABSENT",
    "OPSET",
    "UNKNOWN",
    "Array",
    "Builder",
    "Constant",
    "ContainerType",
    "DType",
    "Dim",
    "Example",
    "Fixed",
    "Graph",
    "Measured",
    "Node",
    "OnnxForm",
    "OnnxNode",
    "Op",
    "QuantParams",
    "QuantRule",
    "Role",
    "SameAsInput",
    "TensorType",
    "Tie",
    "Value",
    "trim",
    "unload",
    "verify",
]
