"""Small models for emulated cores."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType, QuantParams
from tests.program.files import Sketch

__all__ = ["constant_network", "float_network", "residual_network"]


def residual_network() -> bytes:
    """A convolution, another added to it, and a dense layer; two inputs."""
    sketch = Sketch(7)
    x = sketch.input(1, 6, 6, 4, name="image")
    other = sketch.input(1, 6, 6, 8, name="other")
    first = sketch.value(1, 6, 6, 8, name="net/first")
    same = {"padding": 0, "strideH": 1, "strideW": 1, "fusedActivationFunction": 1}
    weights = sketch.weights(8, 3, 3, 4, axis=0)
    sketch.op("CONV_2D", [x, weights, sketch.bias(8)], [first], "Conv2D", same)
    second = sketch.value(1, 6, 6, 8, name="net/second")
    weights = sketch.weights(8, 1, 1, 8, axis=0)
    sketch.op("CONV_2D", [first, weights, sketch.bias(8)], [second], "Conv2D", same)
    total = sketch.value(1, 6, 6, 8, name="net/sum")
    sketch.op("ADD", [second, other], [total], "Add", {})
    flat = sketch.value(1, 288, name="net/flat")
    sketch.op("RESHAPE", [total, sketch.ints(1, 288)], [flat])
    logits = sketch.value(1, 3, grid=QuantParams((0.25,), (4,)), name="net/logits")
    dense = [flat, sketch.weights(3, 288), sketch.constant(np.array([5, 6, 7], np.int32), None)]
    sketch.op("FULLY_CONNECTED", dense, [logits], "FullyConnected", {})
    return sketch.data(logits)


def constant_network() -> bytes:
    """Two convolutions, of the first of which half the channels are 0 for every input."""
    sketch = Sketch(9)
    x = sketch.input(1, 4, 4, 4, name="image")
    first = sketch.value(1, 4, 4, 8, name="net/first")
    bias = np.array([100] * 4 + [-10_000_000] * 4, np.int32)
    options = {"padding": 0, "strideH": 1, "strideW": 1, "fusedActivationFunction": 1}
    operands = [x, sketch.weights(8, 1, 1, 4, axis=0), sketch.constant(bias)]
    sketch.op("CONV_2D", operands, [first], "Conv2D", options)
    second = sketch.value(1, 4, 4, 4, name="net/second")
    operands = [first, sketch.weights(4, 1, 1, 8, axis=0), sketch.bias(4)]
    sketch.op("CONV_2D", operands, [second], "Conv2D", options)
    return sketch.data(second)


def float_network() -> bytes:
    """A dense layer of real numbers."""
    sketch = Sketch(8)
    x = sketch.value(1, 8, dtype=DType.FLOAT32, grid=None, name="x")
    sketch.model.inputs.append(("x", x))
    y = sketch.value(1, 3, dtype=DType.FLOAT32, grid=None, name="y")
    weights = sketch.constant(sketch.rng.standard_normal((3, 8)).astype(np.float32))
    sketch.op("FULLY_CONNECTED", [x, weights, -1], [y], "FullyConnected", {})
    return sketch.data(y)
