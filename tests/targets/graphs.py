"""Small graphs for the tests of calibration, quantization, targets and proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgec.calibration import Calibration, RangeMethod, calibrate
from edgec.ir import ABSENT, Array, Constant, DType, Graph, Node, Op, TensorType, Value, verify
from edgec.ops import (
    Activation,
    Add,
    Conv,
    FullyConnected,
    GlobalAveragePool,
    MaxPool,
    Reshape,
    Softmax,
)
from edgec.passes import QuantizeGraph, Scheme
from edgec.passes.quantization_plan import plan
from edgec.targets import Artifact, Runner, Target

__all__ = ["Net", "calibrated", "f32", "one_op", "quantized", "ran", "random", "tiny_cnn"]

Feeds = Mapping[str, Array]


def f32(values: Any) -> Array:
    return np.array(values, np.float32)


def random(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


class Net:
    """Writes a graph down node by node."""

    def __init__(self, dtype: DType = DType.FLOAT32, **inputs: tuple[int | str, ...]) -> None:
        self.values = {n: Value(n, TensorType(dtype, shape)) for n, shape in inputs.items()}
        self.inputs = tuple(self.values.values())
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []

    def const(self, name: str, array: Array) -> Value:
        constant = Constant(array)
        self.constants[name] = constant
        self.values[name] = Value(name, constant.type)
        return self.values[name]

    def add(self, name: str, op: Op, *operands: str | Array | None) -> str:
        """Add a node whose output is `name` and whose layer is ``name`` too.

        Further outputs are ``NAME1``, ``NAME2``, ….
        """
        values = [
            ABSENT
            if x is None
            else self.values[x]
            if isinstance(x, str)
            else self.const(f"{name}.{i}", x)
            for i, x in enumerate(operands)
        ]
        arrays = [self.constants[v.name].array if v.name in self.constants else None
                  for v in values]  # fmt: skip
        types = op.infer_node([v.type for v in values], arrays)
        outputs = tuple(Value(f"{name}{k or ''}", t) for k, t in enumerate(types))
        self.values.update({v.name: v for v in outputs})
        self.nodes.append(Node(op, tuple(values), outputs, (name,)))
        return name

    def graph(self, *outputs: str) -> Graph:
        made = Graph(
            "net",
            self.inputs,
            tuple(self.values[name] for name in outputs),
            tuple(self.nodes),
            self.constants,
        )
        verify(made)
        return made


def one_op(op: Op, *inputs: Array | None) -> tuple[Graph, dict[str, Array]]:
    """Return a graph of one node, whose first operand is fed, and what to feed."""
    first = inputs[0]
    assert first is not None
    net = Net(DType.of(first.dtype), x=first.shape)
    net.add("y", op, "x", *inputs[1:])
    return net.graph(*(v.name for v in net.nodes[0].outputs)), {"x": first}


def tiny_cnn() -> tuple[Graph, dict[str, Array]]:
    """Return conv + relu, add, max pool, mean, fully connected and softmax, and an input."""
    net = Net(image=(1, 3, 8, 8))
    relu = Activation.RELU
    net.add("conv1", Conv(pad=(1, 1, 1, 1), activation=relu), "image",
            random(4, 3, 3, 3, seed=1), random(4, seed=2))  # fmt: skip
    net.add("conv2", Conv(pad=(1, 1, 1, 1)), "conv1", random(4, 4, 3, 3, seed=3))
    net.add("add", Add(relu), "conv1", "conv2")
    net.add("pool", MaxPool((2, 2), (2, 2)), "add")
    net.add("mean", GlobalAveragePool(), "pool")
    net.add("flat", Reshape((1, 4)), "mean")
    net.add("scores", FullyConnected(), "flat", random(5, 4, seed=4) / 4, random(5, seed=5))
    net.add("classes", Softmax(), "scores")
    return net.graph("classes"), {"image": random(1, 3, 8, 8)}


def calibrated(graph: Graph, *feeds: Feeds, method: RangeMethod | None = None,
               keep_float: tuple[str, ...] = ()) -> Calibration:  # fmt: skip
    return calibrate(graph, plan(graph, keep_float).measured, feeds, method)


def quantized(graph: Graph, *feeds: Feeds, scheme: Scheme | None = None,
              keep_float: tuple[str, ...] = (), **fields: Any) -> Graph:  # fmt: skip
    """Return the QDQ graph with the ranges of exactly these samples."""
    found = calibrated(graph, *feeds, keep_float=keep_float)
    made = QuantizeGraph(found, scheme or Scheme(), keep_float, **fields).run(graph)
    verify(made)
    return made


def ran(
    target: Target, graph: Graph, feeds: Feeds
) -> tuple[dict[str, Array], Artifact, Runner]:
    """Compile, load and run."""
    artifact = target.compile(graph)
    runner = target.load(artifact)
    return runner.run(feeds), artifact, runner
