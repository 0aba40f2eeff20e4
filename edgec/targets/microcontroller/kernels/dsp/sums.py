"""What convolutions and matrix products have in common: weighted sums, with known bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Activation, Conv, DepthwiseConv, FullyConnected
from edgec.targets.microcontroller.kernels.base import Kind, Table
from edgec.targets.microcontroller.kernels.requantization import (
    Requantization,
    Rescaling,
    rescaling_of,
)

__all__ = ["Ints", "Sums", "Window"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of a layer, one for each filter.

    Parameters
    ----------
    weights
        ``[filters, …]``.
    biases
        As the file has them.
    zero
        What stands for zero in the input.
    low, high
        Bounds of the sums over all inputs.
    """

    weights: Ints
    biases: Ints
    zero: int
    requantization: Requantization
    low: Ints
    high: Ints

    @classmethod
    def of(cls, layer: Layer) -> Sums | None:
        """Return the sums of a layer of int8; ``None`` if it is something else."""
        x, y = layer.input(0), layer.output
        weights = layer.input(1)
        bias = layer.inputs[2] if len(layer.inputs) > 2 else None
        if not x.dtype == y.dtype == weights.dtype == DType.INT8 or weights.data is None:
            return None
        if x.grid is None or y.grid is None or weights.grid is None:
            return None
        if any(weights.grid.zero_point):
            return None
        if bias is not None and (bias.data is None or bias.dtype is not DType.INT32):
            return None
        op = layer.op
        array = weights.data.astype(np.int64)
        if isinstance(op, DepthwiseConv):
            array = np.moveaxis(array[0], -1, 0)
        elif not isinstance(op, Conv | FullyConnected):
            return None
        activation: Activation = op.activation
        flat = array.reshape(len(array), -1)
        given = bias.data if bias is not None and bias.data is not None else None
        biases = np.zeros(len(array), np.int64) if given is None else given.astype(np.int64)
        ends = np.array([-128, 127], np.int64) - x.zero_point
        products = flat[..., None] * ends
        return cls(
            array,
            biases,
            x.zero_point,
            Requantization.of(layer, activation),
            products.min(-1).sum(1) + biases,
            products.max(-1).sum(1) + biases,
        )

    @property
    def filters(self) -> int:
        """How many sums there are at each place."""
        return len(self.weights)

    def rescaling(self, scales: tuple[int, ...]) -> Rescaling | None:
        """Return an exact way to int8, if there is one."""
        return rescaling_of(self.requantization, self.low, self.high, scales)

    def biases_with(self, rescaling: Rescaling) -> Ints:
        """Return the biases for inputs as they are stored, whatever stands for zero."""
        inputs = tuple(range(1, self.weights.ndim))
        stored: Ints = self.biases - self.zero * self.weights.sum(inputs)
        return stored + np.array(rescaling.offsets, np.int64)

    def table(self, words: Ints, rescaling: Rescaling) -> Table:
        """Return words as a table, told by what they are for."""
        array = (words & 0xFFFFFFFF).astype(np.uint32)
        weights, biases = self.weights.size, 4 * self.filters
        constants = 4 * len(rescaling.words[0]) * self.filters
        rest = array.nbytes - weights - biases - constants
        kinds: dict[Kind, int] = {
            "weights": weights,
            "biases": biases,
            "requantization": constants,
            "other": rest,
        }
        return Table(array, kinds)


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of a convolution over a picture, channels last."""

    height: int
    width: int
    channels: int
    rows: int
    columns: int
    filters: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, layer: Layer) -> Window | None:
        """Return that of a layer; ``None`` for groups, batches and what is no convolution."""
        op = layer.op
        if not isinstance(op, Conv | DepthwiseConv):
            return None
        x, weights, y = layer.input(0), layer.input(1), layer.output
        if not len(x.shape) == len(weights.shape) == len(y.shape) == 4 or x.shape[0] != 1:
            return None
        if isinstance(op, Conv) and weights.shape[3] != x.shape[3]:
            return None
        if isinstance(op, DepthwiseConv) and weights.shape[3] % x.shape[3]:
            return None
        return cls(
            *x.shape[1:],
            *y.shape[1:],
            weights.shape[1:3],
            op.strides,
            op.dilations,
            op.pads,
        )

    @property
    def label(self) -> str:
        """For the names of functions; it says everything but the number of filters."""
        shapes = f"{self.height}x{self.width}x{self.channels}_{self.rows}x{self.columns}"
        kernel = f"{self.kernel[0]}x{self.kernel[1]}"
        steps = (*self.strides, *self.dilations, self.pads[0][0], self.pads[1][0])
        return f"{shapes}_{kernel}_{'_'.join(map(str, steps))}"

    @property
    def places(self) -> int:
        """Pixels of the result."""
        return self.rows * self.columns

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a convolution that is not depthwise."""
        kh, kw = self.kernel
        return self.places * self.filters * kh * kw * self.channels
