"""Windows over images: every way to pad, stride and dilate, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.evaluate import evaluate
from edgec.ir import Array, Graph
from edgec.ops import (
    Activation,
    AveragePool,
    Conv,
    Convolution,
    DepthwiseConv,
    GroupedConv,
    MaxPool,
    Pool,
    Relu,
)
from edgec.ops.window import Window, out_length
from edgec.targets import Tflite
from edgec.targets.tflite.padding import Padding, padding
from tests.targets.graphs import Net, one_op, quantized, ran, random
from tests.targets.test_tflite_conformance import assert_close, assert_steps

Pair = tuple[int, int]
Four = tuple[int, int, int, int]

pads = st.tuples(*[st.integers(0, 2)] * 4)
sizes = st.tuples(*[st.integers(3, 8)] * 2)
kernels = st.tuples(*[st.integers(1, 5)] * 2)
strides = st.tuples(*[st.integers(1, 3)] * 2)
dilations = st.tuples(*[st.integers(1, 2)] * 2)


def fits(size: Pair, kernel: Pair, dilation: Pair, pad: Four) -> bool:
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return all(size[i] + pad[i] + pad[i + 2] >= spans[i] for i in (0, 1))


def check(graph: Graph, x: Array, steps: float = 2) -> None:
    assert_close(graph, {"x": x})
    assert_steps(quantized(graph, {"x": x}), {"x": x}, steps)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(size=sizes, kernel=kernels, stride=strides, dilation=dilations, pad=pads,
       kind=st.sampled_from([Conv, DepthwiseConv]))  # fmt: skip
def test_convolutions(size: Pair, kernel: Pair, stride: Pair, dilation: Pair, pad: Four,
                      kind: type[Convolution]) -> None:  # fmt: skip
    if not fits(size, kernel, dilation, pad):
        return
    w = random(4, 1 if kind is DepthwiseConv else 2, *kernel, seed=1)
    op = kind(stride, pad, dilation)
    x = random(1, 2, *size)

    check(one_op(op, x, w, random(4, seed=2))[0], x)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(size=sizes, kernel=kernels, stride=strides, pad=pads, ceil=st.booleans(),
       kind=st.sampled_from([MaxPool, AveragePool]), counted=st.booleans())  # fmt: skip
def test_pools(size: Pair, kernel: Pair, stride: Pair, pad: Four, ceil: bool,
               kind: type[Pool], counted: bool) -> None:  # fmt: skip
    if not fits(size, kernel, (1, 1), pad) or any(pad[i] >= kernel[i % 2] for i in range(4)):
        return
    op = kind(kernel, stride, pad, ceil_mode=ceil)
    if isinstance(op, AveragePool):
        op = replace(op, count_include_pad=counted)
    x = random(1, 2, *size) - 3  # all negative: a zero from the padding would win
    graph, _ = one_op(op, x)
    if Tflite().check(graph):
        assert kind is AveragePool
        return
    if op.quant_rule() is None:  # stays in float
        assert_close(graph, {"x": x})
        return

    check(graph, x)


def test_all_averages_that_count_nothing_beyond_the_image_are_accepted() -> None:
    for size, kernel, stride, ceil in product((7, 8), (2, 3), (1, 2), (False, True)):
        op = AveragePool((kernel, kernel), (stride, stride), ceil_mode=ceil)
        graph, feeds = one_op(op, random(1, 2, size, size))
        if not ceil:
            assert not Tflite().check(graph)
        if not Tflite().check(graph):
            assert_close(graph, feeds)


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU, Activation.RELU6])
def test_padding_before_a_maximum_never_wins(activation: Activation) -> None:
    net = Net(x=(1, 2, 6, 6))
    net.add("front", Conv(activation=activation), "x", random(2, 2, 1, 1, seed=4))
    net.add("pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), "front")
    net.add("back", Conv(), "pool", random(2, 2, 1, 1, seed=5))
    graph = net.graph("back")

    check(graph, random(1, 2, 6, 6) - 3, 3)
    operators = Tflite().compile(graph).operators
    assert ("PADV2" in operators) == (activation is Activation.NONE)
    assert ("PAD" in operators) == (activation is not Activation.NONE)


def test_same_padding_is_left_to_the_operator() -> None:
    op = Conv(stride=(2, 2), pad=(0, 0, 1, 1))
    graph, _ = one_op(op, random(1, 3, 8, 8), random(4, 3, 3, 3))

    assert "PAD" not in Tflite().compile(graph).operators


@pytest.mark.parametrize("groups", [2, 3])
def test_grouped_convolutions(groups: int) -> None:
    w = random(6, 6 // groups, 3, 3, seed=1)
    x = random(1, 6, 5, 6)

    check(one_op(GroupedConv(pad=(1, 1, 1, 1), groups=groups), x, w)[0], x)


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_depthwise_multipliers(multiplier: int) -> None:
    w = random(3 * multiplier, 1, 3, 3, seed=1)
    x = random(1, 3, 5, 6)
    graph, _ = one_op(DepthwiseConv(pad=(1, 1, 1, 1)), x, w, random(3 * multiplier))

    check(graph, x)
    assert ran(Tflite(), graph, {"x": x})[1].operators["DEPTHWISE_CONV_2D"] == 1


def test_a_standalone_relu_leads_to_a_positive_pool() -> None:
    net = Net(x=(1, 2, 6, 6))
    net.add("relu", Relu(), "x")
    net.add("pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), "relu")

    check(net.graph("pool"), random(1, 2, 6, 6), 3)


@given(size=sizes, kernel=kernels, stride=strides, dilation=dilations, pad=pads)
def test_padding_gives_the_output_size(size: Pair, kernel: Pair, stride: Pair, dilation: Pair,
                                       pad: Four) -> None:  # fmt: skip
    if not fits(size, kernel, dilation, pad):
        return
    window = Window(kernel, stride, dilation)
    out = [out_length(size[i], kernel[i], stride[i], dilation[i], pad[i], pad[i + 2])
           for i in (0, 1)]  # fmt: skip
    oh, ow = (int(length) for length in out)

    found = padding(window, size, pad, (oh, ow))

    for i in (0, 1):
        span = dilation[i] * (kernel[i] - 1) + 1
        if found.same:
            assert -(-size[i] // stride[i]) == out[i]
        else:
            room = size[i] + found.explicit[i] + found.explicit[i + 2] - span
            assert room // stride[i] + 1 == out[i]
            assert found.explicit[i] == pad[i]
            assert found.explicit[i + 2] <= pad[i + 2]
    assert not found.same or found == Padding(same=True, explicit=(0, 0, 0, 0))


def test_evaluation_agrees_on_the_shape_in_ceil_mode() -> None:
    graph, feeds = one_op(MaxPool((3, 2), (2, 3), ceil_mode=True), random(1, 1, 8, 7))

    assert evaluate(graph, feeds)["y"].shape == graph.outputs[0].type.ints


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_that_counts_is_written_out(size: int, stride: int) -> None:
    """SAME would fit some of these, but its averages leave the padding out."""
    op = AveragePool((3, 3), (stride, stride), (1, 1, 1, 1), count_include_pad=True)
    x = random(1, 2, size, size)
    graph, _ = one_op(op, x)

    check(graph, x)
    assert Tflite().compile(graph).operators["PAD"] == 1
