"""Small graphs and ONNX files, built by hand or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgec.ir import (
    ABSENT,
    Array,
    Builder,
    Constant,
    Dim,
    DType,
    Example,
    Graph,
    Node,
    Op,
    TensorType,
    Value,
)
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Clip,
    Concat,
    Conv,
    DepthwiseConv,
    GlobalAveragePool,
    Identity,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Relu,
    Reshape,
    Sigmoid,
    Transpose,
)

__all__ = [
    "Sketch",
    "array_type",
    "carries_activation",
    "feeds",
    "graph_of",
    "graphs",
    "info",
    "onnx_model",
    "save",
    "unranked",
]

F32 = DType.FLOAT32


def array_type(array: Array) -> TensorType:
    """The type of an array."""
    return TensorType(DType.of(array.dtype), array.shape)


class Sketch:
    """Writes a graph top to bottom: input ``x``, constants ``c0``, ``c1``, values ``v0``, …."""

    def __init__(self, *shape: Dim, seed: int = 0, dtype: DType = F32) -> None:
        self.rng = np.random.default_rng(seed)
        self.x = Value("x", TensorType(dtype, shape))
        self.inputs = [self.x]
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}

    def input(self, name: str, *shape: Dim, dtype: DType = F32) -> Value:
        """One more graph input."""
        self.inputs.append(Value(name, TensorType(dtype, shape)))
        return self.inputs[-1]

    def const(self, array: Array) -> Value:
        """A constant with this array."""
        name = f"c{len(self.constants)}"
        self.constants[name] = Constant(array)
        return Value(name, array_type(array))

    def random(self, *shape: int) -> Value:
        """A constant of normally distributed numbers."""
        return self.const(np.asarray(self.rng.standard_normal(shape), np.float32))

    def add(self, op: Op, *inputs: Value) -> Value:
        """The only output of a node."""
        (out,) = self.adds(op, *inputs)
        return out

    def adds(self, op: Op, *inputs: Value) -> tuple[Value, ...]:
        """The outputs of a node."""
        types = op.infer_node([v.type for v in inputs], [self.array(v) for v in inputs])
        n = len(self.nodes)
        names = [f"v{n}"] if len(types) == 1 else [f"v{n}.{i}" for i in range(len(types))]
        outputs = tuple(Value(name, t) for name, t in zip(names, types, strict=True))
        self.nodes.append(Node(op, inputs, outputs, (f"n{n}",)))
        return outputs

    def array(self, value: Value) -> Array | None:
        """The array of a constant."""
        found = self.constants.get(value.name)
        return None if found is None else found.array

    def conv(
        self, x: Value, channels: int, *, bias: bool = True, op: Conv | None = None
    ) -> Value:
        """A 3x3 convolution that keeps the size."""
        w = self.random(channels, int(x.type.shape[1]), 3, 3)
        extra = (self.random(channels),) if bias else ()
        return self.add(op or Conv(pad=(1, 1, 1, 1)), x, w, *extra)

    def depthwise(self, x: Value, multiplier: int = 1) -> Value:
        """A 3x3 depthwise convolution that keeps the size."""
        w = self.random(int(x.type.shape[1]) * multiplier, 1, 3, 3)
        return self.add(DepthwiseConv(pad=(1, 1, 1, 1)), x, w)

    def batchnorm(self, x: Value) -> Value:
        """A batch norm with variances around one."""
        c = int(x.type.shape[1])
        var = self.const(self.rng.uniform(0.5, 2, c).astype(np.float32))
        return self.add(BatchNorm(), x, self.random(c), self.random(c), self.random(c), var)

    def graph(self, *outputs: Value) -> Graph:
        """The graph that returns these values, without what they do not need."""
        constants = MappingProxyType(dict(self.constants))
        b = Builder(Graph("test", tuple(self.inputs), outputs, tuple(self.nodes), constants))
        for node in self.nodes:
            b.copy(node)
        return b.finish()


def graph_of(example: Example) -> Graph:
    """The example as a graph: the first input is fed, the others are constants."""
    arrays = (None, *example.operands[1:])
    values = tuple(
        ABSENT if a is None else Value(f"i{k}", array_type(a))
        for k, a in enumerate(example.operands)
    )
    constants = {
        v.name: Constant(a) for v, a in zip(values, arrays, strict=True) if a is not None
    }
    types = example.op.infer_node([v.type for v in values], arrays)
    names = ["y", *(f"y{k}" for k in range(1, len(types)))]
    outputs = tuple(Value(name, t) for name, t in zip(names, types, strict=True))
    node = Node(example.op, values, outputs, ("layer",))
    return Graph("example", values[:1], node.outputs, (node,), MappingProxyType(constants))


def feeds(graph: Graph, seed: int = 1) -> dict[str, Array]:
    """One random array for each input."""
    rng = np.random.default_rng(seed)
    return {v.name: rng.standard_normal(v.type.ints).astype(np.float32) for v in graph.inputs}


_STEPS = (
    "conv",
    "depthwise",
    "pad-conv",
    "batchnorm",
    "affine",
    "activation",
    "add",
    "concat",
    "pool",
    "identity",
    "transpose",
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random residual networks, with all that exporters leave lying around."""
    s = Sketch(1, 2, 6, 6, seed=draw(st.integers(0, 2**16)))
    values = [s.conv(s.x, draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(1, 7))):
        x = draw(st.sampled_from(values))
        values.append(_step(draw, s, x, values))
    last = values[-1]
    match draw(st.sampled_from(["conv", "head", "both"])):
        case "conv":
            return s.graph(s.conv(last, 3))
        case "head":
            return s.graph(_head(draw, s, last))
        case _:
            return s.graph(last, _head(draw, s, last))


def _step(draw: st.DrawFn, s: Sketch, x: Value, values: list[Value]) -> Value:
    match draw(st.sampled_from(_STEPS)):
        case "conv":
            return s.conv(x, draw(st.integers(1, 4)), bias=draw(st.booleans()))
        case "depthwise":
            return s.depthwise(x, draw(st.integers(1, 2)))
        case "pad-conv":
            value = draw(st.sampled_from([0.0, 0.0, 1.0]))
            padded = s.add(Pad((0, 0, 1, 0, 0, 0, 1, 2), value), x)
            return s.conv(padded, 2, op=Conv(pad=(0, 1, 0, 0), stride=(1, 2)))
        case "batchnorm":
            return s.batchnorm(x)
        case "affine":
            shape = draw(st.sampled_from([(), (1,), (int(x.type.shape[1]), 1, 1)]))
            k = s.random(*shape)
            if draw(st.booleans()):  # as exporters write it: computed in the graph
                k = s.add(Mul(), k, s.random())
            return s.add(draw(st.sampled_from([Mul(), Add()])), x, k)
        case "activation":
            ops = [Relu(), Clip(0.0, 6.0), Clip(-1.0, 1.0), Clip(high=0.5), Sigmoid()]
            return s.add(draw(st.sampled_from(ops)), x)
        case "add":
            same = [v for v in values if v.type == x.type]
            return s.add(Add(), x, draw(st.sampled_from(same)))
        case "concat":
            same = [v for v in values if v.type == x.type]
            return s.add(Concat(1), x, draw(st.sampled_from(same)))
        case "pool":
            pools: list[Op] = [
                MaxPool((2, 2), pad=(0, 0, 1, 1)),
                AveragePool((3, 3), pad=(1, 1, 1, 1)),
            ]
            return s.add(draw(st.sampled_from(pools)), x)
        case "identity":
            same_ops: list[Op] = [Identity(), Clip(), Pad((0,) * 8), Reshape(x.type.ints)]
            return s.add(draw(st.sampled_from([*same_ops, Concat(1)])), x)
        case _:
            turned = s.add(Transpose((0, 2, 3, 1)), x)
            back = draw(st.sampled_from([(0, 3, 1, 2), (0, 3, 2, 1)]))
            return s.add(Transpose(back), turned)


def _head(draw: st.DrawFn, s: Sketch, x: Value) -> Value:
    """A classifier: mean over the image, and a layer that exporters write in two nodes."""
    n, c, h, w = x.type.ints
    pool = draw(st.sampled_from([GlobalAveragePool(), AveragePool((h, w))]))
    flat = s.add(Reshape((n, -1)), s.add(pool, x))
    y = s.add(MatMul(), flat, s.random(c, 3))
    if draw(st.booleans()):
        y = s.add(Add(), y, s.random(3))
    if draw(st.booleans()):
        y = s.add(Mul(), y, s.random(3))
    return s.add(Relu(), y) if draw(st.booleans()) else y


def carries_activation(op: Op) -> bool:
    """Whether an operator has an activation of its own, which ONNX writes as a second node."""
    return getattr(op, "activation", Activation.NONE) is not Activation.NONE


def info(name: str, *shape: int | str | None, dtype: int = 1) -> onnx.ValueInfoProto:
    """The declaration of an ONNX value; float32 unless said otherwise."""
    return helper.make_tensor_value_info(name, dtype, list(shape))


def unranked(name: str, dtype: int = 1) -> onnx.ValueInfoProto:
    """The declaration of an ONNX value of which only the element type is known."""
    return helper.make_tensor_value_info(name, dtype, None)


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto | str],
    arrays: Mapping[str, Any] | None = None,
    *,
    opset: int = 18,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """An ONNX model; outputs may be given by name alone."""
    graph = helper.make_graph(
        nodes,
        "net",
        inputs,
        [unranked(o) if isinstance(o, str) else o for o in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (arrays or {}).items()],
    )
    imports = [helper.make_opsetid(d, v) for d, v in {"": opset, **(domains or {})}.items()]
    model = helper.make_model(graph, opset_imports=imports, functions=functions)
    model.ir_version = 8 if opset < 19 else 10
    return model


def save(model: onnx.ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    """Write a model into a folder and return its path."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path
