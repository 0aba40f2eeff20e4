"""Small int8 networks at random, of which some channels never change."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from edgec.ir import QuantParams
from tests.program.files import Sketch

__all__ = ["networks", "sketches"]

_KINDS = ("conv", "depthwise", "pool", "add", "concat", "pad", "relu", "point")
_FATES = (-(1 << 26), 1 << 26, 0, 0, 0, 0, 0, 0)
"""What biases push channels to: the bottom, the top, or nowhere."""


def networks() -> st.SearchStrategy[bytes]:
    """A file with a chain of layers, some of which fork and join again."""
    return sketches().map(lambda s: s.data(*(k for _, k in s.model.outputs)))


@st.composite
def sketches(draw: st.DrawFn, biased: bool = False) -> Sketch:
    """Such a file before it is written; all layers have biases if all have to."""
    net = _Net(draw(st.integers(0, 2**32 - 1)), biased)
    x = net.s.input(1, draw(st.integers(3, 6)), draw(st.integers(3, 6)), net.count())
    for kind in draw(st.lists(st.sampled_from(_KINDS), min_size=2, max_size=6)):
        x = getattr(net, kind)(x)
    end = draw(st.sampled_from(("picture", "dense", "flat", "mean")))
    if end in ("flat", "dense"):
        x = net.dense(net.flat(x) if end == "flat" else x)
    elif end == "mean":
        x = net.dense(net.mean(x))
    else:
        x = net.conv(x)
    net.s.model.outputs = [("y", x)]
    return net.s


class _Net:
    def __init__(self, seed: int, biased: bool = False) -> None:
        self.s, self.biased = Sketch(seed), biased
        self.rng = self.s.rng

    def count(self) -> int:
        return int(self.rng.integers(3, 10))

    def shape(self, x: int) -> tuple[int, ...]:
        return self.s.model.tensors[x].shape

    def scale(self, x: int) -> float:
        grid = self.s.model.tensors[x].quant
        assert grid is not None
        return grid.scale[0]

    def value(self, shape: tuple[int, ...], scale: float) -> int:
        zero = int(self.rng.choice([-128, -128, -20, 0, 5, 40]))
        return self.s.value(*shape, grid=QuantParams((float(np.float32(scale)),), (zero,)))

    def weighted(self, x: int, y: tuple[int, ...], w: tuple[int, ...], axis: int) -> list[int]:
        """Weights, biases and result of a layer; some weights of some channels are 0."""
        array = self.rng.integers(-127, 128, w).astype(np.int8)
        array[..., self.rng.random(w[-1]) < 0.1] = 0
        count, products = w[axis], array.size // w[axis]
        wanted = float(self.rng.uniform(0.02, 0.2))  # of the result, so that it is in use
        most = wanted / (73 * 40 / 50 * math.sqrt(products) * self.scale(x))
        scales = tuple(float(np.float32(a)) for a in self.rng.uniform(0.2, 1, count) * most)
        bias = self.rng.integers(-999, 999, count) + self.rng.choice(_FATES, count)
        if self.rng.random() < 0.3:
            scales = scales[:1]
        grid = QuantParams(scales, (0,) * len(scales), axis if len(scales) > 1 else None)
        operands = [x, self.s.constant(array, grid)]
        if self.rng.random() < 0.85 or self.biased:
            products_of = tuple(float(np.float32(self.scale(x) * s)) for s in scales)
            sums = QuantParams(products_of, grid.zero_point, None if grid.axis is None else 0)
            operands.append(self.s.constant(bias.astype(np.int32), sums))
        return [*operands, self.value(y, wanted)]

    def activation(self) -> dict[str, int]:
        return {"fusedActivationFunction": int(self.rng.choice([0, 1, 3]))}

    def window(self, x: int, size: int) -> tuple[dict[str, int], list[int]]:
        """Options of a window, and how large its result is."""
        stride, valid = int(self.rng.integers(1, 3)), bool(self.rng.random() < 0.5)
        lengths = self.shape(x)[1:3]
        valid = valid and min(lengths) >= size
        room = [n - size + 1 if valid else n for n in lengths]
        options = {"strideH": stride, "strideW": stride, "padding": int(valid)}
        return options, [-(-n // stride) for n in room]

    def conv(self, x: int, size: int = 0, channels: int = 0) -> int:
        size = size or int(self.rng.integers(1, 4))
        options, lengths = self.window(x, size)
        count = channels or self.count()
        *operands, y = self.weighted(
            x, (1, *lengths, count), (count, size, size, self.shape(x)[3]), 0
        )
        dilations = {"dilationHFactor": 1, "dilationWFactor": 1}
        self.s.op(
            "CONV_2D", operands, [y], "Conv2D", {**options, **dilations, **self.activation()}
        )
        return y

    def point(self, x: int) -> int:
        return self.conv(x, 1)

    def depthwise(self, x: int) -> int:
        size, times = int(self.rng.integers(1, 4)), int(self.rng.choice([1, 1, 2]))
        options, lengths = self.window(x, size)
        count = times * self.shape(x)[3]
        *operands, y = self.weighted(x, (1, *lengths, count), (1, size, size, count), 3)
        more = {"dilationHFactor": 1, "dilationWFactor": 1, "depthMultiplier": times}
        self.s.op("DEPTHWISE_CONV_2D", operands, [y], "DepthwiseConv2D",
                  {**options, **more, **self.activation()})  # fmt: skip
        return y

    def pool(self, x: int) -> int:
        size = int(self.rng.integers(1, 4))
        options, lengths = self.window(x, size)
        y = self.alike(x, (1, *lengths, self.shape(x)[3]))
        code = str(self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
        windows = {"filterHeight": size, "filterWidth": size}
        self.s.op(code, [x], [y], "Pool2D", {**options, **windows, **self.activation()})
        return y

    def alike(self, x: int, shape: tuple[int, ...]) -> int:
        """A result on the same grid."""
        return self.s.value(*shape, grid=self.s.model.tensors[x].quant)

    def add(self, x: int) -> int:
        a = self.conv(x)
        size = 1
        options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        other = int(self.rng.integers(3))
        if other == 0:
            b = self.s.constant(
                self.rng.integers(-99, 99, self.shape(a)[3]).astype(np.int8),
                QuantParams((0.25,), (3,)),
            )
        else:
            *operands, b = self.weighted(
                a, self.shape(a), (self.shape(a)[3], size, size, self.shape(a)[3]), 0
            )
            self.s.op("CONV_2D", operands, [b], "Conv2D", options)
        y = self.value(self.shape(a), 2 * max(self.scale(a), self.scale(b)))
        self.s.op("ADD", [a, b], [y], "Add", self.activation())
        return y

    def concat(self, x: int) -> int:
        a = self.conv(x, 1)
        b = self.pool(a) if self.rng.random() < 0.5 else self.alike(a, self.shape(a))
        if self.shape(b) != self.shape(a):
            return a
        if not any(b in op.outputs for op in self.s.model.operators):
            self.s.op("RELU", [a], [b])
        axis = int(self.rng.choice([2, 3]))
        shape = list(self.shape(a))
        shape[axis] *= 2
        y = self.alike(a, tuple(shape))
        self.s.op("CONCATENATION", [a, b], [y], "Concatenation", {"axis": axis})
        return y

    def pad(self, x: int) -> int:
        shape = self.shape(x)
        pads = self.rng.integers(0, 2, (4, 2)).astype(np.int32)
        pads[[0, 3]] = 0
        y = self.alike(x, tuple(d + int(p.sum()) for d, p in zip(shape, pads, strict=True)))
        self.s.op("PAD", [x, self.s.constant(pads)], [y], "Pad")
        return y

    def relu(self, x: int) -> int:
        y = self.alike(x, self.shape(x))
        self.s.op("RELU", [x], [y])
        return y

    def flat(self, x: int) -> int:
        y = self.alike(x, (1, math.prod(self.shape(x))))
        self.s.op("RESHAPE", [x, self.s.ints(1, -1)], [y], "Reshape")
        return y

    def mean(self, x: int) -> int:
        y = self.value((1, self.shape(x)[3]), self.scale(x))
        self.s.op("MEAN", [x, self.s.ints(1, 2)], [y], "Reducer", {"keepDims": False})
        return y

    def dense(self, x: int) -> int:
        count, depth = self.count(), math.prod(self.shape(x))
        *operands, y = self.weighted(x, (1, count), (count, depth), 0)
        self.s.op("FULLY_CONNECTED", operands, [y], "FullyConnected", self.activation())
        return y
