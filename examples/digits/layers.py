"""The layers of a small convolutional net, in numpy: forward, backward, and as ONNX.

All arrays are float32 and images are NCHW. Capitals in shapes: N samples, C channels, IC and
OC input and output channels, H and W rows and columns, K the side of a kernel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = [
    "Array",
    "BatchNorm",
    "Chain",
    "Conv",
    "Dense",
    "DepthwiseConv",
    "Dropout",
    "GlobalAveragePool",
    "Layer",
    "OnnxWriter",
    "Parameter",
    "Relu",
    "Residual",
]

Array: TypeAlias = NDArray[np.float32]


@dataclass(slots=True)
class Parameter:
    """An array that training changes.

    Parameters
    ----------
    value
        Its present value.
    decays
        Whether weight decay pulls it to zero: weights yes, biases and normalisation no.
    """

    value: Array
    decays: bool = True
    gradient: Array = field(init=False)
    velocity: Array = field(init=False)

    def __post_init__(self) -> None:
        self.gradient = np.zeros_like(self.value)
        self.velocity = np.zeros_like(self.value)

    def step(self, rate: float, momentum: float, decay: float) -> None:
        """Descend: ``velocity = momentum * velocity - rate * (gradient + decay * value)``."""
        slope = self.gradient + decay * self.value if self.decays else self.gradient
        self.velocity = momentum * self.velocity - rate * slope
        self.value += self.velocity


class OnnxWriter:
    """The nodes and constants of an ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(
        self, op_type: str, name: str, *inputs: str, output: str = "", **attributes: Any
    ) -> str:
        """Add a node with one output and return the name of that output."""
        output = output or f"{name}_output"
        self.nodes.append(
            helper.make_node(op_type, list(inputs), [output], name=name, **attributes)
        )
        return output

    def constant(self, name: str, value: Array) -> str:
        """Add an initializer and return its name."""
        self.initializers.append(numpy_helper.from_array(value, name))
        return name


class Layer(ABC):
    """A differentiable function from one array to one array."""

    parameters: tuple[Parameter, ...] = ()

    @abstractmethod
    def forward(self, x: Array, *, training: bool) -> Array:
        """Compute the output, and in training keep what `backward` needs."""

    @abstractmethod
    def backward(self, dy: Array) -> Array:
        """Set the gradients of the parameters; return the gradient of the input.

        Parameters
        ----------
        dy
            Gradient of the loss by the output of the last `forward`.
        """

    @abstractmethod
    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add the nodes of this layer, applied to the value `x`; return their output."""


class Conv(Layer):
    """Convolution without bias, padded on all four sides by ``(K - 1) / 2``.

    The windows become rows of a matrix (im2col), which makes it one product:
    ``y [N*OH*OW, OC] = windows [N*OH*OW, IC*K*K] @ w [OC, IC*K*K].T``.
    """

    def __init__(
        self, name: str, ic: int, oc: int, kernel: int, rng: np.random.Generator
    ) -> None:
        self.name = name
        self.pad = (kernel - 1) // 2
        self.w = Parameter(_he_normal(rng, (oc, ic, kernel, kernel)))
        self.parameters = (self.w,)

    def forward(self, x: Array, *, training: bool) -> Array:
        """``y = windows @ w.T``; x [N, IC, H, W], y [N, OC, H, W]."""
        oc, _, kernel, _ = self.w.value.shape
        n, _, h, w = x.shape
        windows = np.lib.stride_tricks.sliding_window_view(
            _padded(x, self.pad), (kernel, kernel), axis=(2, 3)
        )
        self.rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, -1)
        y: Array = self.rows @ self.w.value.reshape(oc, -1).T
        return y.reshape(n, h, w, oc).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        """``dw = dy.T @ windows``; ``dwindows = dy @ w``, summed where windows overlap."""
        oc, ic, kernel, _ = self.w.value.shape
        n, _, h, w = dy.shape
        dy_rows = dy.transpose(0, 2, 3, 1).reshape(-1, oc)
        self.w.gradient = (dy_rows.T @ self.rows).reshape(self.w.value.shape)
        dwindows = (dy_rows @ self.w.value.reshape(oc, -1)).reshape(n, h, w, ic, kernel, kernel)
        dwindows = dwindows.transpose(0, 3, 1, 2, 4, 5)
        dx = np.zeros((n, ic, h + 2 * self.pad, w + 2 * self.pad), np.float32)
        for i, j in np.ndindex(kernel, kernel):
            dx[:, :, i : i + h, j : j + w] += dwindows[..., i, j]
        return dx[:, :, self.pad : self.pad + h, self.pad : self.pad + w]

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add a ``Conv``."""
        w = writer.constant(f"{self.name}.weight", self.w.value)
        kernel = self.w.value.shape[2]
        return writer.node(
            "Conv", self.name, x, w, kernel_shape=[kernel, kernel], pads=[self.pad] * 4
        )


class DepthwiseConv(Layer):
    """3x3 convolution of each channel by itself, every second window, padded by 1.

    ``y[n, c, h, w] = sum over i, j of x[n, c, 2h + i - 1, 2w + j - 1] * w[c, 0, i, j]``
    """

    def __init__(self, name: str, channels: int, rng: np.random.Generator) -> None:
        self.name = name
        self.w = Parameter(_he_normal(rng, (channels, 1, 3, 3)))
        self.parameters = (self.w,)

    def forward(self, x: Array, *, training: bool) -> Array:
        """Sum the nine shifted images; x [N, C, H, W], y [N, C, H/2, W/2], H and W even."""
        n, c, h, w = x.shape
        self.padded = _padded(x, 1)
        y = np.zeros((n, c, h // 2, w // 2), np.float32)
        for i, j in np.ndindex(3, 3):
            y += self.padded[:, :, i : i + h : 2, j : j + w : 2] * self._tap(i, j)
        return y

    def backward(self, dy: Array) -> Array:
        """Each tap: ``dw = sum of dy * its image``; ``dx += dy * w`` where it looked."""
        h, w = 2 * dy.shape[2], 2 * dy.shape[3]
        dx = np.zeros_like(self.padded)
        for i, j in np.ndindex(3, 3):
            seen = np.s_[:, :, i : i + h : 2, j : j + w : 2]
            self.w.gradient[:, 0, i, j] = (dy * self.padded[seen]).sum(axis=(0, 2, 3))
            dx[seen] += dy * self._tap(i, j)
        return dx[:, :, 1:-1, 1:-1]

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add a ``Conv`` with as many groups as channels."""
        w = writer.constant(f"{self.name}.weight", self.w.value)
        return writer.node(
            "Conv",
            self.name,
            x,
            w,
            group=self.w.value.shape[0],
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            strides=[2, 2],
        )

    def _tap(self, i: int, j: int) -> Array:
        return self.w.value[:, 0, i, j].reshape(1, -1, 1, 1)


class BatchNorm(Layer):
    """``y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`` for each channel.

    Training takes the moments of the batch and follows them with a running average, which is
    what inference uses.

    References
    ----------
    Ioffe and Szegedy, arXiv:1502.03167, section 3.
    """

    epsilon = 1e-5
    momentum = 0.9

    def __init__(self, name: str, channels: int) -> None:
        self.name = name
        self.gamma = Parameter(np.ones(channels, np.float32), decays=False)
        self.beta = Parameter(np.zeros(channels, np.float32), decays=False)
        self.parameters = (self.gamma, self.beta)
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)

    def forward(self, x: Array, *, training: bool) -> Array:
        """Normalise with the batch's moments in training, else the running ones."""
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
            self.mean = self.momentum * self.mean + (1 - self.momentum) * mean
            self.variance = self.momentum * self.variance + (1 - self.momentum) * variance
        self.scale = 1 / np.sqrt(_per_channel(variance) + self.epsilon)
        self.normal = (x - _per_channel(mean)) * self.scale
        y: Array = self.normal * _per_channel(self.gamma.value) + _per_channel(self.beta.value)
        return y

    def backward(self, dy: Array) -> Array:
        """``dx = gamma * scale * (dy - mean(dy) - normal * mean(dy * normal))``."""
        count = dy.size // dy.shape[1]
        self.gamma.gradient = (dy * self.normal).sum(axis=(0, 2, 3))
        self.beta.gradient = dy.sum(axis=(0, 2, 3))
        centred = dy - _per_channel(self.beta.gradient / count)
        centred -= self.normal * _per_channel(self.gamma.gradient / count)
        dx: Array = _per_channel(self.gamma.value) * self.scale * centred
        return dx

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add a ``BatchNormalization``, not folded into what comes before."""
        constants = [
            writer.constant(f"{self.name}.scale", self.gamma.value),
            writer.constant(f"{self.name}.bias", self.beta.value),
            writer.constant(f"{self.name}.mean", self.mean),
            writer.constant(f"{self.name}.variance", self.variance),
        ]
        return writer.node("BatchNormalization", self.name, x, *constants, epsilon=self.epsilon)


class Relu(Layer):
    """``y = min(max(x, 0), limit)``."""

    def __init__(self, name: str, limit: float = math.inf) -> None:
        self.name = name
        self.limit = limit

    def forward(self, x: Array, *, training: bool) -> Array:
        """Clip `x`."""
        self.passed = (x > 0) & (x < self.limit)
        return np.clip(x, 0, self.limit)

    def backward(self, dy: Array) -> Array:
        """Let the gradient through where nothing was clipped."""
        return dy * self.passed

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add a ``Relu``, or a ``Clip`` if there is a limit."""
        if self.limit == math.inf:
            return writer.node("Relu", self.name, x)
        low = writer.constant(f"{self.name}.min", np.array(0, np.float32))
        high = writer.constant(f"{self.name}.max", np.array(self.limit, np.float32))
        return writer.node("Clip", self.name, x, low, high)


class GlobalAveragePool(Layer):
    """The mean of each channel, flattened: x [N, C, H, W], y [N, C]."""

    def __init__(self, pool: str, flatten: str) -> None:
        self.pool = pool
        self.flatten = flatten

    def forward(self, x: Array, *, training: bool) -> Array:
        """Average over rows and columns."""
        self.shape = x.shape
        y: Array = x.mean(axis=(2, 3))
        return y

    def backward(self, dy: Array) -> Array:
        """Spread the gradient evenly."""
        _, _, h, w = self.shape
        return np.broadcast_to(dy[:, :, None, None] / (h * w), self.shape)

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add a ``GlobalAveragePool`` and a ``Flatten``."""
        return writer.node(
            "Flatten", self.flatten, writer.node("GlobalAveragePool", self.pool, x)
        )


class Dropout(Layer):
    """Training zeroes a random share of `x` and scales up the rest; inference does nothing."""

    def __init__(self, name: str, share: float, rng: np.random.Generator) -> None:
        self.name = name
        self.share = share
        self.rng = rng

    def forward(self, x: Array, *, training: bool) -> Array:
        """``y = x * mask``, the mask having mean one."""
        if not training:
            return x
        kept = self.rng.random(x.shape, np.float32) >= self.share
        self.mask = kept.astype(np.float32) / (1 - self.share)
        return x * self.mask

    def backward(self, dy: Array) -> Array:
        """``dx = dy * mask``."""
        return dy * self.mask

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add an ``Identity``, which is what exporters leave of a dropout."""
        return writer.node("Identity", self.name, x)


class Dense(Layer):
    """``y = x @ w + b``; x [N, IC], w [IC, OC], b [OC]."""

    def __init__(
        self, matmul: str, bias: str, ic: int, oc: int, rng: np.random.Generator
    ) -> None:
        self.matmul = matmul
        self.bias = bias
        self.w = Parameter(rng.standard_normal((ic, oc), np.float32) / math.sqrt(ic))
        self.b = Parameter(np.zeros(oc, np.float32), decays=False)
        self.parameters = (self.w, self.b)

    def forward(self, x: Array, *, training: bool) -> Array:
        """``y = x @ w + b``."""
        self.x = x
        y: Array = x @ self.w.value + self.b.value
        return y

    def backward(self, dy: Array) -> Array:
        """``dw = x.T @ dy``, ``db = sum of dy``, ``dx = dy @ w.T``."""
        self.w.gradient = self.x.T @ dy
        self.b.gradient = dy.sum(axis=0)
        dx: Array = dy @ self.w.value.T
        return dx

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add a ``MatMul`` and an ``Add``."""
        w = writer.constant(f"{self.matmul}.weight", self.w.value)
        b = writer.constant(f"{self.bias}.value", self.b.value)
        return writer.node("Add", self.bias, writer.node("MatMul", self.matmul, x, w), b)


class Chain(Layer):
    """Layers one after the other."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers
        self.parameters = tuple(p for layer in layers for p in layer.parameters)

    def forward(self, x: Array, *, training: bool) -> Array:
        """Apply the first layer first."""
        for layer in self.layers:
            x = layer.forward(x, training=training)
        return x

    def backward(self, dy: Array) -> Array:
        """Go back from the last layer: the chain rule."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add the nodes of each layer."""
        for layer in self.layers:
            x = layer.export(x, writer)
        return x


class Residual(Layer):
    """``y = body(x) + x``."""

    def __init__(self, name: str, body: Layer) -> None:
        self.name = name
        self.body = body
        self.parameters = body.parameters

    def forward(self, x: Array, *, training: bool) -> Array:
        """``y = body(x) + x``."""
        return self.body.forward(x, training=training) + x

    def backward(self, dy: Array) -> Array:
        """``dx = body.backward(dy) + dy``."""
        return self.body.backward(dy) + dy

    def export(self, x: str, writer: OnnxWriter) -> str:
        """Add the body and an ``Add``."""
        return writer.node("Add", self.name, self.body.export(x, writer), x)


def _he_normal(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Array:
    # Keeps the variance of activations through a rectifier: He et al., arXiv:1502.01852.
    return rng.standard_normal(shape, np.float32) * math.sqrt(2 / math.prod(shape[1:]))


def _padded(x: Array, pad: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def _per_channel(x: Array) -> Array:
    return x.reshape(1, -1, 1, 1)
