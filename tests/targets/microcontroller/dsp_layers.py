"""Small layers of int8 with random numbers, and what they have to give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.ir import DType, QuantParams
from edgec.program import Layer, Tensor
from edgec.program.operators import (
    Activation,
    Add,
    Conv,
    DepthwiseConv,
    FullyConnected,
    Operator,
    Pads,
    Pair,
)
from edgec.targets.microcontroller.kernels.requantization import (
    Multiplier,
    Requantization,
    output_range,
)

Ints = npt.NDArray[np.int64]
Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Shape:
    """A convolution over a picture."""

    height: int
    width: int
    channels: int
    filters: int
    kernel: Pair = (1, 1)
    strides: Pair = (1, 1)
    pads: Pads = ((0, 0), (0, 0))
    dilations: Pair = (1, 1)
    activation: Activation = "relu"
    depthwise: bool = False
    least: int = -127
    """Of the weights."""

    @property
    def result(self) -> tuple[int, int]:
        """Rows and columns."""
        found = [
            (size + sum(pads) - (k - 1) * dilation - 1) // stride + 1
            for size, pads, k, dilation, stride in zip(
                (self.height, self.width),
                self.pads,
                self.kernel,
                self.dilations,
                self.strides,
                strict=True,
            )
        ]
        return found[0], found[1]

    def __str__(self) -> str:
        kind = "depthwise" if self.depthwise else "conv"
        kh, kw = self.kernel
        return (
            f"{kind}-{self.height}x{self.width}x{self.channels}-{self.filters}-{kh}x{kw}"
            f"-s{self.strides[0]}{self.strides[1]}-p{self.pads}-{self.activation}"
        ).replace(" ", "")


def _activations(name: str, shape: tuple[int, ...], scale: float, zero: int) -> Tensor:
    return Tensor(name, DType.INT8, shape, QuantParams((scale,), (zero,)))


def _weights(rng: np.random.Generator, shape: tuple[int, ...], axis: int, least: int) -> Tensor:
    scales = tuple(float(np.float32(s)) for s in rng.uniform(0.002, 0.02, shape[axis]))
    grid = QuantParams(scales, (0,) * len(scales), axis if len(scales) > 1 else None)
    data = rng.integers(least, 128, shape).astype(np.int8)
    return Tensor("weights", DType.INT8, shape, grid, data)


def _layer(
    op: Operator, x: Tensor, weights: Tensor, y_shape: tuple[int, ...], rng: np.random.Generator
) -> Layer:
    filters = y_shape[-1]
    bias = rng.integers(-3000, 3000, filters).astype(np.int32)
    relu = getattr(op, "activation", "none") != "none"
    depth = weights.size // filters if not isinstance(op, DepthwiseConv) else 9
    scale = float(np.float32(0.02 * 0.011 * 74 * 40 * np.sqrt(depth) / 127))
    y = _activations("y", y_shape, scale, -128 if relu else 7)
    biases = Tensor("bias", DType.INT32, (filters,), None, bias)
    return Layer(op, (x, weights, biases), (y,), "layer")


def conv_layer(shape: Shape, seed: int = 0) -> Layer:
    """Return a convolution, depthwise if the shape says so."""
    rng = np.random.default_rng(seed)
    x = _activations("x", (1, shape.height, shape.width, shape.channels), 0.02, -5)
    window = (shape.strides, shape.pads, shape.activation)
    result = (1, *shape.result, shape.filters)
    if shape.depthwise:
        weights = _weights(rng, (1, *shape.kernel, shape.filters), 3, shape.least)
        return _layer(DepthwiseConv(*window, shape.dilations), x, weights, result, rng)
    weights = _weights(rng, (shape.filters, *shape.kernel, shape.channels), 0, shape.least)
    return _layer(Conv(*window, shape.dilations), x, weights, result, rng)


def dense_layer(
    rows: int, inputs: int, filters: int, activation: Activation = "none", least: int = -127
) -> Layer:
    """Return a fully connected layer."""
    rng = np.random.default_rng(rows + inputs + filters)
    x = _activations("x", (rows, inputs), 0.02, 11)
    weights = _weights(rng, (filters, inputs), 0, least)
    return _layer(FullyConnected(activation), x, weights, (rows, filters), rng)


def add_layer(
    size: int,
    scales: tuple[float, float, float] = (0.05, 0.09, 0.11),
    zeros: tuple[int, int, int] = (-128, 4, -128),
    activation: Activation = "relu",
) -> Layer:
    """Return a sum of two tensors."""
    grids = zip("aby", scales, zeros, strict=True)
    a, b, y = (_activations(n, (1, size), float(np.float32(s)), z) for n, s, z in grids)
    return Layer(Add(activation), (a, b), (y,), "layer")


def sum_of(layer: Layer, a: int, b: int) -> int:
    """Return one sum as TFLite Micro computes it, a step after the other."""
    scales = [t.scale for t in (layer.input(0), layer.input(1), layer.output)]
    twice = 2 * max(scales[:2])
    shifted = [(v - layer.input(k).zero_point) << 20 for k, v in enumerate((a, b))]
    parts = [
        int(Multiplier.of(s / twice).times(v)) for s, v in zip(scales[:2], shifted, strict=True)
    ]
    total = int(Multiplier.of(twice / (2**20 * scales[2])).times(sum(parts)))
    assert isinstance(layer.op, Add)
    least, greatest = output_range(layer.op.activation, layer.output)
    return min(max(total + layer.output.zero_point, least), greatest)


def random_inputs(layer: Layer, seed: int = 0) -> list[Int8]:
    """Return numbers for the operands that are computed, all values of int8 among them."""
    rng = np.random.default_rng(seed)
    given = [t for t in layer.inputs if t is not None and t.data is None]
    return [rng.integers(-128, 128, t.shape).astype(np.int8) for t in given]


def expected(layer: Layer, x: Int8) -> Int8:
    """Return the exact result of a convolution or a fully connected layer."""
    op, weights, bias = layer.op, layer.input(1).data, layer.input(2).data
    assert weights is not None
    assert bias is not None
    assert isinstance(op, Conv | DepthwiseConv | FullyConnected)
    w, zero = weights.astype(np.int64), layer.input(0).zero_point
    shape = layer.output.shape
    if isinstance(op, FullyConnected):
        sums: Ints = (x.astype(np.int64) - zero) @ w.T
    else:
        sums = np.zeros(shape[1:], np.int64)
        (top, bottom), (left, right) = op.pads
        padded = np.pad(x[0].astype(np.int64) - zero, ((top, bottom), (left, right), (0, 0)))
        for ky in range(w.shape[1]):
            for kx in range(w.shape[2]):
                below = padded[ky * op.dilations[0] :, kx * op.dilations[1] :]
                part = below[:: op.strides[0], :: op.strides[1]][: shape[1], : shape[2]]
                if isinstance(op, DepthwiseConv):
                    filters = shape[-1] // part.shape[-1]
                    sums += np.repeat(part, filters, -1) * w[0, ky, kx]
                else:
                    sums += part @ w[:, ky, kx].T
    requantization = Requantization.of(layer, op.activation)
    return requantization(sums + bias.astype(np.int64)).astype(np.int8).reshape(shape)
