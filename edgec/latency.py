"""How long a graph will take on one thread, predicted from its shapes: no measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgec.cost import node_macs
from edgec.ir import Graph, Node
from edgec.ops import (
    Convolution,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    Gemm,
    Identity,
    MatMul,
    Quantize,
    Reshape,
)

__all__ = ["KERNELS", "Kernels", "kernels_for", "node_seconds", "predicted_seconds"]


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the kernels of one runtime take, in seconds.

    Each is a sum of products. Output channels are rounded up to `tile`, which is what a kernel
    computes at a time; what it reads again and again because windows overlap is counted for
    kernels larger than 1 x 1.

    Parameters
    ----------
    conv
        For each call, multiply-accumulate, output, input, weight, and element of all windows.
    depthwise
        For each call, multiply-accumulate, output and input.
    dense
        For each call and weight.
    other
        For each call and output, of any other operator.
    multiplied
        For each multiply-accumulate of a depthwise layer that makes several channels of each:
        other kernels than those for one compute that.
    """

    tile: int
    conv: tuple[float, ...]
    depthwise: tuple[float, ...]
    dense: tuple[float, ...]
    other: tuple[float, ...]
    multiplied: float


KERNELS: Mapping[tuple[str, bool], Kernels] = {
    ("tflite", False): Kernels(
        16,
        (0.0, 6.97e-12, 1.28e-10, 1.13e-10, 4.82e-11, 5.59e-11),
        (7.7e-8, 3.75e-11, 0.0, 8.87e-11),
        (5.2e-7, 4.96e-11),
        (5.8e-7, 5.84e-11),
        9.2e-11,
    ),
    ("tflite", True): Kernels(
        16,
        (6.56e-7, 1.72e-12, 1.31e-10, 3.54e-11, 4.52e-12, 1.28e-11),
        (5.39e-7, 2.03e-11, 7.85e-11, 3.58e-11),
        (4.7e-7, 5.61e-12),
        (5.1e-7, 8.23e-11),
        9.5e-11,
    ),
    ("onnxruntime", False): Kernels(
        16,
        (1.23e-6, 7.23e-12, 1.17e-10, 3.7e-12, 3.5e-11, 4.26e-11),
        (1.99e-6, 1.37e-11, 1.17e-10, 1.22e-11),
        (1.92e-6, 3.84e-11),
        (1.76e-6, 8.14e-11),
        6e-11,
    ),
    ("onnxruntime", True): Kernels(
        16,
        (6.13e-6, 1.69e-12, 1.15e-10, 3.69e-11, 1.06e-11, 5.11e-11),
        (6.72e-6, 1.35e-11, 1.03e-10, 4.32e-11),
        (2.91e-6, 1.25e-11),
        (2.42e-6, 8.65e-11),
        6.7e-10,
    ),
    ("microcontroller", False): Kernels(
        1,
        (1e-6, 2e-7, 2e-7, 0.0, 0.0, 0.0),
        (1e-6, 2e-7, 2e-7, 0.0),
        (1e-6, 2e-7),
        (1e-6, 1e-7),
        2e-7,
    ),
    ("microcontroller", True): Kernels(
        2,
        (3e-6, 1.0e-8, 8e-8, 2e-8, 0.0, 0.0),
        (3e-6, 1.2e-8, 6e-8, 2.5e-8),
        (3e-6, 1.3e-8),
        (1e-6, 1.0e-7),
        2.9e-8,
    ),
}
"""By target, and whether it computes on integers of 8 bits. Fitted to the layers of eight real
models, each alone, on an x86-64 with AVX-512 VNNI with LiteRT 2.3.0 and ONNX Runtime 1.31.1:
four of five are right within 20 percent. Other processors differ by a factor, which goes away
where two graphs are compared; and in how dear depthwise layers are, which does not. Those of
microcontrollers are instructions of the kernels for a Cortex-M4 of 120 MHz with 1.6 cycles
each: 0.75 for a multiply-accumulate, 0.9 for a depthwise one (2.2 with several results a
channel), and 6 for an output; in float32, which is portable C, 15 for a multiply-accumulate.
What several results a channel take is from layers as `factorize-separable` makes them:
other runtimes have no kernels as good for these."""


def kernels_for(target: str, graph: Graph, *, integers: bool) -> Kernels:
    """Return what the kernels of a target take that a graph will run on.

    Parameters
    ----------
    integers
        Whether the graph will be quantized. If not it may have come so: the kernels are those
        of most of its multiply-accumulates.
    """
    counts = {True: 0, False: 0}
    for node in graph.nodes:
        makers = [graph.producers.get(v) for v in node.inputs[:2]]
        both = all(made is not None and isinstance(made.op, Dequantize) for made in makers)
        counts[both] += node_macs(graph, node)
    return KERNELS[target, integers or counts[True] > counts[False]]


def predicted_seconds(graph: Graph, kernels: Kernels) -> float:
    """Return the seconds of one inference; of operators whose shapes are not known none."""
    return sum(node_seconds(node, kernels) for node in graph.nodes)


def node_seconds(node: Node, kernels: Kernels) -> float:
    """Return the seconds of one node; none if a shape is not known.

    Neither of those that only mark what is quantized: kernels read and write integers.
    """
    types = [v.type.bound() for v in (*node.inputs, *node.outputs) if not v.is_absent]
    free = isinstance(node.op, Reshape | Identity | Quantize | Dequantize)
    if free or not all(t.is_static for t in types):
        return 0.0
    made = node.outputs[0].type.bound().ints
    outputs, inputs = math.prod(made), math.prod(types[0].ints)
    match node.op:
        case Convolution():
            weight = node.inputs[1].type.ints
            places, window = math.prod(made[2:]), math.prod(weight[1:])
            work = places * math.ceil(weight[0] / kernels.tile) * kernels.tile * window
            if isinstance(node.op, DepthwiseConv):
                if weight[0] > types[0].ints[1]:
                    around = _sum(kernels.depthwise, (1, 0, outputs, inputs))
                    return around + kernels.multiplied * work
                counts: tuple[float, ...] = (1, work, outputs, inputs)
                return _sum(kernels.depthwise, counts)
            windows = places * window if math.prod(weight[2:]) > 1 else 0
            return _sum(kernels.conv, (1, work, outputs, inputs, math.prod(weight), windows))
        case FullyConnected() | Gemm() | MatMul():
            work = node.op.macs(types[: len(node.inputs)], types[len(node.inputs) :])
            rows = math.prod(made[:-1])
            # One row waits for the weights; with many the multiplications take the time.
            return _sum(kernels.dense, (1, work // max(rows, 1))) + kernels.conv[1] * work
        case _:
            return _sum(kernels.other, (1, outputs))


def _sum(costs: tuple[float, ...], counts: tuple[float, ...]) -> float:
    return sum(cost * count for cost, count in zip(costs, counts, strict=True))
